"""Every decoder gives PIL's pixels, whatever the file holds."""

import io
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cnnbench.data import decoders
from cnnbench.data.decoders import encoded_image, installed, scale_for
from cnnbench.data.image_files import ImageFileError
from cnnbench.data.jpeg import read_header
from cnnbench.errors import UserError

FAST = [
    pytest.param("simplejpeg", marks=pytest.mark.skipif(not find_spec("simplejpeg"), reason="needs simplejpeg")),
    "torchvision",
]
BOXES = [(0, 0, 203, 149), (17, 20, 120, 77), (0, 0, 203, 3), (190, 100, 203, 149)]
KINDS = {
    f"subsampling{subsampling}{'-progressive' * progressive}{'-restart' * restart}{'-grey' * grey}": (
        grey,
        {"subsampling": subsampling, "progressive": progressive, "restart_marker_blocks": 4 * restart},
    )
    for subsampling, progressive, restart, grey in product((0, 1, 2), (False, True), (False, True), (False, True))
}


@pytest.fixture(scope="module")
def picture():
    """Detail and edges at an awkward size: what a wrong row or a wrong colour shows in."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)).resize((203, 149), Image.NEAREST)
    return Image.fromarray(np.asarray(coarse) // 2 + rng.integers(0, 128, (149, 203, 3), dtype=np.uint8))


def pixels(path, decoder, box, in_chans=3, scale=1):
    with encoded_image(path, decoder) as image:
        return image.pixels(box, in_chans, scale)


@pytest.mark.parametrize("decoder", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_jpeg_is_pils_to_the_last_bit(tmp_path, picture, kind, decoder):
    grey, options = KINDS[kind]
    path = tmp_path / "it.jpg"
    (picture.convert("L") if grey else picture).save(path, quality=90, **options)
    for box in BOXES:
        expected = np.asarray(Image.open(path).convert("RGB").crop(box))
        assert np.array_equal(pixels(path, decoder, box).permute(1, 2, 0), expected)
    for scale in (2, 4, 8):
        reduced = Image.open(path)
        reduced.draft(None, (203 // scale, 149 // scale))
        reduced = np.asarray(reduced.convert("RGB"))
        assert reduced.shape[:2] == (-(-149 // scale), -(-203 // scale))
        for box in ((0, 0, 203, 149), (0, 0, 203, 48), (64, 16, 128, 72)):
            left, right = (round(side * reduced.shape[1] / 203) for side in box[::2])
            top, bottom = (round(side * reduced.shape[0] / 149) for side in box[1::2])
            got = pixels(path, decoder, box, scale=scale).permute(1, 2, 0)
            assert np.array_equal(got, reduced[top:bottom, left:right])


@pytest.mark.parametrize("decoder", [*FAST, "pil"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_jpeg_is_upright(tmp_path, picture, orientation, decoder):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    picture.save(path, quality=90, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    with encoded_image(path, decoder) as image:
        assert (image.width, image.height) == upright.size
        box = (10, 20, 70, 120)
        assert np.array_equal(image.pixels(box, 3).permute(1, 2, 0), np.asarray(upright.crop(box)))


@pytest.mark.parametrize("decoder", [*FAST, "pil"])
@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png")])
def test_colours_become_grey_on_request(tmp_path, picture, mode, suffix, decoder):
    path = tmp_path / f"it.{suffix}"
    picture.convert(mode).save(path, **({"quality": 95, "subsampling": 0} if suffix == "jpg" else {}))
    expected = np.asarray(Image.open(path).convert("RGB").convert("L")).astype(int)
    got = pixels(path, decoder, (0, 0, 203, 149), in_chans=1)
    assert got.shape == (1, 149, 203)
    assert np.abs(got[0].numpy() - expected).mean() < 0.5  # a JPEG's own luminance is not rounded twice
    assert np.abs(got[0].numpy() - expected).max() <= 12  # where colours were cut at black or white


@pytest.mark.parametrize("decoder", [*FAST, "pil"])
@pytest.mark.parametrize("harm", ["truncated", "without scan", "only a start", "html"])
def test_a_broken_jpeg_is_named(tmp_path, picture, harm, decoder):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    whole = buffer.getvalue()
    scan = whole.index(b"\xff\xda")
    broken = {
        "truncated": whole[: scan + 200],
        "without scan": whole[:scan] + b"\xff\xd9",
        "only a start": b"\xff\xd8\xff\xd9",
        "html": b"<html>not found</html>",
    }[harm]
    (tmp_path / "it.jpg").write_bytes(broken)
    with pytest.raises(ImageFileError, match=r"it\.jpg cannot be read as an image"):
        pixels(tmp_path / "it.jpg", decoder, (0, 0, 10, 10))


def test_what_is_no_plain_jpeg_is_left_to_pil(tmp_path, picture):
    for name, mode in (("cmyk.jpg", "CMYK"), ("it.png", "RGB"), ("it.webp", "RGB")):
        picture.convert(mode).save(tmp_path / name)
        assert read_header((tmp_path / name).read_bytes()) is None
    picture.save(tmp_path / "it.jpg")
    plain = (tmp_path / "it.jpg").read_bytes()
    assert (read_header(plain).width, read_header(plain).height) == picture.size
    assert read_header(plain[:-2]) is None  # its end is missing


@pytest.mark.parametrize(("side", "size", "scale"), [(447, 224, 1), (448, 224, 2), (900, 224, 4), (5000, 224, 8)])
def test_a_scaled_decode_leaves_enough(side, size, scale):
    assert scale_for(side, 2 * side, size) == scale == scale_for(2 * side, side, size)


@pytest.fixture
def without_simplejpeg(monkeypatch):
    monkeypatch.setattr(decoders, "find_spec", lambda name: None)
    installed.cache_clear()
    yield
    installed.cache_clear()


def test_a_decoder_that_is_not_installed_is_named(without_simplejpeg):
    assert installed("auto") == "torchvision"
    with pytest.raises(UserError, match="decoder is 'simplejpeg', which is not installed"):
        installed("simplejpeg")
    with pytest.raises(UserError, match="decoder is 'turbo': it must be 'auto' or"):
        installed("turbo")


@pytest.mark.skipif(not find_spec("simplejpeg"), reason="needs simplejpeg")
def test_what_is_installed_changes_no_pixel(tmp_path, write_photo):
    write_photo(tmp_path / "it.jpg", 1200, 900, quality=90)
    for box, scale in (((100, 50, 400, 300), 1), ((100, 50, 1000, 800), 4)):
        assert torch.equal(
            pixels(tmp_path / "it.jpg", "simplejpeg", box, scale=scale),
            pixels(tmp_path / "it.jpg", "torchvision", box, scale=scale),
        )
