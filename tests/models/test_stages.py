"""Stages are what `feature_info` says, checked against what the gradients of the feature maps reach."""

import pytest
import timm
import torch
from torch import nn

from cnnbench import create_model, list_models, model_info
from cnnbench.errors import UserError
from cnnbench.models.detection import create_detector
from cnnbench.models.multi_task import create_multi_task
from cnnbench.models.segmentation import create_segmenter
from cnnbench.models.stages import classifier_of, stages_of

OF_EACH_PAPER = {model_info(name).paper.title: name for name in reversed(list_models())}.values()
OF_TIMM = (
    "test_resnet",
    "test_convnext",
    "test_efficientnet",
    "test_nfnet",
    "test_byobnet",
    "test_mambaout",
    "test_vit",
)
SMALL = {"channels": (8, 16, 24, 32), "layers": (1, 1, 1, 1)}


def on_meta(name, **kwargs):
    with torch.device("meta"):
        return create_model(name, **kwargs)


def assert_each_parameter_is_in_one(network):
    parts = [*stages_of(network), classifier_of(network)]
    named = [name for part in parts for name in part.parameters]
    assert len(named) == len(set(named))
    assert set(named) == {name for name, _ in network.named_parameters()}
    assert all(part.parameters for part in parts)


@pytest.mark.parametrize("name", OF_EACH_PAPER)
@pytest.mark.parametrize("source", ["cnnbench", "timm"])
def test_each_parameter_is_in_one_part(name, source):
    if source == "timm" and str(model_info(name).reference).startswith("torchvision/"):
        pytest.skip("timm has no such network")
    assert_each_parameter_is_in_one(on_meta(name, source=source, num_classes=3))


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",
        "mobilenetv3_small_050",
        "deit_tiny_distilled_patch16_224",
        "levit_128s",
        "hrnet_w18",
    ],
)
def test_networks_that_only_timm_has(name):
    assert_each_parameter_is_in_one(on_meta(name, source="timm", num_classes=3))


def multi_task(backbone, **options):
    name, source = backbone["backbone"], backbone["backbone_source"]
    return create_multi_task(name, source=source, heads=["box", "embedding"], num_classes=3, **options)


BUILDERS = {
    "retinanet": lambda backbone: create_detector("retinanet", num_classes=3, **backbone),
    "unet_encoder": lambda backbone: create_segmenter("unet_encoder", num_classes=3, **backbone),
    "multi_task": multi_task,
    "multi_task_uncertain": lambda backbone: multi_task(backbone, learns_weights=True),
}
NOT_OF_THE_BACKBONE = {
    "retinanet": {"backbone", "head"},
    "unet_encoder": {"blocks", "head"},
    "multi_task": {"heads"},
    "multi_task_uncertain": {"heads", "uncertainty"},
}


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("source", ["cnnbench", "timm"])
def test_what_stands_on_a_classifier_has_its_stages(kind, source):
    """All that is not the classifier's learns from the first epoch on."""
    with torch.device("meta"):
        network = BUILDERS[kind]({"backbone": "resnet18", "backbone_source": source})
    assert_each_parameter_is_in_one(network)
    assert [stage.name.rpartition(".")[2] for stage in stages_of(network)][-4:] == [f"layer{n}" for n in (1, 2, 3, 4)]
    assert {name.split(".")[0] for name in classifier_of(network).parameters} == NOT_OF_THE_BACKBONE[kind]


@pytest.mark.parametrize(("name", "supervision"), [("unet", 0), ("unet", 1), ("unet_paper", 0)])
def test_the_stages_of_a_unet_are_its_way_down_and_the_way_up_is_of_the_last(name, supervision):
    network = create_segmenter(name, num_classes=3, widths=[4, 8, 8], deep_supervision=supervision)
    assert_each_parameter_is_in_one(network)
    stages, classifier = stages_of(network), classifier_of(network)
    assert [stage.name for stage in stages] == ["down.0", "down.1", "down.2"]
    own = [{name.partition(".")[0] for name in part.parameters} for part in (*stages, classifier)]
    assert own[:3] == [{"down"}, {"down"}, {"down", "enlarge", "up"}]
    assert own[3] == {"head", *(["aux_heads"] if supervision else [])}
    with torch.no_grad():
        maps = [network.down[0](torch.zeros(1, 3, 32, 32))]
        for block in network.down[1:]:
            maps.append(block(network.pool(maps[-1])))
    assert [info["num_chs"] for info in network.feature_info] == [x.shape[1] for x in maps]
    assert [info["reduction"] for info in network.feature_info] == [1, 2, 4]


@pytest.mark.parametrize("network", [*OF_TIMM, "resnet18", "mobilenetv2_050"])
def test_a_map_depends_on_the_stages_up_to_its_own(network):
    if network in OF_TIMM:
        network = timm.create_model(network, num_classes=3)
    else:
        network = create_model(network, num_classes=3, **(SMALL if network == "resnet18" else {}))
    stages = [set(stage.parameters) for stage in stages_of(network)]
    images = torch.randn(2, 3, *getattr(network, "pretrained_cfg", {}).get("input_size", (3, 64, 64))[1:])
    maps = network.eval().forward_intermediates(images, intermediates_only=True)
    names, parameters = zip(*network.named_parameters(), strict=True)
    for index, stage in enumerate(stages):
        gradients = torch.autograd.grad(maps[index].square().sum(), parameters, retain_graph=True, allow_unused=True)
        reached = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
        assert reached <= set().union(*stages[: index + 1])
        assert reached & stage


def test_the_stages_of_a_resnet():
    assert [stage.name for stage in stages_of(create_model("resnet18", **SMALL))] == [
        *("act1", "layer1", "layer2", "layer3", "layer4")
    ]
    assert classifier_of(create_model("resnet18", **SMALL)).parameters == ("fc.weight", "fc.bias")


def test_auxiliary_heads_are_of_the_classifier():
    network = on_meta("googlenet", aux_logits=True)
    assert {name.partition(".")[0] for name in classifier_of(network).parameters} == {"fc", "aux1", "aux2"}


def test_what_cannot_be_cut_is_said():
    with pytest.raises(UserError, match="resnet18 has no classifier to train"):
        classifier_of(create_model("resnet18", num_classes=0, **SMALL))
    with pytest.raises(UserError, match=r"mvitv2_tiny cannot be cut into stages: its feature_info names 'block\.0'"):
        stages_of(on_meta("mvitv2_tiny", source="timm"))
    with pytest.raises(UserError, match="Linear cannot be cut into stages: its feature_info is missing"):
        stages_of(nn.Linear(1, 1))
