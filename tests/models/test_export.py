"""Networks as graphs: traced, compiled, scripted and exported they compute what they compute as they are."""

import pytest
import torch
from contract import arguments_of, beside_timm, create, every_architecture, ours_and_theirs
from families import images_for


@every_architecture
def test_traces_with_fx(name):
    kwargs = {"drop_path_rate": 0.5} if "drop_path_rate" in arguments_of(name) else {}
    model = create(name, **kwargs)
    traced = torch.fx.symbolic_trace(model)
    outputs = []
    for network in (model, traced):
        torch.manual_seed(0)
        outputs.append(network(images_for(name, 2)))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


@every_architecture
def test_compiles_as_one_graph(name):
    torch.compiler.reset()
    model = create(name).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images_for(name, 2)), model(images_for(name, 2)), rtol=0, atol=0)


@beside_timm
def test_scripts_where_the_reference_does(name):
    ours_model, theirs_model = ours_and_theirs(name)
    try:
        torch.jit.script(theirs_model)
    except Exception:  # TorchScript raises many kinds
        pytest.skip("the reference does not script")
    images = images_for(name, 2)
    torch.testing.assert_close(torch.jit.script(ours_model)(images), ours_model(images), rtol=1e-5, atol=1e-5)


@every_architecture
def test_exports(name):
    model = create(name).eval()
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model, (images_for(name, 2),), dynamic_shapes=({0: batch},))
    images = images_for(name, 5)
    torch.testing.assert_close(exported.module()(images), model(images), rtol=1e-5, atol=1e-5)
