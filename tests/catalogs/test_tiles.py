# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from galml.catalogs import index
from galml.catalogs.tiles import Survey
from galml.core import GalmlWarning, InputError


def test_galaxies_on_seams_have_both_tiles(survey):
    folder, catalog = survey
    table = index(str(folder / "*.fits"))
    assert table["band"].tolist() == ["r"] * 4
    np.testing.assert_allclose(table["pixel_scale"].value, 0.4, rtol=1e-6)
    points = SkyCoord(catalog["ra"], catalog["dec"]).cartesian.xyz.value.T
    rows, tiles = Survey(table).find(points, np.zeros(24))
    assert tiles[rows == 0].tolist() == [0, 1]
    assert set(rows.tolist()) == set(range(24))
    rows, tiles = Survey(table).find(-points, np.zeros(24))
    assert len(rows) == 0


def test_files_that_are_no_images_are_left_out(survey):
    folder, _ = survey
    (folder / "a.fits").write_bytes(b"no image")
    with pytest.warns(GalmlWarning, match="1 of 4 images"):
        assert len(index(str(folder / "*.fits"))) == 3
    with pytest.raises(InputError, match="no file matches"):
        index(str(folder / "*.jpg"))


def test_bands_by_name_are_all_needed(survey):
    folder, _ = survey
    whole, broken = (str(folder / f"{name}.fits") for name in "ab")
    (folder / "b.fits").write_bytes(b"no image")
    with pytest.raises(InputError, match="no image in i that can be read .*b.fits"):
        index({"r": whole, "i": broken})
