"""COCO, and other sets in its format."""

from pathlib import Path

from torchvision.datasets import CocoDetection

from cnnbench.data.detection import coco_file
from cnnbench.data.detection.augment import DetectionAugmentation
from cnnbench.data.detection.files import FLIPPED, DetectionFilesDataModule, Split
from cnnbench.errors import UserError


class COCODataModule(DetectionFilesDataModule):
    """`root/train2017/*`, `root/val2017/*` and `root/annotations/instances_train2017.json`, `instances_val2017.json`.

    From T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", 2014, https://cocodataset.org; also for a set of
    one's own in this format. As the benchmark has it, training leaves out crowds, and images that show nothing else;
    evaluation is on all images, and what is found in a crowd does not count. Classes are the file's categories in the
    order of their ids.

    Args:
        root: Folder of the data.
        year: What follows `train`, `val` and `test` in the names of folders and files; for a set of one's own, "".
        predict_root: Images to predict, any below this folder; None: those of the test set, else of validation.
        batch_size: Images a process and step.
        image_size: Pixels of the shorter side; with `letterbox`, of the longer one.
        max_size: Most pixels of the longer side; None: 5/3 of `image_size`.
        letterbox: Bring the longer side to `image_size`, and pad to a square: all batches are of one shape.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a horizontal flip.
        empty_images: Train on images without objects, too.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        first_id: Number the classes by the categories' ids from this one on, those in the gaps without objects, as the
            published detectors do: 1 for Faster R-CNN's 90 classes, 0 for RetinaNet's 91. None: the categories alone,
            COCO's 80.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
    """

    def __init__(
        self,
        root: str = "data/coco",
        year: str = "2017",
        predict_root: str | None = None,
        batch_size: int = 2,
        image_size: int = 800,
        max_size: int | None = None,
        letterbox: bool = False,
        num_workers: int | None = None,
        in_chans: int = 3,
        augmentation: DetectionAugmentation = FLIPPED,
        empty_images: bool = False,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        decoder: str = "auto",
        first_id: int | None = None,
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, max_size, letterbox, num_workers, in_chans, augmentation),
            *(empty_images, mean, std, decoder, on_error),
        )
        self.year = year
        self.first_id = first_id
        self._categories: dict[int, str] | None = None
        self._parsed: dict[str, CocoDetection] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the categories; in a gap `unused ID`."""
        return tuple(self._known_categories().values())

    @property
    def category_ids(self) -> list[int]:
        """The ids of the categories, which in COCO itself have gaps."""
        return list(self._known_categories())

    @property
    def has_test(self) -> bool:
        """Whether there are annotations of test images; COCO publishes none."""
        return self._annotation_file("test").is_file()

    def read(self, split: str) -> Split:
        """Read `root/annotations/instances_<split><year>.json`."""
        file, folder = self._annotation_file(split), self._folder(split)
        categories = self._known_categories()
        parsed = self._parsed.pop(split, None) or coco_file.parsed(file, folder)
        if (own := self._categories_of(parsed, file)) != categories:
            raise UserError(f"{file} has other categories than the other sets: {_difference(own, categories)}")
        images = coco_file.images(parsed, file, folder)
        annotations, without_size = coco_file.annotations(parsed, file, images, list(categories))
        files = [folder / image["file_name"] for image in images]
        return Split(files, folder, parsed.ids, annotations, [*coco_file.unlisted(images, file, folder), *without_size])

    def _known_categories(self) -> dict[int, str]:
        if self._categories is None:
            splits = ("val", "test", "train")  # by size: of COCO, that of training takes half a minute
            split = next((split for split in splits if self._annotation_file(split).is_file()), "train")
            file = self._annotation_file(split)
            self._parsed[split] = coco_file.parsed(file, self._folder(split))
            self._categories = self._categories_of(self._parsed[split], file)
        return self._categories

    def _categories_of(self, parsed: CocoDetection, file: Path) -> dict[int, str]:
        named = coco_file.categories(parsed, file)
        if self.first_id is None:
            return named
        if min(named) < self.first_id:
            raise UserError(f"{file} has a category of id {min(named)}, before first_id, {self.first_id}")
        return {id: named.get(id, f"unused {id}") for id in range(self.first_id, max(named) + 1)}

    def _annotation_file(self, split: str) -> Path:
        return self.root / "annotations" / f"instances_{split}{self.year}.json"

    def _folder(self, split: str) -> Path:
        return self.root / f"{split}{self.year}"


def _difference(own: dict[int, str], others: dict[int, str]) -> str:
    differing = [id for id in sorted(own.keys() | others.keys()) if own.get(id) != others.get(id)]
    return f"{differing[0]} is {own.get(differing[0])!r} there, {others.get(differing[0])!r} elsewhere"
