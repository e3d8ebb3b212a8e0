"""A detector from published weights: trained, trained on, evaluated from its checkpoint, as it began."""

import pytest
import torch
from published_files import write_published

from cnnbench.compare.prepare import randomise
from cnnbench.models.detection import create_detector, registry
from cnnbench.models.detection.faster_rcnn import PAPER, PREDICTORS, FasterRCNN
from cnnbench.models.detection.published import Published
from cnnbench.models.detection.torchvision_detectors import TorchvisionFasterRCNN

NAME = "fasterrcnn_resnet18_fpn"
SMALL = {"anchor_sizes": [[8], [12], [16], [24], [32]], "representation_size": 16}
TINY = (
    *("--model.name", NAME, "--model.backbone", "resnet18", "--model.model_args", str(SMALL)),
    *("--data.image_size", 64, "--data.object_size", "[12, 24]", "--data.objects", "[1, 3]", "--data.batch_size", 4),
    *("--data.train_scenes", 8, "--data.val_scenes", 4, "--data.test_scenes", 4, "--trainer.log_every_n_steps", 1),
)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The file of weights of a detector that is as torchvision's are, but smaller."""
    monkeypatch.setattr(registry._detectors, "_infos", dict(registry._detectors._infos))
    registry.register_detector(
        registry.DetectorInfo(
            NAME,
            FasterRCNN,
            PAPER,
            backbone={"extra_levels": "pool"},
            predictors=PREDICTORS,
            reference=TorchvisionFasterRCNN,
            published=Published("https://example.com/small_coco-00000000.pth", backbone="resnet18", num_classes=10),
        )
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = create_detector(NAME, **SMALL).state_dict()
    randomise(state, seed=0)
    return write_published(tmp_path, NAME, state)


@pytest.mark.parametrize("source", ["cnnbench", "torchvision"])
def test_a_run_goes_on_and_is_evaluated_as_it_began(source, published, command, configs, write_photo, tmp_path):
    recipe = ("--config", configs / "detection/faster_rcnn_digits.yaml", *TINY, "--model.source", source)
    run = command("fit", *recipe, "--model.pretrained", "true", "--trainer.max_epochs", 1)
    frozen = {key: value for key, value in torch.load(published).items() if ".bn" in key or "layer1" in key}
    published.unlink()  # what was trained needs it no longer
    validated = command("validate", "--ckpt_path", run.best)
    assert validated.curve("val/map") == [max(run.curve("val/map"))]
    assert command("validate", "--config", run.config, "--ckpt_path", run.best).metrics == validated.metrics
    write_photo(tmp_path / "images/wide.jpg", 90, 40)
    written = command("predict", "--ckpt_path", run.best, "--data.root", tmp_path / "images").directory
    assert (written / "predictions.json").is_file()

    last = run.directory / "checkpoints/last.ckpt"
    command("fit", "--config", run.config, "--ckpt_path", last, "--trainer.max_epochs", 2)
    weights = torch.load(last, weights_only=True)["state_dict"]
    assert len(frozen) == 72 and all(torch.equal(value, weights[f"network.{key}"]) for key, value in frozen.items())
    assert not any("num_batches_tracked" in key for key in weights)
