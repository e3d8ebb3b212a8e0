"""An image with its mask, and a batch of images of unequal size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchvision import tv_tensors

from cnnbench.data.base import Batch
from cnnbench.data.segmentation.base import IGNORED

Item = dict[str, Tensor]
"""`image` a tv_tensors.Image (C, H, W), and `masks` a tv_tensors.Mask (M, H, W), the classes first: what torchvision's
transforms vary."""


@dataclass(frozen=True)
class Sample:
    """An image with its mask.

    Attributes:
        image: uint8 (C, H, W).
        mask: uint8 (H', W'), the class of each pixel.
        index: The image's place in its dataset.
        key: Of its augmentation; None in evaluation.
        others: Further tensors of the sample, by their names in the batch, with the value that pads them.
    """

    image: Tensor
    mask: Tensor
    index: int
    key: int | None = None
    others: Mapping[str, tuple[Tensor, int]] = field(default_factory=dict)


def item_of(image: Tensor, *masks: Tensor) -> Item:
    """Return an image (C, H, W) and masks (H, W) of its size, as torchvision's transforms take them."""
    return {"image": tv_tensors.Image(image), "masks": tv_tensors.Mask(torch.stack(masks))}


def parts_of(item: Item) -> tuple[Tensor, Tensor]:
    """Return an item's image (C, H, W) and masks (M, H, W) as plain tensors."""
    return item["image"].as_subclass(Tensor), item["masks"].as_subclass(Tensor)


def collate(samples: Sequence[Sample]) -> Batch:
    """Return samples as a batch, as `SegmentationDataModule` describes it, the images uint8 and black where padded."""
    batch = {
        "image": padded([sample.image for sample in samples], 0),
        "mask": padded([sample.mask for sample in samples], IGNORED),
        "size": torch.tensor([sample.image.shape[-2:] for sample in samples]),
        "original_size": torch.tensor([sample.mask.shape[-2:] for sample in samples]),
        "index": torch.tensor([sample.index for sample in samples]),
    }
    for name, (_, value) in samples[0].others.items():
        batch[name] = padded([sample.others[name][0] for sample in samples], value)
    if samples[0].key is not None:
        batch["key"] = torch.tensor([sample.key for sample in samples])
    return batch


def padded(tensors: Sequence[Tensor], value: int) -> Tensor:
    """Return tensors of one rank as a batch, each continued by a value to the largest of every axis."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) == 1:
        return torch.stack(list(tensors))
    largest = tuple(map(max, zip(*shapes, strict=True)))
    batch = tensors[0].new_full((len(tensors), *largest), value)
    for own, tensor in zip(batch, tensors, strict=True):
        own[tuple(map(slice, tensor.shape))] = tensor
    return batch
