"""What every data module of segmentation is: batches of images with masks, padded to one size."""

from cnnbench.data.base import Batch, ImageDataModule

IGNORED = 255
"""The label of pixels that count nowhere: those that nobody labelled, and what is not image."""


class SegmentationDataModule(ImageDataModule):
    """Images with a class for each pixel.

    A batch is a dict of tensors:

    - `image` (B, C, H, W): uint8 until on the device, then normalised float32; right and below padded, with 0 after
      normalisation, to the largest image of the batch;
    - `size` int64 (B, 2): height and width of what of that is image;
    - `mask` uint8 (B, H', W'): the class of each pixel, 255 where it does not count; in training of the images' own
      size, in evaluation of the original images', right and below padded with 255;
    - `original_size` int64 (B, 2): height and width of the original image; in training, `size`;
    - `index` int64 (B,): the image's place in its split's dataset.

    Order, augmentation and resuming are those of `ImageDataModule`: whatever belongs to an image in training follows
    from (seed, epoch, index). Masks are never interpolated.
    """

    def file_name(self, split: str, index: int) -> str:
        """Return what an image's file is called in the folder of its split; where images are not files, the index."""
        return f"{int(index):06d}"

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise, and leave the padding at 0."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        height, width = batch["image"].shape[-2:]
        for image, (own_height, own_width) in zip(batch["image"], batch["size"].tolist(), strict=True):
            if own_height < height or own_width < width:
                image[:, own_height:] = 0
                image[:, :, own_width:] = 0
        return batch
