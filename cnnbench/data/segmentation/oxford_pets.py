"""The Oxford-IIIT Pet set: cats and dogs, their outlines and what is around them."""

from collections.abc import Mapping

from torchvision.datasets import OxfordIIITPet

from cnnbench.data import checks
from cnnbench.data.segmentation.augment import SegmentationAugmentation
from cnnbench.data.segmentation.files import VARIED, MaskFilesDataModule, Pairs
from cnnbench.errors import UserError

_SETS = {"train": "trainval", "val": "trainval", "test": "test"}


class OxfordPetsDataModule(MaskFilesDataModule):
    """`root/oxford-iiit-pet/{images,annotations}`: 3,680 images to train and validate on, 3,669 to test.

    From O. Parkhi, A. Vedaldi, A. Zisserman, C. Jawahar, "Cats and Dogs", 2012,
    https://www.robots.ox.ac.uk/~vgg/data/pets. The classes are those of its trimaps: pet, background, and the border
    between them, a few pixels wide.

    Args:
        root: Folder of the data.
        download: Whether torchvision downloads the set where it is not there, and verifies its checksums.
        val_fraction: Part of the training images to validate on, always the same.
        predict_root: Images to predict, any below this folder; None: those of the test set.
        batch_size: Images a process and step.
        image_size: Height and width of the part of a training image that is taken.
        resize: Pixels that the shorter side is brought to before all else, in evaluation too; None: as it is.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a flip, and half to twice the size.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
    """

    class_names = ("pet", "background", "border")

    def __init__(
        self,
        root: str = "data/pets",
        download: bool = False,
        val_fraction: float = 0.1,
        predict_root: str | None = None,
        batch_size: int = 16,
        image_size: int = 256,
        resize: int | None = 256,
        num_workers: int | None = None,
        in_chans: int = 3,
        augmentation: SegmentationAugmentation = VARIED,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        decoder: str = "auto",
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, resize, num_workers, in_chans, augmentation, mean, std),
            *(decoder, on_error),
        )
        checks.probability("val_fraction", val_fraction)
        self.download = download
        self.val_fraction = val_fraction

    @property
    def class_of_id(self) -> Mapping[int, int]:
        """The trimaps count from 1."""
        return {label + 1: label for label in range(3)}

    def prepare_data(self) -> None:
        """Download the set, if that is asked for and it is not there."""
        if self.download and not (self.root / "oxford-iiit-pet/annotations").is_dir():
            print(f"downloading the Oxford-IIIT Pet set to {self.root}", flush=True)
            try:
                OxfordIIITPet(self.root, download=True)
            except (OSError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"the Oxford-IIIT Pet set cannot be downloaded: {reason}") from error

    def read(self, split: str) -> Pairs:
        """Read the list of the split's images."""
        folder = self.root / "oxford-iiit-pet"
        list_of_images = folder / f"annotations/{_SETS[split]}.txt"
        if not list_of_images.is_file():
            raise UserError(
                f"no {list_of_images}: set download to true, or root to the folder that has oxford-iiit-pet"
            )
        names = [line.split()[0] for line in list_of_images.read_text().splitlines() if line.strip()]
        images = [folder / f"images/{name}.jpg" for name in names]
        pairs = Pairs(images, [folder / f"annotations/trimaps/{name}.png" for name in names], folder / "images")
        return pairs if split == "test" else pairs.held_out(self.val_fraction)[split == "val"]
