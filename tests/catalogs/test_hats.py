# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import signal
import subprocess
import sys
import time

import astropy.units as u
import numpy as np
import pandas
import pytest
from astropy.table import QTable

import galml
from galml import catalogs
from galml.core import FileError, Flag, GalmlWarning, InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
lsdb = pytest.importorskip("lsdb")


@pytest.fixture
def hats(survey, tmp_path):
    """The galaxies of the survey, in several cells, under other names."""
    _, catalog = survey
    frame = catalog.to_pandas().rename(columns={"ra": "lon", "dec": "lat"})
    made = lsdb.from_dataframe(
        frame, ra_column="lon", dec_column="lat", partition_rows=12
    )
    made.write_catalog(tmp_path / "hats", as_collection=False, progress_bar=False)
    return tmp_path / "hats"


def test_survey_of_a_hats_catalog(survey, hats, tmp_path):
    folder, catalog = survey
    output, units = tmp_path / "out", {"r_eff": u.arcsec}
    options = {"images": str(folder / "*.fits"), "output": output, "units": units}
    summary = catalogs.run("spin", hats, **options)
    source = lsdb.open_catalog(hats)
    assert summary["rows"] == 24
    assert summary["computed"] == summary["partitions"] == source.npartitions > 2
    table = catalogs.read(output)
    assert table["ra"].unit == u.deg and table["spin_err"].info.description
    expected = [str(i) for i in source.compute(progress_bar=False)["id"]]
    assert table["name"].tolist() == expected
    catalogs.run("spin", catalog, images=options["images"], output=tmp_path / "plain")
    plain = catalogs.read(tmp_path / "plain")[[int(name) - 100 for name in expected]]
    np.testing.assert_allclose(table["spin"], plain["spin"], rtol=2e-5, atol=1e-5)

    back = lsdb.open_catalog(output)
    assert len(back) == 24 and back.npartitions == source.npartitions
    frame = back.compute(progress_bar=False)
    assert frame["spin"].tolist() == table["spin"].tolist()
    few = back.cone_search(45.0, 0.0, 20.0).compute(progress_bar=False)
    assert 0 < len(few) < 24
    plain_frame = pandas.read_parquet(output / "dataset")
    assert sorted(plain_frame["name"]) == sorted(expected)

    assert catalogs.run("spin", hats, **options)["computed"] == 0
    with pytest.raises(FileError, match="other options or inputs"):
        catalogs.run("spin", hats, **options | {"units": {"r_eff": "arcmin"}})
    with pytest.raises(FileError, match="other options or inputs"):
        catalogs.run("spin", source.query("id > 110"), **options)


def test_neighbors_beyond_a_cell_are_those_of_the_margin(survey, tmp_path):
    folder, catalog = survey
    # Two galaxies, a little to the north and south of where four cells meet.
    catalog["dec"][:2] = [-1.0, 1.0] * u.arcsec
    catalog["ra"][:2] = 45 * u.deg
    frame, units = catalog.to_pandas(), {"r_eff": u.arcsec}
    options = {"images": str(folder / "*.fits"), "units": units}
    flags = {}
    for margin in (None, 30.0):
        made = lsdb.from_dataframe(
            frame, partition_rows=12, margin_threshold=margin, drop_empty_siblings=False
        )
        output = tmp_path / f"out{margin}"
        catalogs.run("spin", made, output=output, **options)
        table = catalogs.read(output)
        table.sort("name")
        flags[margin] = np.asarray(table["flags"]) & int(Flag.NEIGHBORS) > 0
    output = tmp_path / "plain"
    catalogs.run("spin", catalog, images=options["images"], output=output)
    plain = np.asarray(catalogs.read(output)["flags"]) & int(Flag.NEIGHBORS) > 0
    assert plain[:2].all() and not flags[None][:2].any()
    np.testing.assert_array_equal(flags[30.0], plain)
    # With the last catalog, which has a margin, the first result is another one.
    with pytest.raises(FileError, match="other options or inputs"):
        catalogs.run("spin", made, output=tmp_path / "outNone", **options)


def test_units_are_needed_where_the_catalog_tells_none(survey, hats, tmp_path):
    folder, _ = survey
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    with pytest.raises(InputError, match="r_eff"):
        catalogs.run("spin", hats, **options)
    with pytest.raises(InputError, match="column 'radius'"):
        catalogs.run("spin", hats, units={"radius": "arcsec"}, **options)


def test_a_part_of_a_catalog(survey, hats, tmp_path):
    """What LSDB has still to select, with cells in which nothing is left."""
    folder, _ = survey
    some = lsdb.open_catalog(hats).query("id == 105 or id == 117")
    summary = catalogs.run(
        "spin",
        some,
        images=str(folder / "*.fits"),
        output=tmp_path / "out",
        units={"r_eff": "arcsec"},
        scheduler="none",
    )
    assert summary["rows"] == 2 and summary["partitions"] == some.npartitions > 2
    assert set(catalogs.read(tmp_path / "out")["name"]) == {"105", "117"}
    assert len(lsdb.open_catalog(tmp_path / "out")) == 2


def test_failures_are_counted_through_all_partitions(survey, hats, tmp_path):
    folder, _ = survey
    tiles = catalogs.index(str(folder / "*.fits"))
    (folder / "d.fits").write_bytes(b"no image")
    with pytest.warns(GalmlWarning, match="rows have no result"):
        catalogs.run(
            "spin",
            hats,
            images=tiles,
            output=tmp_path / "out",
            units={"r_eff": "arcsec"},
        )
    table = catalogs.read(tmp_path / "out")
    lost = np.flatnonzero(table["flags"] & int(Flag.UNREADABLE))
    assert 0 < len(lost) < 24
    assert catalogs.failures(tmp_path / "out")["row"].tolist() == lost.tolist()
    # Where they are is known, without a result.
    assert np.isfinite(table["ra"]).all() and np.isnan(table["spin"][lost]).all()


def test_what_is_wrong_with_which_column(survey, tmp_path):
    folder, catalog = survey
    catalog["r_eff"][[3, 7]] = [np.nan, -2] * u.arcsec
    made = lsdb.from_dataframe(catalog.to_pandas(), partition_rows=12)
    options = {"images": str(folder / "*.fits"), "units": {"r_eff": "arcsec"}}
    with pytest.warns(GalmlWarning, match="2 of 24 rows"):
        catalogs.run("spin", made, output=tmp_path / "out", **options)
    assert set(catalogs.failures(tmp_path / "out")["reason"]) == {
        "catalog['r_eff']: got nan arcsec, expected an angle above zero",
        "catalog['r_eff']: got -2.0 arcsec, expected an angle above zero",
    }


def test_stars_are_where_their_galaxies_are(galaxies, tmp_path):
    frame = galaxies.to_pandas()
    frame["ra"], frame["dec"] = np.linspace(10, 12, 12), np.linspace(0, 2, 12)
    frame["id"] = [f"g{i}" for i in range(12)]
    made = lsdb.from_dataframe(frame, partition_rows=4)
    units = {name: galaxies[name].unit for name in galaxies.colnames[:3]}
    options = {"units": units, "n": 10, "seed": 1}
    catalogs.run("sample_stars", made, output=tmp_path / "out", **options)
    stars = catalogs.read(tmp_path / "out")
    assert len(stars) == 120 == len(lsdb.open_catalog(tmp_path / "out"))
    number = [int(str(name)[1:]) for name in stars["galaxy_id"]]
    np.testing.assert_allclose(stars["ra"].value, frame["ra"].to_numpy()[number])
    plain = QTable(galaxies)
    plain["realization"] = stars["_healpix_29"][np.argsort(number, kind="stable")][::10]
    plain = galml.sample_stars(plain, n=10, seed=1)
    mine = stars["x"][np.array(number) == 7]
    np.testing.assert_allclose(mine, plain["x"][70:80], rtol=1e-4, atol=1e-5 * u.kpc)


def test_equal_galaxies_have_other_stars(galaxies, tmp_path):
    frame = galaxies[[0] * 12].to_pandas()
    frame["ra"], frame["dec"] = np.linspace(10, 12, 12), np.linspace(0, 2, 12)
    made = lsdb.from_dataframe(frame, partition_rows=4)
    units = {name: galaxies[name].unit for name in galaxies.colnames[:3]}
    options = {"units": units, "n": 3, "seed": 1}
    catalogs.run("sample_stars", made, output=tmp_path / "out", **options)
    assert len(np.unique(catalogs.read(tmp_path / "out")["x"])) == 36


def test_a_killed_run_goes_on(galaxies, tmp_path):
    frame = galaxies.to_pandas()
    frame["ra"], frame["dec"] = np.linspace(10, 30, 12), np.linspace(0, 20, 12)
    lsdb.from_dataframe(frame, partition_rows=2).write_catalog(
        tmp_path / "hats", as_collection=False, progress_bar=False
    )
    options = (
        "units={'stellar_mass': 'Msun', 'median_age': 'Gyr', "
        "'age_percentile_10': 'Gyr'}, n=20000, seed=1, scheduler='none')"
    )
    code = (
        "import sys; from galml import catalogs; "
        "catalogs.run('sample_stars', sys.argv[1], output=sys.argv[2], " + options
    )
    source, output = tmp_path / "hats", tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, source, output])
    limit = time.monotonic() + 300
    while len(list(output.glob("_done/*"))) < 2 and time.monotonic() < limit:
        assert process.poll() is None, "ended before it was killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(InputError, match="no run has come to its end"):
        catalogs.read(output)
    for path in (output, tmp_path / "whole"):
        subprocess.run([sys.executable, "-c", code, source, path], check=True)
    parts = {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.glob("dataset/*/*/*.parquet")
    }
    assert len(parts) > 3
    for name, content in parts.items():
        assert (tmp_path / "whole" / name).read_bytes() == content
    assert len(lsdb.open_catalog(output)) == 240_000
