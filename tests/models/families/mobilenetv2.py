"""What the tests know of MobileNetV2."""

from plant import after, change, move_stride, replace
from torch import nn

PARAMETERS = {"mobilenetv2_050": 1_968_680, "mobilenetv2_100": 3_504_872, "mobilenetv2_140": 6_108_776}

SMALL = {"mobilenetv2_050": {"depth_multiplier": 0.5}}

VARIATIONS = [("mobilenetv2_100", {"depth_multiplier": 0.3, "in_chans": 4, "global_pool": "avgmax"})]

IMAGE_SIZE = dict.fromkeys(PARAMETERS, 32)

MISTAKES = {
    "mobilenetv2_050": {
        "BatchNorm eps 1e-3": change("blocks.2.0.bn3", eps=1e-3),
        "BatchNorm momentum 0.01": change("bn2", momentum=0.01),
        "no activation after widening": replace("blocks.2.1.act1", nn.Identity),
        "no activation after the depthwise convolution": replace("blocks.3.0.act2", nn.Identity),
        "an activated bottleneck": after("blocks.4.0.bn3", lambda module, x, y: nn.functional.relu6(y)),
        "an activated first bottleneck": replace("blocks.0.0.act2", nn.ReLU6),
        "an activation after the addition": after("blocks.2.1", lambda block, x, y: nn.functional.relu6(y)),
        "ReLU for ReLU6": replace("blocks.1.0.act2", nn.ReLU),
        "no residual": change("blocks.5.1", has_skip=False),
        "stride in the first 1x1": move_stride("blocks.1.0.conv_dw", "blocks.1.0.conv_pw"),
        "stride in the last 1x1": move_stride("blocks.1.0.conv_dw", "blocks.1.0.conv_pwl"),
        "no activation in front of the head": replace("act2", nn.Identity),
        "drop path left on": change("blocks.3.1.drop_path", drop_prob=0.5),
    }
}
