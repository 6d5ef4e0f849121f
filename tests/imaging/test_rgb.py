# Licensed under a 3-clause BSD style license - see LICENSE.rst
import struct
import zlib

import astropy.units as u
import numpy as np
import pytest

from galml.core import InputError
from galml.cutouts import sdss_rgb
from galml.imaging.rgb import is_color_file, is_rgb, linear_images, read_color_file


@pytest.mark.parametrize("kind, rtol", [(np.float64, 1e-5), (np.float32, 1e-4)])
def test_undoes_the_colors_of_sdss(kind, rtol):
    rng = np.random.default_rng(0)
    light = rng.uniform(20, 120, (2, 3, 8, 8))
    colors = sdss_rgb(light * u.nJy, bands=(0, 1, 2), pixel_scale=0.396 * u.arcsec)
    assert 0 < colors.min() and colors.max() < 1
    found = linear_images(np.moveaxis(colors, -1, 1).astype(kind))
    assert found.dtype == kind
    np.testing.assert_allclose(found, light, rtol=rtol)


def test_black_is_nothing():
    assert (linear_images(np.zeros((3, 2, 2))) == 0).all()


def test_is_rgb():
    image = np.zeros((5, 6, 3), np.uint8)
    assert is_rgb(image) and is_rgb(image[None], 4)
    assert not is_rgb(image.astype(float)) and not is_rgb(image[..., 0])
    assert not is_rgb(image[None]) and not is_rgb("a.png")


def test_is_color_file():
    assert is_color_file("a/b.JPG") and is_color_file("b.png")
    assert not is_color_file("a.fits") and not is_color_file("jpg")


def test_files_have_y_upward(tmp_path):
    image = pytest.importorskip("PIL.Image")
    data = np.zeros((4, 6, 3), np.uint8)
    data[0] = 200
    image.fromarray(data).save(tmp_path / "a.png")
    read = read_color_file(tmp_path / "a.png")
    assert (read[-1] == 200).all() and (read[:-1] == 0).all()


def write_png(path, side, data=b""):
    """Write a file that says to be large, and holds almost nothing."""

    def chunk(kind, content):
        body = kind + content
        return (
            struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(data)),
        chunk(b"IEND", b""),
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("side", [30_000, 100_000])
def test_size_is_judged_by_the_header(tmp_path, side):
    pytest.importorskip("PIL")
    write_png(tmp_path / "large.png", side)
    assert (tmp_path / "large.png").stat().st_size < 200
    with pytest.raises(
        InputError, match="cutouts: got .*large.png, which cannot be re"
    ):
        read_color_file(tmp_path / "large.png")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0" + bytes(50), b"GIF89a"])
def test_damaged_files(tmp_path, content):
    pytest.importorskip("PIL")
    (tmp_path / "torn.jpg").write_bytes(content)
    with pytest.raises(
        InputError, match="cutouts: got .*torn.jpg, which cannot be rea"
    ):
        read_color_file(tmp_path / "torn.jpg")
    write_png(tmp_path / "torn.png", 64)
    with pytest.raises(
        InputError, match="cutouts: got .*torn.png, which cannot be rea"
    ):
        read_color_file(tmp_path / "torn.png")
