"""Average precision against figures computed by hand."""

import pytest
import torch

from cnnbench.tasks.average_precision import AveragePrecision

NAMES = ("cat", "dog", "owl")


def found(*rows):
    """Detections of (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].long()}


def there(*rows, area=None, crowd=None, difficult=None):
    """Objects of (x1, y1, x2, y2, label)."""
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    sides = table[:, 2:4] - table[:, :2]
    return {
        "boxes": table[:, :4],
        "labels": table[:, 4].long(),
        "area": sides.prod(1) if area is None else torch.tensor(area),
        "iscrowd": torch.zeros(len(table), dtype=torch.long) if crowd is None else torch.tensor(crowd),
        "difficult": torch.tensor(difficult or [False] * len(table), dtype=torch.bool),
    }


def figures(*images):
    precision = AveragePrecision()
    for index, (detections, truth) in enumerate(images):
        precision.update([index], [detections], [truth])
    return precision.compute(NAMES)


BOX = (10, 10, 50, 50)

# What is found, what is there, and the mean average precision over IoU 0.50, 0.55, ... 0.95.
CASES = {
    "found exactly": ([(found((*BOX, 0.9, 0)), there((*BOX, 0)))], 1.0),
    "as another class": ([(found((*BOX, 0.9, 1)), there((*BOX, 0)))], 0.0),
    "nothing found": ([(found(), there((*BOX, 0)))], 0.0),
    # 31/40 of the box and nothing else: IoU 0.775, enough for 0.50 to 0.75, which are 6 of 10
    "three quarters of it": ([(found((10, 10, 50, 41, 0.9, 0)), there((*BOX, 0)))], 0.6),
    # precision 1 up to recall 0.5: 51 of the 101 points of recall
    "one of two": ([(found((*BOX, 0.9, 0)), there((*BOX, 0), (60, 60, 90, 90, 0)))], 51 / 101),
    # the second detection brings recall 1 at a precision of 1/2
    "after a false one": ([(found((60, 60, 90, 90, 0.9, 0), (*BOX, 0.8, 0)), there((*BOX, 0)))], 0.5),
    "before a false one": ([(found((*BOX, 0.9, 0), (60, 60, 90, 90, 0.8, 0)), there((*BOX, 0)))], 1.0),
    "twice": ([(found((*BOX, 0.9, 0), (*BOX, 0.8, 0)), there((*BOX, 0)))], 1.0),
    # the false one is in an image without objects, with the highest score
    "in an empty image": ([(found((*BOX, 0.8, 0)), there((*BOX, 0))), (found((*BOX, 0.9, 0)), there())], 0.5),
    # a detection in a crowd is neither right nor wrong
    "within a crowd": (
        [(found((*BOX, 0.8, 0), (60, 60, 70, 70, 0.9, 0)), there((*BOX, 0), (55, 55, 99, 99, 0), crowd=[0, 1]))],
        1.0,
    ),
    "a mean of classes": ([(found((*BOX, 0.9, 0)), there((*BOX, 0), (60, 60, 90, 90, 2)))], 0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_mean_average_precision(name):
    images, expected = CASES[name]
    assert figures(*images)["map"] == pytest.approx(expected, abs=1e-6)


HARD = there((60, 60, 100, 100, 0), (*BOX, 0), difficult=[True, False])

# What is found beside a cat, where there is a difficult one, and average precision at IoU 0.5 and over 0.50 to 0.95.
DIFFICULT = {
    "not found": ([], 1.0, 1.0),
    "found": ([(60, 60, 100, 100, 0.9, 0)], 1.0, 1.0),
    "found three times": ([(60, 60, 100, 100 - n, 0.9, 0) for n in range(3)], 1.0, 1.0),
    # a tenth of it, wholly within: a false detection before the right one
    "within it": ([(60, 60, 100, 64, 0.9, 0)], 0.5, 0.5),
    "just too little": ([(60, 60, 100, 79.9, 0.9, 0)], 0.5, 0.5),
    # IoU 0.525 is enough for 0.50 alone
    "just enough": ([(60, 60, 100, 81, 0.9, 0)], 1.0, 0.55),
    "as another class": ([(60, 60, 100, 100, 0.9, 1)], 1.0, 1.0),
}


@pytest.mark.parametrize("name", DIFFICULT)
def test_what_is_found_of_a_difficult_object_is_ignored_and_no_more(name):
    extra, at_half, mean = DIFFICULT[name]
    result = figures((found(*extra, (*BOX, 0.8, 0)), HARD))
    assert (result["map_50"], result["map"]) == pytest.approx((at_half, mean), abs=1e-6)


def test_figures_by_threshold_class_and_size_and_none_where_nothing_is():
    """The cat is small by its area, not by its box; nothing is large, and there is no owl."""
    boxes = there((*BOX, 0), (60, 10, 100, 50, 1), area=[500.0, 1600.0])
    result = figures((found((10, 10, 50, 41, 0.9, 0), (60, 10, 100, 50, 0.8, 1), (*BOX, 0.3, 2)), boxes))
    assert result == pytest.approx(
        {
            **{"map": 0.8, "map_50": 1.0, "map_75": 1.0, "map_small": 0.6, "map_medium": 1.0},
            **{"map_per_class/cat": 0.6, "map_per_class/dog": 1.0},
        },
        abs=1e-6,
    )


def test_nothing_to_find_has_no_figures():
    assert figures((found((*BOX, 0.9, 0)), there())) == {}
    assert figures((found(), there((*BOX, 0), crowd=[1]))) == {}
    assert figures((found((*BOX, 0.9, 0)), there((*BOX, 0), difficult=[True]))) == {}
    assert AveragePrecision().compute(NAMES) == {}


def test_an_image_counts_once_and_the_order_of_batches_does_not_matter():
    first, second = (found((*BOX, 0.5, 0)), there((*BOX, 0))), (found((60, 60, 90, 90, 0.5, 0)), there((*BOX, 0)))
    precision = AveragePrecision()
    for index, (detections, truth) in ((1, second), (0, first), (1, second)):
        precision.update([index], [detections], [truth])
    assert precision.compute(NAMES) == figures(first, second)
    precision.reset()
    assert precision.compute(NAMES) == {}


def test_a_thousand_objects_and_as_many_detections():
    """COCO counts the hundred best detections of an image: recall ends at a tenth."""
    corners = torch.cartesian_prod(torch.arange(0, 400, 10.0), torch.arange(0, 250, 10.0))
    boxes = torch.cat([corners, corners + 8], dim=1)
    labels = torch.zeros(1000, dtype=torch.long)
    detections = {"boxes": boxes, "scores": torch.linspace(1, 0.1, 1000), "labels": labels}
    truth = {"boxes": boxes, "labels": labels, "area": torch.full((1000,), 64.0), "iscrowd": labels}
    assert figures((detections, truth))["map"] == pytest.approx(11 / 101, abs=1e-6)
