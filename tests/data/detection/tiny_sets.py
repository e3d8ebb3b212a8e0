"""Tiny sets of solid boxes, in the formats of COCO and VOC."""

import json
from xml.etree import ElementTree

from PIL import Image, ImageDraw

from cnnbench.data import COCODataModule

CATEGORIES = {1: "person", 3: "car", 18: "dog"}  # ids with gaps, as COCO's
COLOURS = {"person": (250, 40, 40), "car": (40, 250, 40), "dog": (40, 40, 250)}


def picture(path, width, height, objects):
    """Write an image of solid boxes (name, x1, y1, x2, y2) on grey."""
    image = Image.new("RGB", (width, height), (90, 90, 90))
    for name, x1, y1, x2, y2 in objects:
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95, subsampling=0)


# id, width, height, and objects (name, x1, y1, x2, y2, is crowd)
IMAGES = [
    (9, 60, 40, [("person", 5, 8, 25, 38, False), ("dog", 30, 10, 56, 30, False)]),
    (4, 40, 60, [("car", 4, 20, 30, 50, False)]),
    (7, 50, 50, []),
    (11, 48, 32, [("person", 2, 2, 46, 30, True)]),
    (20, 64, 64, [("dog", 8, 8, 40, 40, False), ("person", 0, 0, 64, 20, True)]),
    (5, 90, 30, [("car", 10, 5, 80, 28, False), ("person", 20, 2, 34, 28, False)]),
]


def coco_json(images):
    """Return what an annotation file says."""
    ids = {name: id for id, name in CATEGORIES.items()}
    annotations = [
        {
            "id": 100 * id + place,
            "image_id": id,
            "category_id": ids[name],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": 0.5 * (x2 - x1) * (y2 - y1),
            "iscrowd": int(crowd),
            "segmentation": [],
        }
        for id, _, _, objects in images
        for place, (name, x1, y1, x2, y2, crowd) in enumerate(objects)
    ]
    return {
        "images": [{"id": i, "file_name": f"{i:012}.jpg", "width": w, "height": h} for i, w, h, _ in images],
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in CATEGORIES.items()],
    }


def write_coco(root):
    """Write COCO 2017 of these images, for training and validation the same; return the root."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        for id, width, height, objects in IMAGES:
            picture(root / f"{split}2017/{id:012}.jpg", width, height, [one[:5] for one in objects])
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(coco_json(IMAGES)))
    return root


def voc_xml(name, width, height, objects):
    """Return an annotation, its boxes counted from 1 and inclusive."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(value)
    for label, x1, y1, x2, y2, difficult in objects:
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = label
        ElementTree.SubElement(one, "difficult").text = str(int(difficult))
        box = ElementTree.SubElement(one, "bndbox")
        for side, value in (("xmax", x2), ("xmin", x1 + 1), ("ymax", y2), ("ymin", y1 + 1)):
            ElementTree.SubElement(box, side).text = str(value)
    return ElementTree.tostring(root)


def ready(root, **options):
    """Return a COCO set that is set up to fit."""
    data = COCODataModule(str(root), **{"image_size": 64, "num_workers": 0, "batch_size": 2} | options)
    data.setup("fit")
    return data
