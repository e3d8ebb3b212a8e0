"""What a user can set about a comparison.

Messages write a setting as `image_size` or `image_size=32`; the command line makes of these its options.
"""

from dataclasses import dataclass, field

import torch

from cnnbench.errors import UserError, did_you_mean

CHECKS = ("parity", "cost", "speed", "memory", "training")
USUAL_CHECKS = CHECKS[:-1]
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true")


@dataclass(frozen=True)
class Settings:
    """How two networks are compared; parity is always checked in float64.

    Attributes:
        checks: Which of `CHECKS`.
        device: Where speed, memory and training are measured: "cpu", "cuda", "cuda:1", "mps".
        precision: Theirs too, by Lightning's names.
        channels_last: Keep weights and images in channels-last memory format.
        compile: Compile both networks with `torch.compile`.
        served: Time each side at its best, too.
        batch_size: Images at a time for speed and memory.
        image_size: Height and width; None: the network's own, for parity at most 128 pixels where it takes any.
        num_classes: Of both; None: what each has by itself.
        seed: Of weights, images and the order of timing.
        threads: Of torch on a CPU; None: as torch has them.
        seconds: To time forward for, and the train step as long again. A network that cannot be timed 7 times in
            that gets fewer images at a time, and where even the fewest take over three times that, smaller ones.
        config: Recipe of the training duel.
        seeds: Number of training duels, with the seeds `seed`, `seed` + 1, ...
        steps: Optimiser steps of a duel; None: as the recipe says.

    Raises:
        UserError: A value is out of its range, or the device is not there.
    """

    checks: tuple[str, ...] = field(default=USUAL_CHECKS)
    device: str = "cpu"
    precision: str = "32-true"
    channels_last: bool = False
    compile: bool = False
    served: bool = False
    batch_size: int = 8
    image_size: int | None = None
    num_classes: int | None = None
    seed: int = 0
    threads: int | None = None
    seconds: float = 3.0
    config: str | None = None
    seeds: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        for check in self.checks:
            if check not in CHECKS:
                raise UserError(f"unknown check {check!r}{did_you_mean(check, CHECKS)}")
        if not self.checks:
            raise UserError(f"name at least one check: {', '.join(CHECKS)}")
        if self.precision not in PRECISIONS:
            raise UserError(f"unknown precision {self.precision!r}{did_you_mean(self.precision, PRECISIONS)}")
        for name in ("batch_size", "image_size", "num_classes", "threads", "seeds", "steps"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise UserError(f"`{name}` is {value!r}, but must be a whole number")
            if value is not None and value < 1:
                raise UserError(f"`{name}` is {value}, but must be at least 1")
        if self.seconds <= 0:
            raise UserError(f"`seconds` is {self.seconds:g}, but must be above 0")
        _check_device(self.device)
        if "training" in self.checks and self.config is None:
            raise UserError("the training check needs a recipe: `config=configs/resnet18.yaml`")


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"there is no device {name!r}: it is cpu, cuda, cuda:N or mps") from error
    if device.type == "cpu":
        return
    backend = getattr(torch, device.type, None)
    if backend is None or not backend.is_available():
        raise UserError(f"there is no device {name!r} here: this torch finds no {device.type}")
    if device.index is not None and device.index >= backend.device_count():
        raise UserError(f"there is no device {name!r} here: the last is {device.type}:{backend.device_count() - 1}")
