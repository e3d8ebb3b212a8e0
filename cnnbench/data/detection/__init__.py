"""Lightning data modules of images with boxes: scenes of digits, COCO, VOC, and images to detect in."""
