"""CIFAR-100: CIFAR-10's format with 100 classes."""

import torchvision

from cnnbench.data.downloaded import CIFAR10DataModule


class CIFAR100DataModule(CIFAR10DataModule):
    """50,000 + 10,000 photographs of 32x32 RGB pixels in 100 classes.

    From A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Arguments as in
    `CIFAR10DataModule`; the folder is `cifar-100-python`.
    """

    title = "CIFAR-100"
    folders = ("cifar-100-python", "")
    train_files = ("train",)
    test_files = ("test",)
    class_names = tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
        can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
        dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
        lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
        palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
        rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
        sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
        willow_tree wolf woman worm
        """.split()
    )
    own_mean = (0.5071, 0.4865, 0.4409)
    own_std = (0.2673, 0.2564, 0.2762)
    label_key = "fine_labels"
    source = torchvision.datasets.CIFAR100
