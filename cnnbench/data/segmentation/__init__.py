"""Data modules of segmentation: images with a class for each pixel."""
