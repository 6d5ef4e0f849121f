# Licensed under a 3-clause BSD style license - see LICENSE.rst
import io
import os
import tracemalloc

import astropy.units as u
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import votable
from astropy.table import QTable, vstack

from galml import catalogs
from galml.catalogs.sources import open_source
from galml.core import InputError


def rows_of(source, size, names=None):
    batches = list(source.batches(size, names))
    assert [len(b) for b in batches[:-1]] == [size] * (len(batches) - 1)
    return vstack(batches)


@pytest.fixture
def table():
    n = 25
    return QTable(
        {
            "name": [f"galaxy {'x' * i}" for i in range(n)],
            "mass": np.linspace(1, 2, n) * u.Msun,
            "count": np.arange(n),
            "sky": SkyCoord(np.arange(n), np.arange(n), unit="deg"),
        }
    )


def test_files_of_any_row_groups_are_one_catalog(table, tmp_path):
    for number, some in enumerate([table[:4], table[4:5], table[5:]]):
        some.write(tmp_path / f"{number}.parquet")
    source = open_source(str(tmp_path / "*.parquet"))
    assert source.length == 25 and source.names == table.colnames
    found = rows_of(source, 7)
    assert found["name"].tolist() == table["name"].tolist()
    assert found["mass"].unit == u.Msun
    np.testing.assert_array_equal(found["mass"], table["mass"])
    np.testing.assert_array_equal(found["sky"].ra.deg, table["sky"].ra.deg)
    assert rows_of(source, 7, ["mass", "name"]).colnames == ["mass", "name"]


def test_a_folder_of_parts_is_a_catalog(table, tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(InputError, match="without parquet files"):
        open_source(tmp_path / "parts")
    for number in range(5):
        rows = slice(number * 5, number * 5 + 5)
        table[rows].write(tmp_path / "parts" / f"part-{number}.parquet")
    source = open_source(tmp_path / "parts")
    assert rows_of(source, 10)["count"].tolist() == list(range(25))


def test_a_file_is_not_read_as_a_whole(tmp_path):
    path, n = tmp_path / "large.parquet", 400_000
    numbers = {f"x{i}": np.random.default_rng(i).normal(size=n) for i in range(8)}
    pq.write_table(pa.table(numbers), path, row_group_size=20_000)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most = total = 0
    for batch in open_source(path).batches(5_000):
        total += len(batch)
        most = max(most, pa.total_allocated_bytes() - before)
    _, python = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == n
    assert most + python < 0.3 * n * 8 * 8


def test_units_of_plain_files_are_given(tmp_path):
    frame = pandas.DataFrame({"mass": [1.0, None], "n": [1, 2], "name": ["a", None]})
    frame.to_parquet(tmp_path / "plain.parquet")
    source = open_source(tmp_path / "plain.parquet", {"mass": "Msun", "n": u.Gyr})
    (found,) = source.batches(10)
    assert found["mass"].unit == u.Msun and found["n"].unit == u.Gyr
    assert found["mass"][0] == 1 * u.Msun and np.isnan(found["mass"][1])
    assert found["name"].tolist() == ["a", ""]
    with pytest.raises(InputError, match="column 'age'"):
        open_source(tmp_path / "plain.parquet", {"age": "Gyr"})
    with pytest.raises(InputError, match="'nonsense'"):
        open_source(tmp_path / "plain.parquet", {"mass": "nonsense"})


def test_units_of_a_votable_in_the_file(tmp_path):
    table = QTable({"mass": [1.0, 2.0] * u.Msun, "n": [1, 2]})
    text = io.BytesIO()
    votable.from_table(table).to_xml(text)
    metadata = {b"IVOA.VOTable-Parquet.content": text.getvalue()}
    arrow = pa.table({"mass": [1.0, 2.0], "n": [1, 2]})
    pq.write_table(arrow.replace_schema_metadata(metadata), tmp_path / "vo.parquet")
    (found,) = open_source(tmp_path / "vo.parquet").batches(10)
    assert found["mass"].unit == u.Msun and found["n"].unit is None


def test_what_is_nested_is_left_out(tmp_path):
    arrow = pa.table({"id": [1, 2], "light": [[1.0, 2.0], [3.0]], "s": [{"a": 1}] * 2})
    pq.write_table(arrow, tmp_path / "nested.parquet")
    (found,) = open_source(tmp_path / "nested.parquet").batches(10)
    assert found.colnames == ["id"]


def test_another_file_is_another_catalog(table, tmp_path):
    table.write(tmp_path / "a.parquet")
    first = open_source(tmp_path / "a.parquet").identity
    assert open_source(tmp_path / "a.parquet").identity == first
    table[:20].write(tmp_path / "a.parquet", overwrite=True)
    assert open_source(tmp_path / "a.parquet").identity != first
    changed = table.copy()
    changed["mass"][3] += 1e-12 * u.Msun
    assert open_source(changed).identity != open_source(table).identity
    with pytest.raises(InputError, match="cannot be read"):
        (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing else")
        open_source(tmp_path / "b.parquet")


def test_parquet_files_in_any_order_of_the_sky(survey, tmp_path):
    folder, catalog = survey
    mixed = catalog[np.random.default_rng(1).permutation(24)]
    mixed[:9].write(tmp_path / "1.parquet")
    mixed[9:].write(tmp_path / "2.parquet")
    tiles = catalogs.index(str(folder / "*.fits"))
    for name, source in {
        "table": catalog,
        "files": str(tmp_path / "*.parquet"),
    }.items():
        catalogs.run(
            "spin", source, images=tiles, output=tmp_path / name, partition_size=5
        )
    table, files = (catalogs.read(tmp_path / name) for name in ("table", "files"))
    assert files["name"].tolist() == [str(i) for i in mixed["id"]]
    frame = pandas.read_parquet(tmp_path / "files")
    assert frame["name"].tolist() == files["name"].tolist()
    table = table[np.argsort(table["name"])]
    files = files[np.argsort(files["name"])]
    assert table["flags"].tolist() == files["flags"].tolist()
    np.testing.assert_allclose(table["spin"], files["spin"], rtol=2e-5, atol=1e-5)


def test_dask_dataframes(galaxies, tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(galaxies.to_pandas(), npartitions=5)
    units = {name: galaxies[name].unit for name in galaxies.colnames[:3]}
    options = {"n": 20, "seed": 1, "partition_size": 5}
    with pytest.raises(InputError):
        catalogs.run("sample_stars", frame, output=tmp_path / "none", **options)
    catalogs.run("sample_stars", frame, output=tmp_path / "a", units=units, **options)
    catalogs.run("sample_stars", galaxies, output=tmp_path / "b", **options)
    one, two = (catalogs.read(tmp_path / name) for name in "ab")
    assert one["galaxy_id"].tolist() == two["galaxy_id"].tolist()
    np.testing.assert_array_equal(one["x"], two["x"])
    again = catalogs.run(
        "sample_stars", frame, output=tmp_path / "a", units=units, **options
    )
    assert again["computed"] == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_pipes_are_refused(tmp_path):
    for name in ("pipe.parquet", "pipe.ecsv"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="catalog: got .*, a pipe or device"):
            open_source(str(tmp_path / name), None)


def test_addresses_are_refused(tmp_path):
    address = "https://example.org/galaxies.parquet"
    with pytest.raises(InputError, match=f"catalog: got the address {address}"):
        catalogs.run("spin", address, output=tmp_path / "spins")
    table = QTable({"id": [1]})
    with pytest.raises(InputError, match="output: got the address s3://bucket/spins"):
        catalogs.run("spin", table, output="s3://bucket/spins")
