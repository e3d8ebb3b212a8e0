"""What every data module of detection is: batches of images with boxes, padded to one size."""

from abc import abstractmethod

from torch import Tensor

from cnnbench.data.base import Batch, ImageDataModule


class DetectionDataModule(ImageDataModule):
    """Images with any number of objects, each with a box and a class.

    A batch is a dict of tensors, M being the most objects that an image of it has:

    - `image` (B, C, H, W): uint8 until on the device, then normalised float32; right and below padded, with 0 after
      normalisation, to the largest image of the batch and on to a multiple of 32, the canvas;
    - `size` int64 (B, 2): height and width of what of the canvas is image; `mask` bool (B, H, W): True there;
    - `boxes` float32 (B, M, 4): x1, y1, x2, y2 in pixels of the canvas;
    - `label` int64 (B, M): from 0, -1 where there is no object;
    - `crowd` and `difficult` bool (B, M): not to be trained on; in evaluation what is found in a crowd is ignored, and
      of a difficult object what overlaps it enough to be it;
    - `area` float32 (B, M), in pixels of the original image;
    - `object_masks` bool (B, M, H, W), of data that has them and was asked for them: what is visible of each object;
    - `scale` float32 (B, 2): pixels of the canvas to one of the original image, down and across;
    - `original_size` int64 (B, 2): height and width of the original image; of a training image, what augmentation
      made of it counts as the original;
    - `index` int64 (B,): the image's place in its split's dataset.

    `cnnbench.data.detection.samples` has what a detector is trained on (`targets_of`), what its detections are judged
    by (`truth_of`), and takes these back to the original images (`in_original_pixels`).

    Order, augmentation and resuming are those of `ImageDataModule`: whatever belongs to an image in training follows
    from (seed, epoch, index).
    """

    @property
    def category_ids(self) -> list[int]:
        """What each label is called in COCO's format."""
        return list(range(1, self.num_classes + 1))

    @abstractmethod
    def image_ids(self, split: str) -> list[int | str]:
        """Return what each image of a split is called in COCO's format, in the order of the dataset."""

    def file_name(self, split: str, index: int) -> str:
        """Return what an image's file is called in COCO's format; where images are not files, the index as text."""
        return self.index_name(split, index)

    @abstractmethod
    def box_sizes(self) -> Tensor:
        """Return width and height of training objects in pixels of the canvas, float32 (N, 2), to cluster anchors from.

        They are those of images that are not varied, once the module is set up to fit.
        """

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise, and leave the padding at 0."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return batch | {"image": batch["image"].masked_fill_(~batch["mask"][:, None], 0)}
