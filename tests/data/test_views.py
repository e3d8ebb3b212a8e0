"""From a file to a square of pixels: evaluation against timm's transforms, random crops against torchvision's."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import RandomResizedCrop

from cnnbench.data import FolderAugmentation
from cnnbench.data.decoders import installed
from cnnbench.data.views import EvalView, TrainView, random_crop

PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"  # of 640x427, one more detailed than the other


def distance_to_timm(path, interpolation):
    """What evaluation at 32 pixels differs by from timm's, pixel by pixel."""
    ours = EvalView(32, 3, interpolation, 0.875, installed("auto"))(path)
    theirs = create_transform((3, 32, 32), interpolation=interpolation, crop_pct=0.875, normalize=False)
    return (ours.int() - theirs(Image.open(path).convert("RGB")).int()).abs().float()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_at_full_size_evaluation_is_timms_within_a_level(tmp_path, write_photo, interpolation):
    write_photo(tmp_path / "0.jpg", 94, 70, quality=92)
    distance = distance_to_timm(tmp_path / "0.jpg", interpolation)
    assert distance.max() <= 1
    assert distance.mean() < 0.5


@pytest.mark.parametrize(("interpolation", "mean"), [("bilinear", 6), ("bicubic", 6), ("nearest", 19)])
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_a_photograph_decoded_at_an_eighth_is_evaluated_near_timms(name, interpolation, mean):
    assert 1 < distance_to_timm(PHOTOGRAPHS / name, interpolation).mean() < mean


def test_pictures_turn_either_way_by_up_to_the_rotation(tmp_path):
    """A white bar on black: its direction by second moments; corners of the mean colour."""
    bar = np.zeros((65, 65, 3), np.uint8)
    bar[30:35, 12:53] = 255
    Image.fromarray(bar).save(tmp_path / "bar.png")
    whole = FolderAugmentation(scale=(1, 1), ratio=(1, 1), hflip=0, rotation=30)
    view = TrainView(65, 3, "bilinear", whole, mean=(0.2, 0.4, 0.6), std=(0.2,) * 3)
    angles = []
    for key in range(100):
        pixels = view(tmp_path / "bar.png", key)
        y, x = (pixels[0] > 128).nonzero().T.double() - 32
        angles.append(-math.degrees(math.atan2(2 * (x * y).sum(), (x * x - y * y).sum()) / 2))
        if abs(angles[-1]) > 5:
            assert pixels[:, 0, 0].tolist() == [51, 102, 153]
    angles = np.array(angles)
    assert 25 < np.abs(angles).max() < 31
    assert np.quantile(angles, [0.25, 0.75]) == pytest.approx([-15, 15], abs=6)


def test_random_crops_are_distributed_as_torchvisions():
    rng, scale, ratio = random.Random(0), (0.08, 1.0), (3 / 4, 4 / 3)
    torch.manual_seed(0)
    picture = torch.empty(3, 300, 400)
    ours, theirs = np.empty((2, 4000, 4))
    for i in range(4000):
        left, top, right, bottom = random_crop(400, 300, scale, ratio, rng)
        ours[i] = top, left, bottom - top, right - left
        theirs[i] = RandomResizedCrop.get_params(picture, scale, ratio)
    for quantile in (0.1, 0.5, 0.9):
        assert np.abs(np.quantile(ours, quantile, 0) - np.quantile(theirs, quantile, 0)).max() < 12
    wide = [random_crop(1000, 10, (1.0, 1.0), ratio, rng) for _ in range(20)]  # no such crop fits
    assert set(wide) == {(493, 0, 506, 10)}
