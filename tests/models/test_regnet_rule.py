"""RegNet's rule against the authors' tables and some worked out by hand."""

import pytest

import cnnbench.models as models
from cnnbench.errors import UserError
from cnnbench.models.regnet import stage_table

# As the authors print their networks, without the rule: widths, depths, group width.
PUBLISHED = {
    "regnetx_002": ((24, 56, 152, 368), (1, 1, 4, 7), 8),
    "regnetx_004": ((32, 64, 160, 384), (1, 2, 7, 12), 16),
    "regnetx_008": ((64, 128, 288, 672), (1, 3, 7, 5), 16),
    "regnetx_016": ((72, 168, 408, 912), (2, 4, 10, 2), 24),
    "regnetx_032": ((96, 192, 432, 1008), (2, 6, 15, 2), 48),
    "regnety_002": ((24, 56, 152, 368), (1, 1, 4, 7), 8),
    "regnety_004": ((48, 104, 208, 440), (1, 3, 6, 6), 8),
    "regnety_008": ((64, 128, 320, 768), (1, 3, 8, 2), 16),
    "regnety_016": ((48, 120, 336, 888), (2, 6, 17, 2), 24),
    "regnety_032": ((72, 216, 576, 1512), (2, 5, 13, 1), 24),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tables(name):
    rule = {key: value for key, value in models.model_info(name).kwargs.items() if key != "se_ratio"}
    widths, depths, group_width = PUBLISHED[name]
    table = stage_table(group_width=rule.pop("group_size"), **rule)
    assert table == [(width, depth, group_width) for width, depth in zip(widths, depths, strict=True)]


def test_by_hand():
    """8, 16, ..., 48 lie 0, 1, 1.58, 2, 2.32, 2.58 doublings above 8: rounded, 8, 16, three times 32, 64."""
    assert stage_table(8, 8, 2, 6, group_width=4) == [(8, 1, 4), (16, 1, 4), (32, 3, 4), (64, 1, 4)]


def test_groups_divide():
    """A group is no wider than its stage, and other widths go to the nearest multiple: 16 to 12, 32 to 36, 64 to 60."""
    assert stage_table(8, 8, 2, 6, group_width=12) == [(8, 1, 8), (12, 1, 12), (36, 3, 12), (60, 1, 12)]


def test_four_stages():
    with pytest.raises(UserError, match=r"regnetx_002 .* four stages, but w0=8, wa=8, wm=2, depth=3 give 3"):
        models.create_model("regnetx_002", w0=8, wa=8, wm=2, depth=3)
