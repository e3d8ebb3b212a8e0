"""Files of weights of detectors, named and written as torchvision published them in 2020."""

import re

import torch

from cnnbench.models.detection import detector_info


def write_published(torch_home, name, state):
    """Write a detector's weights where they are after their download, below TORCH_HOME; return the file."""
    file = torch_home / "hub/checkpoints" / detector_info(name).published.url.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(as_of_2020(state), file)
    return file


def as_of_2020(state):
    """The names of the published files, which torchvision itself still reads."""
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", key)
        key = re.sub(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", key)
        key = re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda found: f"{found[1]}.{2 * int(found[2])}.", key)
        if not key.endswith("num_batches_tracked"):
            renamed[key] = value
    return renamed
