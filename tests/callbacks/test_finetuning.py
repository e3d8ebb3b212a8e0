"""Fine-tuning against what it promises: what learns, what stays to the last bit, and what is refused."""

import re
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from finetuning_runs import SMALL, STAGES, AllAtOnce, UnshuffledDigits, changed, count, fit

from cnnbench import ClassificationTask, Finetuning, create_model
from cnnbench.errors import UserError
from cnnbench.tasks import DetectionTask, MultiTaskTask, SegmentationTask

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({"strategy": "feature_extraction"}, ()),
        ({"strategy": "last_stages"}, STAGES[4:]),
        ({"strategy": "last_stages", "stages": 3}, STAGES[2:]),
        ({"strategy": "last_stages", "stages": 5}, STAGES),
        ({"strategy": "discriminative"}, STAGES),
        ({"strategy": "gradual"}, STAGES[4:]),
        ({"strategy": "gradual", "unfreeze_every": 2}, ()),
        ({"strategy": "gradual", "stages": 1}, STAGES[4:]),
    ],
)
def test_what_is_frozen_stays_to_the_last_bit_and_the_rest_learns(tmp_path, weights, source, options, trained):
    task, trainer = fit(tmp_path, weights, Finetuning(**options), source=source, max_epochs=2)
    assert changed(task, weights) == set(trained)
    assert trainer.callback_metrics["train/trainable_parameters"] == count(task, *trained, "fc")


def test_feature_extraction_is_a_linear_layer_on_the_features_of_evaluation(tmp_path, weights):
    """One step by hand, on features that the statistics of the file have normalised."""
    finetuning = Finetuning("feature_extraction")
    task, _ = fit(tmp_path, weights, finetuning, data=AllAtOnce, optim={"optimizer": "momentum", "weight_decay": 0.0})
    pl.seed_everything(0, verbose=False)
    backbone = create_model("resnet18", num_classes=3, in_chans=1, weights=weights, **SMALL).eval()
    data = AllAtOnce()
    data.setup()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    with torch.no_grad():
        features = backbone.forward_head(backbone.forward_features(batch["image"]), pre_logits=True)
    loss = F.cross_entropy(backbone.fc(features), batch["label"])
    gradient = torch.autograd.grad(loss, backbone.fc.weight)[0]
    torch.testing.assert_close(task.network.fc.weight, backbone.fc.weight - 0.1 * gradient)


def test_gradual_unfreezing_is_printed_and_logged_at_every_change(tmp_path, weights, capsys):
    task, _ = fit(tmp_path, weights, Finetuning("gradual", stages=2, unfreeze_every=2), max_epochs=7)
    expected = [count(task, *STAGES[5 - n :], "fc") for n in (0, 0, 1, 1, 2, 2, 2)]
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/trainable_parameters")
    assert [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]] == expected
    printed = re.findall(r"^trained  (\S+) of (\S+) parameters: (.*)$", capsys.readouterr().out, re.MULTILINE)
    total = f"{count(task, *STAGES, 'fc'):,}"
    assert printed == [
        (f"{expected[0]:,}", total, "fc"),
        (f"{expected[2]:,}", total, "fc, layer4"),
        (f"{expected[4]:,}", total, "fc, layer4, layer3"),
    ]


def test_a_compiled_network_unfreezes(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    task, _ = fit(tmp_path, weights, Finetuning("gradual"), max_epochs=2, compile=True)
    assert changed(task, weights) == {"layer4"}


def test_a_second_run_of_one_task_begins_anew(tmp_path, weights):
    task, _ = fit(tmp_path, weights, Finetuning("feature_extraction"))
    trainer = pl.Trainer(
        callbacks=[Finetuning("last_stages")],
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        accelerator="cpu",
        max_epochs=1,
    )
    trainer.fit(task, UnshuffledDigits())
    assert changed(task, weights) == {"layer4"}


def test_a_head_that_is_not_there_cannot_be_trained(tmp_path, weights):
    """A strategy that would freeze everything."""
    task = ClassificationTask("resnet18", num_classes=3, in_chans=1, model_args=SMALL)
    task.network.reset_classifier(0)
    trainer = pl.Trainer(
        callbacks=[Finetuning("feature_extraction")],
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    with pytest.raises(UserError, match="resnet18 has no classifier to train"):
        trainer.fit(task, UnshuffledDigits())


FILE, PUBLISHED = "give --model.weights FILE", "give --model.weights FILE or --model."
STARTS = {
    "resnet18": (ClassificationTask, {"model_args": SMALL}, f"{PUBLISHED}pretrained true"),
    "lenet5": (ClassificationTask, {}, FILE),
    "mini_resnet": (MultiTaskTask, {}, FILE),
    "unet": (SegmentationTask, {"model_args": {"widths": [4, 8]}}, FILE),
    "unet_encoder": (SegmentationTask, {}, f"{PUBLISHED}pretrained_backbone true"),
    "retinanet": (DetectionTask, {"backbone": "resnet18"}, f"{PUBLISHED}pretrained_backbone true"),
    "fasterrcnn_resnet50_fpn": (DetectionTask, {}, f"{PUBLISHED}pretrained true"),
}


@pytest.mark.parametrize("name", STARTS)
def test_random_weights_are_told_with_what_the_task_can_start_from(name, caplog):
    task, options, advice = STARTS[name]
    task = task(name, num_classes=3, in_chans=3, **options)
    finetuning, trainer = Finetuning("feature_extraction"), pl.Trainer(logger=False, accelerator="cpu")
    finetuning.on_train_start(trainer, task)
    assert caplog.messages[-1].startswith(f"Finetuning begins from random weights of {task.title}: ")
    assert caplog.messages[-1].endswith(f": {advice}")


@pytest.mark.parametrize("setting", ["pretrained", "pretrained_backbone", "weights"])
def test_published_weights_and_those_of_a_file_are_not_random(setting, caplog):
    task = SegmentationTask("unet", num_classes=3, in_chans=3, model_args={"widths": [4, 8]})
    task.hparams[setting] = True
    Finetuning("feature_extraction").on_train_start(pl.Trainer(logger=False, accelerator="cpu"), task)
    assert "random weights" not in caplog.text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"freeze_backbone": True}, "model.freeze_backbone: both"),
        ({"trained_heads": ["box"]}, "model.trained_heads: both"),
        ({"freeze_backbone": True, "trained_heads": ["box"]}, "model.freeze_backbone and model.trained_heads: both"),
    ],
)
@pytest.mark.parametrize("strategy", ["feature_extraction", "discriminative"])
def test_a_task_that_freezes_by_itself_is_refused(options, named, strategy):
    task, trainer = MultiTaskTask("mini_resnet", **options), pl.Trainer(logger=False, accelerator="cpu")
    with pytest.raises(UserError, match=f"Finetuning does not go with {named} say what is trained"):
        Finetuning(strategy).setup(trainer, task, "fit")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strategy": "gradul"}, "unknown strategy 'gradul' of Finetuning; did you mean 'gradual'"),
        ({"strategy": "feature_extraction", "stages": 2}, "takes no stages, last_stages or gradual does"),
        ({"strategy": "last_stages", "stages": 0}, "stages is 0, but must be at least 1; for the classifier alone"),
        ({"strategy": "gradual", "unfreeze_every": 0}, "unfreeze_every is 0, but must be at least 1"),
        ({"strategy": "discriminative", "lr_decay": 0.0}, "lr_decay is 0.0, but must be above 0 and at most 1"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(UserError, match=named):
        Finetuning(**options)
