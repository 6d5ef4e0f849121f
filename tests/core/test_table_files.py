# Licensed under a 3-clause BSD style license - see LICENSE.rst
import bz2
import gzip
import lzma

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from galml.core import InputError, table_files
from galml.core.table_files import read_table


def test_read_table(tmp_path):
    table = QTable({"a": [1, 2] * u.km})
    table.write(tmp_path / "table.ecsv")
    assert (read_table(tmp_path / "table.ecsv", argument="x")["a"] == table["a"]).all()
    hdus = [fits.PrimaryHDU(), fits.table_to_hdu(table), fits.table_to_hdu(table[:1])]
    fits.HDUList(hdus).writeto(tmp_path / "table.fits")
    assert len(read_table(tmp_path / "table.fits", argument="x", hdu=2)) == 1
    for name in ("a.ecsv", "b.unknown", "c.fits"):
        (tmp_path / name).write_text("nothing")
        with pytest.raises(InputError, match=f"x: got .*{name}, which cannot be read"):
            read_table(tmp_path / name, argument="x")
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "missing.ecsv", argument="x")


@pytest.mark.parametrize("unpack", [gzip.open, bz2.open, lzma.open])
def test_packed_tables_are_judged_before_they_are_read(tmp_path, monkeypatch, unpack):
    table = QTable({"a": np.zeros(2000)})
    table.write(tmp_path / "table.ecsv")
    text = (tmp_path / "table.ecsv").read_bytes()
    path = tmp_path / "packed.ecsv"
    with unpack(path, "wb") as file:
        file.write(text)
    assert path.stat().st_size < len(text) / 10
    options = {"argument": "catalog"}
    monkeypatch.setattr(table_files, "MOST_BYTES", len(text))
    assert len(read_table(path, **options)) == 2000
    monkeypatch.setattr(table_files, "MOST_BYTES", len(text) - 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (path, "~/packed.ecsv"):
        with pytest.raises(InputError, match="catalog: got more than .* bytes in"):
            read_table(name, **options)


@pytest.mark.parametrize(
    ("suffix", "needed", "options"),
    [("parquet", "pyarrow", {}), ("hdf5", "h5py", {"path": "t", "compression": True})],
)
def test_binary_tables_are_judged_before_they_are_read(
    tmp_path, monkeypatch, suffix, needed, options
):
    pytest.importorskip(needed)
    path = tmp_path / f"table.{suffix}"
    QTable({"a": np.zeros(2000), "b": np.ones(2000)}).write(path, **options)
    monkeypatch.setattr(table_files, "MOST_PIXELS", 4000)
    assert len(read_table(path, argument="catalog")) == 2000
    monkeypatch.setattr(table_files, "MOST_PIXELS", 3999)
    with pytest.raises(InputError, match="got 4000 values in .*galml.catalogs"):
        read_table(path, argument="catalog")


def test_tables_in_asdf_are_judged_before_they_are_read(tmp_path, monkeypatch):
    pytest.importorskip("asdf_astropy")
    path = tmp_path / "table.asdf"
    table = QTable({"a": np.zeros(2000), "b": np.ones(2000)})
    table.write(path, all_array_compression="zlib")
    assert path.stat().st_size < 16_000
    monkeypatch.setattr(table_files, "MOST_BYTES", 32_000)
    assert len(read_table(path, argument="catalog")) == 2000
    monkeypatch.setattr(table_files, "MOST_BYTES", 31_999)
    with pytest.raises(InputError, match="catalog: got more than 31999 bytes in"):
        read_table(path, argument="catalog")
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"\xd3BLK") + 9])
    with pytest.raises(InputError, match="catalog: got .*, which cannot be read"):
        read_table(path, argument="catalog")
