"""Figures of architectures as papers and tutorials state them, rounded as they do, to be held against measured ones."""

from cnnbench.compare.result import Published

TOLERANCE = 0.02  # relative; what rounding to two digits rarely exceeds

# Of the papers, or of the lists of weights that their authors keep, where nothing else is said.
PUBLISHED = {
    # Tutorials' table of architectures.
    "lenet5": Published(None, 60e3),
    "alexnet": Published(56.5, 61e6, 724e6),
    "vgg16": Published(71.6, 138e6, 15.5e9),
    "googlenet": Published(68.7, 6.8e6, 1.5e9),
    "resnet50": Published(75.3, 25e6, 4.1e9),
    "densenet121": Published(74.4, 8e6, 2.9e9),
    "mobilenetv2_100": Published(71.8, 3.4e6, 300e6),
    "efficientnet_b0": Published(77.1, 5.3e6, 390e6),
    "convnext_tiny": Published(82.1, 28e6, 4.5e9),
    "vit_base_patch16_224": Published(81.8, 86e6, 17.6e9),
    # Krizhevsky et al., 2012, of one network of two columns.
    "alexnet_lrn": Published(59.3, 60e6),
    # Simonyan & Zisserman, 2014, table 2; multiply-adds: He et al., 2015.
    "vgg11": Published(None, 133e6),
    "vgg13": Published(None, 133e6),
    "vgg19": Published(None, 144e6, 19.6e9),
    # Szegedy et al., 2015, abstract and table 3.
    "inception_v3": Published(78.8, None, 5e9),
    # He et al., 2015, table 1, with the stride on the first convolution of a bottleneck; accuracy of one crop.
    "plainnet18": Published(None, None, 1.8e9),
    "plainnet34": Published(None, None, 3.6e9),
    "resnet18": Published(None, None, 1.8e9),
    "resnet34": Published(None, None, 3.6e9),
    "resnet101": Published(76.4, None, 7.6e9),
    "resnet152": Published(77.0, None, 11.3e9),
    # Xie et al., 2016.
    "resnext50_32x4d": Published(77.8, 25.0e6, 4.2e9),
    "resnext101_32x4d": Published(78.8, 44e6, 7.8e9),
    # Hu et al., 2017.
    "seresnet50": Published(77.63, None, 3.87e9),
    "seresnet101": Published(78.25, None, 7.60e9),
    "seresnext50_32x4d": Published(79.03, None, 4.25e9),
    # Huang et al., 2016.
    "densenet161": Published(77.8),
    "densenet169": Published(76.4),
    "densenet201": Published(77.5),
    # Howard et al., 2017, table 8, and Sandler et al., 2018.
    "mobilenetv1_100": Published(70.6, 4.2e6, 569e6),
    "mobilenetv2_050": Published(65.4, 1.95e6, 97e6),
    "mobilenetv2_140": Published(75.0, 6.06e6, 582e6),
    # Tan & Le, 2019, table 2; B2 to B5 at larger images than those of timm's configurations.
    "efficientnet_b1": Published(79.1, 7.8e6, 0.70e9),
    "efficientnet_b2": Published(80.1, 9.2e6, 1.0e9),
    "efficientnet_b3": Published(81.6, 12e6, 1.8e9),
    "efficientnet_b4": Published(82.9, 19e6, 4.2e9),
    "efficientnet_b5": Published(83.6, 30e6, 9.9e9),
    "efficientnet_b6": Published(84.0, 43e6, 19e9),
    "efficientnet_b7": Published(84.3, 66e6, 37e9),
    # Radosavovic et al., 2020.
    "regnetx_002": Published(68.9, 2.7e6, 0.2e9),
    "regnetx_004": Published(72.7, 5.2e6, 0.4e9),
    "regnetx_008": Published(75.2, 7.3e6, 0.8e9),
    "regnetx_016": Published(77.0, 9.2e6, 1.6e9),
    "regnetx_032": Published(78.3, 15.3e6, 3.2e9),
    "regnety_002": Published(70.4, 3.2e6, 0.2e9),
    "regnety_004": Published(74.1, 4.3e6, 0.4e9),
    "regnety_008": Published(76.3, 6.3e6, 0.8e9),
    "regnety_016": Published(78.0, 11.2e6, 1.6e9),
    "regnety_032": Published(79.0, 19.4e6, 3.2e9),
    # Dosovitskiy et al., 2020, table 1; the small ones: Touvron et al., 2020, of the same networks.
    "vit_tiny_patch16_224": Published(72.2, 5e6),
    "vit_small_patch16_224": Published(79.9, 22e6),
    "vit_large_patch16_224": Published(None, 307e6),
    # Liu et al., 2022.
    "convnext_small": Published(83.1, 50e6, 8.7e9),
    "convnext_base": Published(83.8, 89e6, 15.4e9),
    "convnext_large": Published(84.3, 198e6, 34.4e9),
}


def differs(published: float | None, measured: float | None) -> bool | None:
    """Tell whether a published figure differs from the measured one by over 2 %; None where either is unknown."""
    if published is None or measured is None:
        return None
    return abs(published - measured) > TOLERANCE * measured
