"""Output sizes against torch's own convolutions and pools."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from cnnbench import UserError, output_size


def test_by_hand():
    assert output_size(224, kernel_size=7, stride=2, padding=3) == 112
    assert output_size(32, 5) == 28
    assert output_size(10, 3, dilation=4) == 2


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_equals_torch(dilation):
    for size, kernel, stride, padding in itertools.product((7, 8, 13), (1, 2, 3), (1, 2, 3, 5), (0, 1)):
        x = torch.empty(1, 1, size, device="meta")
        expected = F.conv1d(x, x.new_empty(1, 1, kernel), stride=stride, padding=padding, dilation=dilation)
        assert output_size(size, kernel, stride, padding, dilation) == expected.shape[-1]
        if padding <= kernel // 2:
            pooled = F.max_pool1d(x, kernel, stride, padding, dilation, ceil_mode=True)
            assert output_size(size, kernel, stride, padding, dilation, ceil_mode=True) == pooled.shape[-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 3), "size is 0"),
        ((8, 3, 0), "stride is 0"),
        ((8, 3, 1, -1), "padding is -1"),
        ((8, 2.5), "kernel_size is 2.5"),
        ((4, 3, 1, 0, 2), "spans 5 pixels does not fit into 4"),
    ],
)
def test_what_is_not_possible(arguments, named):
    with pytest.raises(UserError, match=named):
        output_size(*arguments)
