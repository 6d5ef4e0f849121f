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

import galml
from galml import catalogs
from galml.core import FileError, Flag, GalmlWarning, InputError

COLUMNS = ["spin", "spin_err", "ellipticity", "novelty"]


def bytes_of(output):
    return {path.name: path.read_bytes() for path in output.glob("part-*")}


def test_survey_gives_what_the_plain_call_gives(survey, tmp_path):
    folder, catalog = survey
    tiles = sorted(map(str, folder.glob("*.fits")))
    stack = galml.extract_cutouts(
        {"r": tiles}, catalog, size=2 * 2.8284271247461903 * 1.5 * galml.cutouts.R_EFF,
        n_pixels=72,
    )  # fmt: skip
    plain = galml.spin(stack)
    summary = catalogs.run(
        "spin",
        catalog,
        images=str(folder / "*.fits"),
        output=tmp_path / "out",
        partition_size=10,
    )
    assert summary == {"rows": 24, "partitions": 3, "computed": 3, "failed": 0}
    table = catalogs.read(tmp_path / "out")
    assert table["name"].tolist() == [str(i) for i in catalog["id"]]
    assert np.isfinite(table["spin"]).all()
    for name in COLUMNS:
        np.testing.assert_allclose(table[name], plain[name], rtol=2e-5, atol=1e-5)
    assert table["ra"].unit == u.deg and table.meta["OPERATN"] == "spin"
    frame = pandas.read_parquet(tmp_path / "out")
    assert frame["spin"].tolist() == table["spin"].tolist()


def test_a_tile_that_cannot_be_read_is_flagged_rows(survey, tmp_path):
    folder, catalog = survey
    tiles = catalogs.index(str(folder / "*.fits"))
    (folder / "d.fits").write_bytes(b"no image")
    with pytest.warns(GalmlWarning, match="rows have no result"):
        summary = catalogs.run("spin", catalog, images=tiles, output=tmp_path / "out")
    table = catalogs.read(tmp_path / "out")
    lost = (table["flags"] & int(Flag.UNREADABLE)) != 0
    assert 0 < lost.sum() < 24 and summary["failed"] == lost.sum()
    assert np.isnan(table["spin"][lost]).all()
    assert np.isfinite(table["spin"][~lost]).all()
    told = catalogs.failures(tmp_path / "out")
    assert told["row"].tolist() == np.flatnonzero(lost).tolist()
    assert all("d.fits" in reason for reason in told["reason"])


def test_files_are_the_same_after_a_kill(galaxies, tmp_path):
    galaxies[:6].write(tmp_path / "galaxies.ecsv")
    code = (
        "import sys; from galml import catalogs; catalogs.run('sample_stars', "
        "sys.argv[1], output=sys.argv[2], n=8000, seed=1, partition_size=1)"
    )
    source, output = tmp_path / "galaxies.ecsv", tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, source, output])
    limit = time.monotonic() + 300
    while len(list(output.glob("part-*"))) < 2 and time.monotonic() < limit:
        assert process.poll() is None, "ended before it was killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = bytes_of(output)
    assert 2 <= len(there) < 6
    options = {"n": 8000, "seed": 1, "partition_size": 1}
    with pytest.raises(FileError, match="other options"):
        catalogs.run("sample_stars", source, output=output, **options | {"n": 7})
    summary = catalogs.run("sample_stars", source, output=output, **options)
    assert summary["computed"] == 6 - len(there)
    catalogs.run("sample_stars", source, output=tmp_path / "other", **options)
    assert bytes_of(output) == bytes_of(tmp_path / "other")
    assert not list(output.glob("_tmp*"))
    again = catalogs.run("sample_stars", source, output=output, **options)
    assert again["computed"] == 0


def test_workers_give_what_one_process_gives(galaxies, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n": 50, "seed": 1, "partition_size": 2}
    catalogs.run("sample_stars", galaxies, output=tmp_path / "one", **options)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        catalogs.run(
            "sample_stars",
            galaxies,
            output=tmp_path / "two",
            scheduler=client,
            **options,
        )
    one, two = (catalogs.read(tmp_path / name) for name in ("one", "two"))
    assert len(one) == 600 and one["galaxy_id"].tolist() == two["galaxy_id"].tolist()
    np.testing.assert_allclose(one["x"], two["x"], rtol=1e-4, atol=1e-5 * u.kpc)


def test_refusals(galaxies, tmp_path):
    from galml.core.runs import locked

    with pytest.raises(InputError, match="operation"):
        catalogs.run("nothing", galaxies, output=tmp_path / "out")
    with pytest.raises(InputError, match="radius"):
        catalogs.run("sample_stars", galaxies, output=tmp_path / "out", radius=3)
    with locked(tmp_path / "out"), pytest.raises(FileError, match="another run"):
        catalogs.run("sample_stars", galaxies, output=tmp_path / "out", n=5)
    with pytest.raises(InputError, match="no run has come to its end"):
        catalogs.read(tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(FileError, match="something else"):
        catalogs.run("sample_stars", galaxies, output=tmp_path / "full", n=5)
