"""A network with its images, ready to be run for timing or for memory, and what to do when memory is not enough."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side, tensors_of
from cnnbench.errors import UserError, first_line

T = TypeVar("T")
WEIGHTS = {  # Lightning's name of a precision -> type of weights and images
    "32-true": torch.float32,
    "bf16-mixed": torch.float32,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float32,
    "16-true": torch.float16,
    "64-true": torch.float64,
}
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
ALLOCATORS_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
_log = logging.getLogger(__name__)


class NotEnoughMemoryError(UserError):
    """A network does not run with so many images at a time."""


class Workload:
    """A network on its device, in its precision and memory format, with images.

    Args:
        label: What the network is called.
        network: Moved, not copied.
        images: (B, C, H, W).
        settings: Of which device, precision, channels_last and compile count.
    """

    def __init__(self, label: str, network: nn.Module, images: Tensor, settings: Settings) -> None:
        self.label, self.device = label, torch.device(settings.device)
        self.autocast = AUTOCAST.get(settings.precision)
        self._target = {"device": self.device, "dtype": WEIGHTS[settings.precision]}
        self._layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        with running(label, images):
            self.network = network.to(**self._target)
            if settings.channels_last:
                self.network = self.network.to(memory_format=torch.channels_last)
            self.images = self.prepared(images)
        if settings.compile:
            self.network.compile()
        self.weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # Without a step size weights stay what they are, however often they are updated; the arithmetic is the same.
        self.optimizer = torch.optim.SGD(self.weights, lr=0.0, momentum=0.9) if self.weights else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "16-mixed")

    def prepared(self, images: Tensor) -> Tensor:
        """Return images on the device, in the precision and the memory format."""
        return images.to(**self._target).contiguous(memory_format=self._layout)

    def forward(self) -> list[Tensor]:
        """Run the network without gradients, and return the tensors that it returns; the mode is the caller's."""
        with torch.inference_mode(), self._casting():
            return tensors_of(self.network(self.images))

    def train_step(self) -> None:
        """Run forward, backward from the mean magnitude of every output, and the update of SGD with momentum."""
        with self._casting():
            outputs = [output for output in tensors_of(self.network(self.images)) if output.requires_grad]
            if not outputs:
                raise UserError(f"{self.label} returns no tensor that depends on what it learns")
            loss = sum(output.abs().mean() for output in outputs)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def ready(self, kind: str) -> Callable[[], object]:
        """Set the mode for "forward" or "train_step", and return that method."""
        self.network.train(kind == "train_step")
        return getattr(self, kind)

    def try_once(self, kind: str) -> None:
        """Run "forward" or "train_step" once, and wait for it.

        Raises:
            NotEnoughMemoryError: Memory is not enough.
            UserError: The network raises, or returns no tensor.
        """
        with running(self.label, self.images):
            outputs = self.ready(kind)()
            synchronise(self.device)
        if kind == "forward" and not outputs:
            raise UserError(f"{self.label} returns no tensor")

    def _casting(self) -> AbstractContextManager:
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)


def random_images(size: tuple[int, int, int], settings: Settings) -> Tensor:
    """Return `batch_size` seeded images of `size`, from a normal distribution."""
    generator = torch.Generator().manual_seed(settings.seed)
    return torch.randn(settings.batch_size, *size, generator=generator)


def build_seeded(side: Side, settings: Settings) -> nn.Module:
    """Build a side from the settings' seed; torch's own random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return side.build()


def synchronise(device: torch.device) -> None:
    """Wait until an accelerator has done its work."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let torch use so many threads for a while; None: as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def running(label: str, images: Tensor) -> Iterator[None]:
    """Tell what a network raises: a lack of memory, or else the user's mistake."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's forward raises
        if out_of_memory(error):
            raise not_enough_memory(label, len(images)) from error
        shape = "x".join(map(str, images.shape))
        message = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{label} cannot be run on {shape} images: {message}") from error


def not_enough_memory(label: str, batch_size: int) -> NotEnoughMemoryError:
    """Return the error that tells it."""
    return NotEnoughMemoryError(f"there is not enough memory to run {label} on {batch_size} images at a time")


def out_of_memory(error: BaseException) -> bool:
    """Return whether an allocator gave up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATORS_WORDS)


def with_enough_memory(batch_size: int, measure: Callable[[int], T]) -> tuple[T, int]:
    """Measure with half as many images at a time until memory is enough.

    Args:
        batch_size: Images at a time to begin with.
        measure: Takes the images at a time.

    Returns:
        What was measured, and the images at a time.

    Raises:
        NotEnoughMemoryError: A single image is too many.
    """
    while True:
        try:
            return measure(batch_size), batch_size
        except NotEnoughMemoryError as error:
            if batch_size == 1:
                raise
            batch_size //= 2
            _log.warning("%s: trying %d", error, batch_size)
        gc.collect()  # outside of `except`: the error holds on to what fills the memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
