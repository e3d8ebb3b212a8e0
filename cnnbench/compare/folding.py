"""BatchNorm folded into the convolutions before it, for evaluation."""

from copy import deepcopy

from timm.layers import BatchNormAct2d
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cnnbench.errors import UserError, first_line
from cnnbench.layers import BatchNormReLU2d

REST = {  # class of a norm -> what of it is left when the norm itself is folded
    nn.BatchNorm2d: lambda norm: nn.Identity(),
    BatchNormReLU2d: lambda norm: nn.ReLU(inplace=True),
    BatchNormAct2d: lambda norm: nn.Sequential(norm.drop, norm.act),
}


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode whose convolutions do the work of the norms behind them.

    Args:
        network: Stays as it is.

    Raises:
        UserError: It cannot be traced, or has no such norm.
    """
    copy = deepcopy(network).eval()
    pairs = _pairs(copy)
    if not pairs:
        raise UserError("no BatchNorm follows a convolution")
    for convolution, norm in pairs:
        rest = REST[type(copy.get_submodule(norm))](copy.get_submodule(norm))
        folded = fuse_conv_bn_eval(copy.get_submodule(convolution), copy.get_submodule(norm))
        copy.set_submodule(convolution, folded.requires_grad_(False))
        copy.set_submodule(norm, rest.eval())
    return copy


class _Tracer(fx.Tracer):
    """Looks into no convolution and no norm."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Return the names of each convolution and the norm that alone takes what it puts out; both are called once."""
    try:
        nodes = list(_Tracer().trace(network).nodes)
    except Exception as error:  # whatever a forward raises that looks at values
        raise UserError(f"it cannot be traced: {first_line(error)}") from error
    called = [node.target for node in nodes if node.op == "call_module"]
    pairs = []
    for norm in nodes:
        before = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        if called.count(before.target) != 1 or called.count(norm.target) != 1:
            continue
        if type(network.get_submodule(before.target)) is nn.Conv2d and type(network.get_submodule(norm.target)) in REST:
            pairs.append((before.target, norm.target))
    return pairs
