"""Scenes of digits: boxes around what is seen, the nearer before the farther, the same everywhere."""

import hashlib

import pytest
import torch
from torchvision.ops import masks_to_boxes

from cnnbench.data import DigitsDataModule
from cnnbench.data.draws import sample_keys
from cnnbench.data.scenes import SceneGenerator
from cnnbench.errors import UserError

KEYS = sample_keys(0, 0, torch.arange(50))


@pytest.fixture(scope="module")
def digits():
    data = DigitsDataModule(image_size=8)
    data.setup("fit")
    return data.datasets["train"].images[:, 0], data.datasets["train"].labels


@pytest.fixture(scope="module")
def scenes(digits):
    return SceneGenerator(*digits)(KEYS)


def test_boxes_are_tight_around_what_is_visible(scenes):
    for scene in scenes:
        inclusive = masks_to_boxes(scene.masks) if len(scene.labels) else torch.zeros(0, 4)
        assert torch.equal(scene.boxes, inclusive + torch.tensor([0, 0, 1, 1]))
        assert torch.equal(scene.masks.sum(0), (scene.instances > 0).long())  # no pixel belongs to two


def test_scenes_have_none_to_many_objects_of_varying_size_that_overlap(scenes):
    counts = [len(scene.labels) for scene in scenes]
    assert min(counts) == 0
    assert max(counts) >= 5
    boxes = torch.cat([scene.boxes for scene in scenes])
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights.min() < 20 < 40 < heights.max() <= 60
    crossing = [(a[:2] < b[2:]).all() and (b[:2] < a[2:]).all() for s in scenes for a in s.boxes for b in s.boxes]
    assert sum(crossing) > len(boxes)  # others than each with itself
    assert torch.cat([scene.labels for scene in scenes]).unique().tolist() == list(range(10))


def test_what_is_in_front_covers_what_is_behind():
    """Of two solid squares the first is whole, and the second is what the first leaves, as seen and as told."""
    solid = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    make = SceneGenerator(solid, torch.tensor([7]), size=64, objects=(2, 2), object_size=(24, 32), max_overlap=1.0)
    pairs = [scene for scene in make(KEYS) if len(scene.labels) == 2]
    hidden = 0
    for scene in pairs:
        front, behind = scene.masks
        x1, y1, x2, y2 = scene.boxes[0].int().tolist()
        rows, columns = slice(y1 + 4, y2 - 4), slice(x1 + 4, x2 - 4)  # the corners of an outline are round
        assert front[rows, columns].all()
        assert not behind[rows, columns].any()
        colours = scene.image[:, rows, columns].flatten(1)
        assert (colours == colours[:, :1]).all()
        (left, top), (right, bottom) = scene.boxes[1].view(2, 2).tolist()
        hidden += behind.sum() < 0.8 * (right - left) * (bottom - top)
        assert (scene.image[:, behind].mode(1).values != colours[:, 0]).any()
    assert len(pairs) > 30
    assert hidden > 5


def test_a_scene_belongs_to_its_key_alone(digits, scenes):
    make = SceneGenerator(*digits)
    torch.manual_seed(9)
    (alone,) = make(KEYS[7:8])
    assert torch.equal(alone.image, scenes[7].image)
    assert torch.equal(alone.instances, scenes[7].instances)
    assert torch.equal(alone.boxes, scenes[7].boxes)
    assert len({bytes(scene.image.numpy()) for scene in scenes}) == len(scenes)


def test_scenes_are_the_same_on_every_machine(scenes):
    found = hashlib.sha256()
    for scene in scenes:
        for part in (scene.image, scene.boxes, scene.labels, scene.instances):
            found.update(part.contiguous().numpy().tobytes())
    assert found.hexdigest() == "a07098acca12c757adb8d7ad821e2a02acb4bd12ad2372563043c45b371830be"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"objects": (3, 1)}, "objects is [3, 1]: it must be [fewest, most]"),
        ({"objects": (0, 300)}, "between 0 and 255"),
        ({"object_size": (16, 100)}, "object_size is [16, 100]: a scene has 96 pixels a side"),
        ({"object_size": (4, 20)}, "digits of 8 pixels are only enlarged"),
        ({"object_size": (40, 20)}, "it must be [smallest, largest]"),
        ({"max_overlap": 1.5}, "max_overlap is 1.5"),
    ],
)
def test_wrong_settings_are_named(digits, options, named):
    with pytest.raises(UserError) as error:
        SceneGenerator(*digits, **options)
    assert named in str(error.value)
