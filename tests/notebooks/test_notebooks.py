"""Every notebook runs from a clean kernel, in silence, and shows what its text says.

`jupyter execute --inplace notebooks/*.ipynb` writes new outputs into the notebooks.
"""

import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

pytestmark = pytest.mark.xdist_group("notebooks")  # in one process, which executes each once

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@cache
def executed(path: Path) -> tuple[list[nbformat.NotebookNode], list[Path]]:
    """Return all outputs of a notebook, and what it left in the folder that it ran in."""
    notebook = nbformat.read(path, as_version=4)
    # With no kernels to find, "python3" stands for ipykernel under the running interpreter.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), kernel_name="python3")
    with TemporaryDirectory() as folder:
        client = NotebookClient(notebook, km=kernel, timeout=600, resources={"metadata": {"path": folder}})
        client.execute(cleanup_kc=True)  # which it would leave to whoever made the kernel
        left = list(Path(folder).iterdir())
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return outputs, left


def printed(path: Path, stream: str) -> str:
    return "".join(output.text for output in executed(path)[0] if output.get("name") == stream)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_silence_and_leaves_nothing(path):
    _, left = executed(path)
    assert not left
    assert printed(path, "stderr") == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_as_it_should_be_read(path):
    """A reader who runs nothing sees results, and what the file keeps of its run is only these."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in cells)
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    assert path.stat().st_size < 200_000


def test_quickstart_accuracy():
    text = printed(NOTEBOOKS[0].with_name("quickstart.ipynb"), "stdout")
    accuracy = dict(re.findall(r"^(\w+) .* test accuracy ([\d.]+)$", text, re.MULTILINE))
    assert list(accuracy) == ["lenet5", "resnet18"]
    assert min(map(float, accuracy.values())) >= 0.97


def test_quickstart_equal_to_timm():
    """Logits in float64 after weights went either way, and the losses of two trainings."""
    text = printed(NOTEBOOKS[0].with_name("quickstart.ipynb"), "stdout")
    differences = [float(value) for value in re.findall(r"largest difference of the logits (\S+)", text)]
    assert len(differences) == 3
    assert max(differences) <= 1e-10
    assert len(re.findall(r"values of each run, all equal", text)) == 2
