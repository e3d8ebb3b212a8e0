"""`compare`: a line for each mistake; the checks themselves are stand-ins."""

import pytest

pytestmark = pytest.mark.usefixtures("checks")


@pytest.fixture
def mistake(compare):
    """A function that runs a command with a mistake in it, and returns the line about it."""

    def run(*words, checks="parity,cost"):
        code, out, err = compare(*words, checks=checks)
        assert (code, out) == (2, "")
        assert err.startswith("cnnbench: error: ")
        assert len(err.splitlines()) == 1
        return err.removeprefix("cnnbench: error: ").rstrip()

    return run


# Words after `compare` -> the line, or how it begins.
MISTAKES = {
    "": "name a model, such as resnet50, or give --all",
    "resnet19": "unknown model 'resnet19'; did you mean 'resnet18'",
    "timm/resnet19": "timm has no model 'resnet19'; did you mean",
    "yolo": "yolo has no reference to be compared with; these detectors have one: faster_rcnn, fasterrcnn_resnet50_fpn",
    "retinanet_resnet18_fpn": "unknown detector 'retinanet_resnet18_fpn'; these detectors have one: faster_rcnn",
    "unet": "unet segments, and has no reference to be compared with; what it stands on has: resnet18",
    "tim/resnet18": "unknown source 'tim' in 'tim/resnet18'; did you mean 'timm'",
    "lenet5 --against resnet19": "unknown model 'resnet19'; did you mean 'resnet18'",
    "zzz*": "no model matches 'zzz*'",
    "--all lenet5": "--all is every model against its reference: leave out the names and --against, or --all",
    "--all --against lenet5": "--all is every model against its reference",
    "timm/resnet18": "timm/resnet18 has no reference of its own: name one with --against",
    "lenet5 --checks party": "unknown check 'party'; did you mean 'parity'?",
    "lenet5 --checks parity,": "unknown check ''",
    "lenet5 --format tabel": "--format cannot be 'tabel'; did you mean 'table'?",
    "lenet5 --fromat json": "unknown option '--fromat'; did you mean '--format'",
    "lenet5 --device cuad": "there is no device 'cuad': it is cpu, cuda, cuda:N or mps",
    "lenet5 --device cuda:99": "there is no device 'cuda:99' here",
    "lenet5 --precision 31": "unknown precision '31'",
    "lenet5 --batch-size 0": "--batch-size is 0, but must be at least 1",
    "lenet5 --batch-size many": "--batch-size is 'many', but must be a whole number",
    "lenet5 --image-size 0": "--image-size is 0, but must be at least 1",
    "lenet5 --image-size x": "--image-size is 'x', but must be a whole number",
    "lenet5 --seconds long": "--seconds is 'long', but must be a number",
    "lenet5 --image-size": "--image-size needs a value",
    "lenet5 --wandb of": "--wandb cannot be 'of'",
    "lenet5 --steps 3": "--steps is for the training check: add --checks training",
    "lenet5 --checks training": "the training check needs a recipe: --config configs/resnet18.yaml",
    "lenet5 --checks training --config no.yaml": "there is no recipe no.yaml",
    "lenet5 --save-aligned weights.pth": "--save-aligned is weights.pth, but must end in .safetensors",
    "lenet5 vgg11 --save-aligned weights.safetensors": "--save-aligned writes the weights of one model, but",
    "lenet5 --output pyproject.toml/x": "--output: cannot write to pyproject.toml/x: Not a directory",
    "no_such_file:net --against lenet5": "no_such_file of 'no_such_file:net' cannot be imported: No module named",
    "user_nets:smal --against lenet5": "user_nets has no 'smal'; did you mean 'small'?",
    "user_nets:not_callable --against lenet5": "user_nets has 'not_callable', which cannot be called",
    "user_nets:small": "user_nets:small has no reference of its own: name one with --against",
    "user_nets:no_module --against lenet5": "user_nets:no_module returns str, not a torch.nn.Module",
    "user_nets:broken --against lenet5": "user_nets:broken cannot be built: KeyError: 'depth'",
    "user_nets:leaves --against lenet5": "user_nets:leaves or lenet5 calls sys.exit(3)",
    "user_nets:raises --against lenet5": "user_nets:raises raises in forward on images of 1x32x32: ValueError: no such",
    "user_nets:no_tensor --against lenet5": "user_nets:no_tensor returns str from forward, and no tensor in it",
    "lenet5 --against user_nets:no_tensor": "user_nets:no_tensor returns str from forward, and no tensor in it",
    "user_nets:fixed --against user_nets:small": "user_nets:fixed raises in forward on images of 3x224x224: ",
    "user_nets:small --against user_nets:fixed --image-size 40": "; it runs on 3x32x32: --image-size 32",
    "vit_tiny_patch16_224 --image-size 100": "takes images of 224x224 pixels, not 100x100",
    "googlenet --image-size 10": "images of 10x10 pixels are too small for",
    "user_nets:seven --against user_nets:small": "user_nets:seven has 7 classes and user_nets:small has 5 classes: "
    "give both the same --num-classes, where they take it",
    "user_nets.small --against lenet5": "unknown model 'user_nets.small'; did you mean 'user_nets:small'?",
    "no_such_file.net --against lenet5": "unknown model 'no_such_file'",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_a_line(words, mistake):
    checks = None if "--checks" in words else "parity,cost"
    assert MISTAKES[words] in mistake(*words.split(), checks=checks)


def test_a_device_that_is_there_is_not_refused(compare):
    assert compare("lenet5", "--device", "cpu")[0] == 0
