# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import QTable
from astropy.time import Time

import galml
from galml import __version__
from galml.core import Flag, GalmlWarning, InputError
from galml.core.results import build_table, collected_reasons, to_votable, warn_batch

SHA = "0123456789abcdef" * 4


def make(names=("NGC 1", None, "NGC 3"), **changes):
    options = {
        "operation": "circularity",
        "model": SimpleNamespace(name="default", sha256=SHA),
        "names": names,
        "flags": [0, 1, 512],
        "device": "cpu",
        "dtype": "float32",
        "seed": 7,
        "call": {"redshift": 0.01, "beam": "2 µas\n" * 40},
    }
    columns = {
        "position_angle": [10.0, np.nan, 350.0] * u.deg,
        "circularity": np.array([0.1, np.nan, 0.9], dtype=np.float32),
        "latent": np.arange(6.0).reshape(3, 2),
    }
    return build_table(columns, **(options | changes))


def test_columns_in_order():
    table = make()
    assert isinstance(table, QTable)
    assert table.colnames == [
        "name",
        "position_angle",
        "circularity",
        "latent",
        "flags",
    ]
    assert list(table["name"]) == ["NGC 1", "", "NGC 3"]
    assert table["position_angle"].unit == u.deg
    assert table["flags"].dtype == np.int32


@pytest.mark.parametrize(
    "column",
    [
        [1.0, np.nan, np.nan],
        [1.0, np.nan, np.nan] * u.deg,
        np.array([[1, 2], [np.nan, 2], [3, np.nan]], dtype=np.float32),
    ],
)
def test_what_is_no_number_has_failed(column):
    """And a row that has failed has no number."""
    column = column if isinstance(column, np.ndarray) else np.array(column)
    columns = {
        "q": np.ones(3),
        "q_err": np.full(3, np.nan),
        "a": column,
        "s": [2.0] * 3,
    }
    columns["s"] = np.array(columns["s"])
    options = {"device": "cpu", "dtype": "float32", "seed": None, "call": {}}
    table = build_table(columns, operation="o", flags=[0, 1, 4], **options)
    assert list(table["flags"]) == [0, 1, 5]
    assert list(np.isnan(table["q"])) == list(np.isnan(table["s"])) == [0, 0, 1]
    assert np.isnan(np.asarray(table["a"])[2]).all()
    assert np.isfinite(columns["q"]).all()
    table = build_table(
        columns, operation="o", flags=[0] * 3, optional=["a"], **options
    )
    assert list(table["flags"]) == [0, 0, 0]
    assert list(table["q"]) == [1, 1, 1]


@pytest.mark.parametrize("names", [None, [None, None, None], ["", None, ""]])
def test_no_name_column_without_names(names):
    assert "name" not in make(names=names).colnames


def test_empty_batch():
    table = build_table(
        {"q": np.empty(0), "a": np.empty((0, 3)) * u.deg},
        operation="o",
        flags=[],
        names=[],
        device="cpu",
        dtype="float32",
        seed=None,
        call={},
    )
    assert len(table) == 0
    assert table.colnames == ["q", "a", "flags"]


def test_meta_is_what_a_fits_header_holds():
    meta = make().meta
    assert meta["GALMLVER"] == __version__
    assert meta["MODELSHA"] == SHA
    assert meta["SEED"] == 7
    assert meta["ARG_1"] == "redshift=0.01"
    assert Time(meta["DATE"]).isot.startswith(meta["DATE"])
    for key, value in meta.items():
        assert len(key) <= 8
        assert key == key.upper()
        assert isinstance(value, int) or (value.isascii() and len(value) <= 68)
        assert "\n" not in str(value)


def test_unknown_is_left_out_of_meta():
    meta = make(model=None, seed=None).meta
    assert not {"MODEL", "MODELSHA", "SEED"} & set(meta)


@pytest.mark.parametrize(
    ("suffix", "kind", "keeps_meta"),
    [
        ("ecsv", "ascii.ecsv", True),
        ("fits", "fits", True),
        ("vot", "votable", False),
        ("parquet", "parquet", True),
    ],
)
def test_round_trips(tmp_path, suffix, kind, keeps_meta):
    table = make()
    path = tmp_path / f"results.{suffix}"
    table.write(path, format=kind)
    again = QTable.read(path, format=kind)
    assert again.colnames == table.colnames
    assert again["position_angle"].unit == u.deg
    for key in ("circularity", "latent", "flags", "position_angle"):
        column = again[key]
        # Some formats read NaN, or an empty text, as masked.
        values = getattr(column, "unmasked", column)
        np.testing.assert_array_equal(
            np.ma.getdata(getattr(values, "value", values)),
            getattr(table[key], "value", table[key]),
        )
        assert column.dtype.kind == table[key].dtype.kind
    names = np.ma.filled(again["name"], "")
    assert [str(name) for name in names] == list(table["name"])
    if keeps_meta:
        assert {key: again.meta[key] for key in table.meta} == table.meta


def test_votables_keep_where_results_come_from(tmp_path):
    table = make()
    to_votable(table).to_xml(str(tmp_path / "results.vot"))
    (resource,) = parse(tmp_path / "results.vot").resources
    found = {info.name: info.value for info in resource.infos}
    assert found == {key: str(value) for key, value in table.meta.items()}
    assert QTable.read(tmp_path / "results.vot").colnames == table.colnames


def test_columns_tell_what_they_are():
    names = ("spin_err", "ellipticity", "mine")
    options = {"device": "cpu", "dtype": "float32", "seed": None, "call": {}}
    columns = {name: np.ones(3) for name in names}
    table = build_table(columns, operation="spin", flags=[0] * 3, **options)
    assert table["spin_err"].info.description == "1 sigma error of spin"
    assert "1 - b/a" in table["ellipticity"].info.description
    assert table["mine"].info.description is None
    columns = {"x": np.ones(3), "snr": np.ones(3)}
    found = build_table(columns, operation="detect", flags=[0] * 3, **options)
    assert found["x"].info.description.startswith("Pixel") and found["snr"].description


def test_places_on_the_sky_stand_beside_the_names():
    places = np.array([[10.123456789, -2.0], [np.nan] * 2, [359.9, 89.0]])
    table = make(places=places)
    assert table.colnames[:3] == ["name", "ra", "dec"]
    np.testing.assert_array_equal(table["ra"].to_value(u.deg), places[:, 0])
    assert table["dec"].info.format.endswith("5f")
    assert "ra" not in make(places=np.full((3, 2), np.nan)).colnames


def test_one_warning_sums_up():
    flags = [0, Flag.FAILED, Flag.UNREADABLE | Flag.FAILED, Flag.UNREADABLE, 512]
    errors = [ValueError("too small"), OSError("no file"), OSError("no disk")]
    with pytest.warns(GalmlWarning) as caught:
        warn_batch(flags, errors)
    assert len(caught) == 1
    assert str(caught[0].message) == (
        "3 of 5 rows have no result: unreadable 2, failed 1 (first: too small)"
    )


def test_the_warning_points_at_the_caller():
    def operation():
        warn_batch([1], [ValueError("x")])

    with pytest.warns(GalmlWarning) as caught:
        operation()
    assert caught[0].filename == __file__


@pytest.mark.parametrize("flags", [[], [0], [512, 2048]])
def test_no_warning_when_all_went_well(flags):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_batch(flags, [])
    assert caught == []


def test_one_reason_for_all_rows():
    with pytest.warns(GalmlWarning, match="first: data: got a map") as caught:
        warn_batch([1, 0, 1], InputError("data", "a map", "a cube"))
    assert list(caught[0].message.reasons) == [0, 2]


def test_the_warning_tells_why_row_by_row():
    errors = [InputError("data", "a map", "a cube"), None, MemoryError()]
    with pytest.warns(GalmlWarning, match="first: data: got a map") as caught:
        warn_batch([1, 0, 1, 1], errors)
    assert caught[0].message.reasons == {
        0: "data: got a map, expected a cube",
        3: "MemoryError",
    }


def test_reasons_are_collected_by_each_thread_for_itself():
    def told(number):
        with collected_reasons() as reasons:
            barrier.wait(10)
            warn_batch([0, 1, number % 2], [ValueError(number)] * (1 + number % 2))
            barrier.wait(10)
        return reasons

    barrier = Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(told, range(4)))
    assert found == [{1: "0"}, {1: "1", 2: "1"}, {1: "2"}, {1: "3", 2: "3"}]
    with pytest.warns(GalmlWarning, match="rows have no result"):
        warn_batch([1], [ValueError()])


def test_a_single_error_is_no_reason_of_many_rows():
    with pytest.warns(GalmlWarning, match="first: x") as caught:
        warn_batch([1, 1], [ValueError("x")])
    assert caught[0].message.reasons == {}


def test_votable_of_places_on_the_sky(tmp_path):
    table = QTable(
        {"flux": [1.0, 2.0] * u.nJy, "sky": SkyCoord([1, 2], [3, 4], unit="deg")}
    )
    table.meta["OPERATN"] = "detect"
    votable = to_votable(table)
    votable.to_xml(str(tmp_path / "table.vot"))
    read = QTable.read(tmp_path / "table.vot", format="votable")
    assert read.colnames == ["flux", "sky.ra", "sky.dec"]
    assert read["flux"].unit == u.nJy and (read["sky.dec"] == [3, 4] * u.deg).all()
    assert [info.value for info in votable.resources[0].infos] == ["detect"]


@pytest.mark.parametrize("kind", ["ascii.ecsv", "votable", "parquet", "fits"])
def test_names_of_files_that_are_not_utf8(tmp_path, kind):
    """Names keep what they were, in escapes that every format holds."""
    path = tmp_path / os.fsdecode(b"ngc\xe9\n1.fits")
    y, x = np.indices((40, 40)) - 19.5
    header = fits.Header({"BUNIT": "km/s"})
    try:
        fits.PrimaryHDU(150 * np.tanh(x / 5), header).writeto(path)
    except OSError:
        pytest.skip("this file system has no such names")
    missing = f"{path}.gz"
    with pytest.warns(GalmlWarning, match=r"ngc\\xe9 1.fits.gz, expected") as caught:
        table = galml.circularity([path, missing])
    assert table["flags"].tolist()[0] & int(Flag.FAILED) == 0
    assert r"\xe9" in caught[0].message.reasons[1]
    file = tmp_path / "table"
    table.write(file, format=kind)
    read = QTable.read(file, format=kind)
    assert str(read["name"][0]) == r"ngc\xe9\n1"
