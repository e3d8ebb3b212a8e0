"""What the tests know of MobileNet."""

from plant import after, change, move_stride, replace
from torch import nn

PARAMETERS = {"mobilenetv1_100": 4_231_976}

SMALL = {"mobilenetv1_100": {"depth_multiplier": 0.1}}

VARIATIONS = [("mobilenetv1_100", {"depth_multiplier": 0.1, "in_chans": 1, "global_pool": "catavgmax"})]

IMAGE_SIZE = {"mobilenetv1_100": 32}

MISTAKES = {
    "mobilenetv1_100": {
        "BatchNorm eps 1e-3": change("blocks.1.0.bn1", eps=1e-3),
        "BatchNorm momentum 0.01": change("bn1", momentum=0.01),
        "no activation between the convolutions": replace("blocks.2.0.act1", nn.Identity),
        "a linear bottleneck": replace("blocks.3.0.act2", nn.Identity),
        "ReLU for ReLU6": replace("blocks.0.0.act1", nn.ReLU),
        "stride in the 1x1": move_stride("blocks.1.0.conv_dw", "blocks.1.0.conv_pw"),
        "replicated padding": change(
            "blocks.2.0.conv_dw", padding_mode="replicate", _reversed_padding_repeated_twice=[1] * 4
        ),
        "residuals": after("blocks.0.0", lambda block, x, y: y + 0.01 * x.mean(1, keepdim=True)),
        "dropout left on": change("head_drop", p=0.1),
    }
}
