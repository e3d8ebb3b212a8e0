import numpy as np
import pytest
from PIL import Image

from cnnbench.data.image_files import decode, image_file, upright_size


def load(path, in_chans=3, **options):
    with image_file(path) as file:
        return np.asarray(decode(file, in_chans, **options)).astype(int)


@pytest.fixture
def ramp():
    return np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("P", "png"), ("CMYK", "jpg"), ("RGBA", "png"), ("1", "png"), ("LA", "png")],
)
def test_any_mode_becomes_grey_or_rgb(tmp_path, write_photo, mode, suffix, in_chans):
    picture = write_photo(tmp_path / "rgb.png").convert(mode)
    picture.save(tmp_path / f"it.{suffix}", **({"quality": 95} if suffix == "jpg" else {}))
    expected = np.asarray(picture.convert("RGB").convert("RGB" if in_chans == 3 else "L")).astype(int)
    got = load(tmp_path / f"it.{suffix}", in_chans)
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < (4 if suffix == "jpg" else 0.51)


@pytest.mark.parametrize("in_chans", [1, 3])
def test_16_bits_are_scaled_not_cut(tmp_path, ramp, in_chans):
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    got = load(tmp_path / "deep.png", in_chans)
    assert np.array_equal(got if in_chans == 1 else got[..., 2], ramp)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, ramp, orientation):
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose,
            6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp).save(tmp_path / "turned.png", exif=exif)
    expected = undo[orientation](ramp)
    assert np.array_equal(load(tmp_path / "turned.png", 1), expected)
    with image_file(tmp_path / "turned.png") as file:
        assert upright_size(file) == expected.shape[::-1]


def test_a_scale_decodes_a_jpeg_smaller(tmp_path, write_photo):
    write_photo(tmp_path / "large.jpg", 800, 600, quality=95)
    whole = load(tmp_path / "large.jpg")
    for scale in (1, 2, 4, 8):
        small = load(tmp_path / "large.jpg", scale=scale)
        assert small.shape[:2] == (600 // scale, 800 // scale)
        again = np.asarray(Image.fromarray(whole.astype(np.uint8)).resize(small.shape[1::-1], Image.Resampling.BOX))
        assert np.abs(small - again).mean() < 2
