"""Which rule of receptive fields each of torch's operators follows."""

from collections.abc import Callable

from cnnbench.analysis.call import Call
from cnnbench.analysis.field import Field
from cnnbench.analysis.kernels import adaptive_pool, convolution, pool, upsample
from cnnbench.analysis.mixing import keep, pointwise, product, reduction
from cnnbench.analysis.rearranging import (
    concatenation,
    expand,
    pad,
    part,
    parts,
    permute,
    select,
    unbind,
    unsqueeze,
    view,
)

OPERATORS: dict[str, Callable[[Call], Field | list[Field]]] = {
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), convolution),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d", "avg_pool3d", "max_pool3d_with_indices"), pool),
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_max_pool2d"), adaptive_pool),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "linalg_vector_norm", "norm"), reduction),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean", "logsumexp", "prod"), reduction),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "mv", "addmv"), product),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "squeeze", "squeeze_"), view),
    **dict.fromkeys(("permute", "transpose", "t"), permute),
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), parts),
    **dict.fromkeys(("cat", "stack"), concatenation),
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d"), pad),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"), upsample),
    **dict.fromkeys(
        ("_softmax", "_log_softmax", "_safe_softmax", "native_layer_norm", "native_group_norm", "native_dropout"), keep
    ),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"), keep),
    **dict.fromkeys(("_native_batch_norm_legit", "_native_batch_norm_legit_functional"), keep),
    **dict.fromkeys(("hardswish", "hardswish_", "prelu", "_prelu_kernel", "copy_"), pointwise),
    **dict.fromkeys(("clone", "_to_copy", "detach", "alias", "contiguous", "lift_fresh", "roll"), keep),
    "unsqueeze": unsqueeze,
    "unsqueeze_": unsqueeze,
    "expand": expand,
    "slice": part,
    "select": select,
    "unbind": unbind,
}
