"""Every notebook runs from a clean kernel, in silence, and shows what its text says.

`jupyter execute --inplace notebooks/*.ipynb` writes new outputs into the notebooks.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def executed(path: Path) -> tuple[dict[str, str], list[Path]]:
    """Return what a notebook prints, by stream, and what it leaves in the folder that it runs in."""
    notebook = nbformat.read(path, as_version=4)
    # With no kernels to find, "python3" stands for ipykernel under the running interpreter.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), kernel_name="python3")
    with TemporaryDirectory() as folder:
        client = NotebookClient(notebook, km=kernel, timeout=600, resources={"metadata": {"path": folder}})
        client.execute(cleanup_kc=True)  # which it would leave to whoever made the kernel
        left = list(Path(folder).iterdir())
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = {
        stream: "".join(output.text for output in outputs if output.get("name") == stream)
        for stream in ("stdout", "stderr")
    }
    return printed, left


def quickstart(text: str) -> None:
    """Two networks learn; logits in float64 are equal after weights went either way, as are the losses of two runs."""
    accuracy = dict(re.findall(r"^(\w+) .* test accuracy ([\d.]+)$", text, re.MULTILINE))
    assert list(accuracy) == ["lenet5", "resnet18"]
    assert min(map(float, accuracy.values())) >= 0.96
    differences = [float(value) for value in re.findall(r"largest difference of the logits (\S+)", text)]
    assert len(differences) == 3
    assert max(differences) <= 1e-10
    assert len(re.findall(r"values of each run, all equal", text)) == 2


CLAIMS = {"quickstart": quickstart}  # what the text of a notebook says of its results


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_silence_and_keeps_its_word(path):
    """One test a notebook: executing it takes long."""
    printed, left = executed(path)
    assert not left
    assert printed["stderr"] == ""
    CLAIMS[path.stem](printed["stdout"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_as_it_should_be_read(path):
    """A reader who runs nothing sees results, and what the file keeps of its run is only these."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in cells)
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    assert path.stat().st_size < 200_000
