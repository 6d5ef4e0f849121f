# Licensed under a 3-clause BSD style license - see LICENSE.rst
import tracemalloc
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable

import galml
from galml.core.exceptions import GalmlWarning, InputError
from galml.stars import write_stars


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv", ".PARQUET"])
def test_round_trip(galaxies, model, tmp_path, suffix):
    path = tmp_path / f"stars{suffix}"
    options = {"model": model, "device": "cpu", "seed": 2}
    number = write_stars(path, galaxies, [5, 3000, 2], chunk=1000, **options)
    expected = galml.sample_stars(galaxies, [5, 3000, 2], **options)
    form = "parquet" if suffix == ".PARQUET" else None
    stars = QTable.read(path, format=form)
    assert number == len(stars) == 3007
    assert stars.colnames == expected.colnames
    assert {name: stars[name].unit for name in ("x", "v_x", "age", "mass")} == {
        "x": u.kpc,
        "v_x": u.km / u.s,
        "age": u.Gyr,
        "mass": u.Msun,
    }
    for name in expected.colnames:
        # Text of FITS files is bytes, which columns compare as text.
        assert (stars[name] == expected[name]).all()
    for key in ("MODEL", "MODELSHA", "SEED", "OPERATN"):
        assert stars.meta[key] == expected.meta[key]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_fresh_seed_is_noted(galaxies, model, tmp_path):
    for suffix in (".parquet", ".ecsv"):
        path = tmp_path / f"stars{suffix}"
        write_stars(path, galaxies, 30, model=model, device="cpu", chunk=20)
        stars = QTable.read(path)
        expected = galml.sample_stars(
            galaxies, 30, model=model, device="cpu", seed=stars.meta["SEED"]
        )
        assert (stars["x"] == expected["x"]).all()


def test_existing_file(galaxies, model, tmp_path):
    path = tmp_path / "stars.ecsv"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite"):
        write_stars(path, galaxies, 1, model=model)
    assert path.read_text() == "precious"
    assert write_stars(path, galaxies, 1, model=model, overwrite=True) == 3
    assert len(QTable.read(path)) == 3


@pytest.mark.parametrize("suffix", [".parquet", ".ecsv"])
def test_nothing_is_left_of_a_failure(galaxies, model, tmp_path, suffix):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_stars(
            tmp_path / f"stars{suffix}", galaxies, 3000, model=model, progress=stop
        )
    assert list(tmp_path.iterdir()) == []


def test_unknown_format(galaxies, model, tmp_path):
    with pytest.raises(InputError, match=".parquet or .fits or .ecsv"):
        write_stars(tmp_path / "stars.txt", galaxies, model=model)
    assert write_stars(tmp_path / "stars", galaxies, 1, model=model, format="fits") == 3
    assert len(QTable.read(tmp_path / "stars", format="fits")) == 3


def test_bad_galaxy(galaxies, model, tmp_path):
    galaxies["stellar_mass"][1] = np.nan * u.Msun
    with pytest.warns(GalmlWarning, match="1 of 3"):
        write_stars(tmp_path / "stars.parquet", galaxies, 2, model=model)
    stars = QTable.read(tmp_path / "stars.parquet")
    assert stars["galaxy_id"].tolist() == ["dwarf"] * 2 + ["spiral"] + ["giant"] * 2
    assert np.isnan(stars["age"][2])


@pytest.mark.parametrize("suffix", [".parquet", ".ecsv"])
def test_no_stars(galaxies, model, tmp_path, suffix):
    path = tmp_path / f"stars{suffix}"
    assert write_stars(path, galaxies, 0, model=model) == 0
    stars = QTable.read(path)
    assert len(stars) == 0
    assert stars["x"].unit == u.kpc


def test_stars_of_a_file_find_their_galaxies(galaxies, model, tmp_path):
    path = tmp_path / "stars.fits"
    write_stars(path, galaxies, 5, model=model)
    galaxies.write(tmp_path / "galaxies.ecsv")
    read = QTable.read(tmp_path / "galaxies.ecsv")
    found = galml.star_log_prob(QTable.read(path), read, model=model)
    assert np.isfinite(found["log_prob"]).all()


def test_memory_is_flat(galaxies, model, tmp_path):
    def peak(n):
        tracemalloc.start()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write_stars(
                tmp_path / "stars.parquet",
                galaxies[:1],
                n,
                model=model,
                device="cpu",
                chunk=20_000,
                overwrite=True,
            )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20_000)
    assert peak(150_000) < 1.3 * peak(40_000)
