# Licensed under a 3-clause BSD style license - see LICENSE.rst
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from astropy.utils.masked import Masked
from pyarrow import parquet

import galml
from galml import catalogs
from galml.catalogs import work
from galml.catalogs.dataset import Dataset
from galml.core import (
    FileError,
    Flag,
    GalmlWarning,
    InputError,
    InputTypeError,
    RunError,
)

COLUMNS = ["spin", "spin_err", "ellipticity", "novelty"]


def test_survey_gives_what_the_plain_call_gives(survey, tmp_path):
    folder, catalog = survey
    tiles = sorted(map(str, folder.glob("*.fits")))
    stack = galml.extract_cutouts(
        {"r": tiles}, catalog, size=2 * 2.8284271247461903 * 1.5 * galml.cutouts.R_EFF,
        n_pixels=72,
    )  # fmt: skip
    plain = galml.spin(stack)
    # Neighbors of which one cannot tell, where they are in another partition.
    assert 0 < np.count_nonzero(plain["flags"] & int(Flag.NEIGHBORS)) < 24
    summary = catalogs.run(
        "spin",
        catalog,
        images=str(folder / "*.fits"),
        output=tmp_path / "out",
        partition_size=5,
    )
    assert summary == {"rows": 24, "partitions": 5, "computed": 5, "failed": 0}
    table = catalogs.read(tmp_path / "out")
    assert table["name"].tolist() == [str(i) for i in catalog["id"]]
    assert np.isfinite(table["spin"]).all()
    for name in COLUMNS:
        np.testing.assert_allclose(table[name], plain[name], rtol=2e-5, atol=1e-5)
    assert table["flags"].tolist() == plain["flags"].tolist()
    np.testing.assert_allclose(table["ra"], catalog["ra"], rtol=1e-12)
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


def test_each_tile_is_opened_once(survey, tmp_path, monkeypatch):
    """However rows of neighbors are spread over partitions."""
    folder, catalog = survey
    tiles = catalogs.index(str(folder / "*.fits"))
    opened, real = [], fits.open
    monkeypatch.setattr(fits, "open", lambda f, **o: opened.append(f) or real(f, **o))
    output = tmp_path / "out"
    catalogs.run("spin", catalog, images=tiles, output=output, partition_size=3)
    assert sorted(opened) == sorted(tiles["path"])


def test_galaxies_on_seams_take_both_tiles(survey, tmp_path):
    folder, catalog = survey
    options = {"size": 20 * u.arcsec, "n_pixels": 50, "partition_size": 7}
    catalogs.run(
        "extract_cutouts",
        catalog,
        images=str(folder / "*.fits"),
        output=tmp_path / "out",
        **options,
    )
    table = catalogs.read(tmp_path / "out")
    assert table["r"].unit == u.nJy and table["r"].shape == (24, 50, 50)
    assert table["name"].tolist() == [str(i) for i in catalog["id"]]
    # The first galaxy is in the middle of a seam.
    assert np.isfinite(table["r"][0]).all() and table["masked_fraction"][0] == 0
    peaks = table["r"].value.reshape(24, -1).argmax(axis=1)
    assert peaks[0] in (24 * 50 + 24, 24 * 50 + 25, 25 * 50 + 24, 25 * 50 + 25)
    stack = galml.extract_cutouts(
        {"r": sorted(map(str, folder.glob("*.fits")))},
        catalog,
        size=20 * u.arcsec,
        n_pixels=50,
    )
    plain = np.where(stack.mask, np.nan, stack.data.value)[:, 0]
    np.testing.assert_allclose(table["r"].value, plain, rtol=1e-5, atol=1e-4)
    assert table["flags"].tolist() == stack.flags.tolist()


def test_a_tile_that_breaks_off_is_flagged_rows(survey, tmp_path):
    folder, catalog = survey
    whole = (folder / "d.fits").read_bytes()
    (folder / "d.fits").write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)
        tiles = catalogs.index(str(folder / "*.fits"))
    with pytest.warns(GalmlWarning, match="rows have no result") as caught:
        catalogs.run("spin", catalog, images=tiles, output=tmp_path / "out")
    assert len(caught) == 1
    table = catalogs.read(tmp_path / "out")
    lost = (table["flags"] & int(Flag.UNREADABLE)) != 0
    assert 0 < lost.sum() < 24 and np.isnan(table["spin"][lost]).all()
    told = catalogs.failures(tmp_path / "out")
    assert told["row"].tolist() == np.flatnonzero(lost).tolist()
    assert all("d.fits" in reason for reason in told["reason"])


def test_a_tile_of_one_band_that_breaks_off_is_told(survey, tmp_path):
    """Whatever the other bands show."""
    folder, catalog = survey
    path = folder / "d-g.fits"
    whole = (folder / "d.fits").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)
        images = {"g": str(path), "r": str(folder / "?.fits")}
        for size in (2880, 60_000):
            path.write_bytes(whole[:size])
            output = tmp_path / str(size)
            catalogs.run("spin", catalog, images=images, output=output)
            table, told = catalogs.read(output), catalogs.failures(output)
            lost = np.flatnonzero(table["flags"] & int(Flag.UNREADABLE))
            assert 0 < len(lost) < 24 and told["row"].tolist() == lost.tolist()
            assert np.isnan(table["spin"][lost]).all()
            for reason in told["reason"]:
                assert "d-g.fits, which cannot be read" in reason
                assert "a.fits" not in reason and "d.fits" not in reason


def test_no_tile_of_the_only_band_can_be_read(survey, tmp_path):
    folder, catalog = survey
    tiles = catalogs.index(str(folder / "*.fits"))
    for path in tiles["path"]:
        Path(path).write_bytes(b"no image")
    with pytest.warns(GalmlWarning, match="24 of 24 rows"):
        summary = catalogs.run("spin", catalog, images=tiles, output=tmp_path / "out")
    assert summary["failed"] == 24
    assert (catalogs.read(tmp_path / "out")["flags"] & int(Flag.UNREADABLE)).all()


def test_rows_without_a_position_or_off_all_tiles(survey, tmp_path):
    folder, catalog = survey
    catalog["ra"][3] = np.nan
    catalog["dec"][5] = -40 * u.deg
    with pytest.warns(GalmlWarning, match="2 of 24 rows"):
        catalogs.run(
            "spin",
            catalog,
            images=str(folder / "*.fits"),
            output=tmp_path / "out",
            partition_size=1,
        )
    told = catalogs.failures(tmp_path / "out")
    assert told["row"].tolist() == [3, 5]
    assert told["reason"].tolist() == [
        "catalog['ra']: got nan, expected a position on the sky",
        "no tile shows it",
    ]
    table = catalogs.read(tmp_path / "out")
    assert np.flatnonzero(np.isnan(table["spin"])).tolist() == [3, 5]


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("dec", np.nan, "catalog['dec']: got nan"),
        ("dec", 95.0, "catalog['dec']: got 95.0"),
        ("ra", np.ma.masked, "catalog['ra']: got a masked value"),
        ("r_eff", np.nan, "catalog['r_eff']: got nan arcsec"),
        ("r_eff", -1.0, "catalog['r_eff']: got -1.0 arcsec"),
        ("r_eff", 0.0, "catalog['r_eff']: got 0.0 arcsec"),
        ("r_eff", np.inf, "catalog['r_eff']: got inf arcsec"),
        ("r_eff", np.ma.masked, "catalog['r_eff']: got a masked value"),
    ],
)
def test_what_is_wrong_with_which_column(survey, tmp_path, name, value, told):
    folder, catalog = survey
    columns = {"ra": catalog["ra"].deg, "dec": catalog["dec"].deg}
    columns["r_eff"] = catalog["r_eff"].value
    table = Table({key: MaskedColumn(one) for key, one in columns.items()})
    table["r_eff"].unit = "arcsec"
    table[name][3] = value
    options = {"size": 4 * galml.cutouts.R_EFF, "n_pixels": 40}
    for operation, keywords in {"spin": {}, "extract_cutouts": options}.items():
        keywords |= {"images": str(folder / "*.fits"), "output": tmp_path / operation}
        with pytest.warns(GalmlWarning, match="1 of 24 rows"):
            catalogs.run(operation, table, **keywords)
        failed = catalogs.failures(keywords["output"])
        assert failed["row"].tolist() == [3]
        assert failed["reason"][0].startswith(told)


def test_other_columns_of_positions(survey, tmp_path):
    folder, catalog = survey
    ra, dec = catalog["ra"].deg, catalog["dec"].deg
    dec[3] = np.nan
    sky = SkyCoord(ra, dec, unit="deg")
    images = str(folder / "*.fits")
    for name, table in {
        "sky": QTable({"sky": sky}),
        "DEJ2000": QTable({"RAJ2000": ra, "DEJ2000": dec}),
    }.items():
        table["r_eff"] = catalog["r_eff"]
        with pytest.warns(GalmlWarning, match="1 of 24 rows"):
            catalogs.run("spin", table, images=images, output=tmp_path / name)
        (reason,) = catalogs.failures(tmp_path / name)["reason"]
        assert reason.startswith(f"catalog[{name!r}]: got ") and "nan" in reason
    for unit, told in {u.pix: "the unit pix", u.one: "no unit"}.items():
        table["r_eff"] = catalog["r_eff"].value
        table["r_eff"].unit = None if unit == u.one else unit
        with pytest.raises(InputError, match=f"r_eff.*: got {told}"):
            catalogs.run("spin", table, images=images, output=tmp_path / "none")


def test_units_that_differ_in_kind_are_found_at_once(survey, tmp_path):
    folder, catalog = survey
    with fits.open(folder / "d.fits", mode="update") as hdus:
        hdus[0].header["BUNIT"] = "MJy / sr"
    on_others = catalog[[0]]
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    with pytest.raises(InputError, match="images: got MJy / sr in band 'r'"):
        catalogs.run("spin", on_others, **options)


def test_errors_of_cutouts_have_the_unit_of_the_image(survey, tmp_path):
    folder, catalog = survey
    ccds = [CCDData.read(path) for path in sorted(folder.glob("*.fits"))]
    for ccd in ccds:
        ccd.uncertainty = StdDevUncertainty(np.full(ccd.shape, 2.0))
    options = {"size": 8 * u.arcsec, "n_pixels": 20}
    output = tmp_path / "out"
    catalogs.run("extract_cutouts", catalog, images=ccds, output=output, **options)
    assert catalogs.read(output)["r_err"].unit == u.nJy


def test_a_single_bad_galaxy_in_a_partition(galaxies, tmp_path):
    galaxies["median_age"][4] = np.nan
    with pytest.warns(GalmlWarning, match="1 of 12 rows"):
        catalogs.run(
            "sample_stars",
            galaxies,
            output=tmp_path / "out",
            n=3,
            seed=1,
            partition_size=1,
        )
    assert catalogs.failures(tmp_path / "out")["row"].tolist() == [4]
    with pytest.warns(GalmlWarning):
        plain = galml.sample_stars(galaxies, n=3, seed=1)
    table = catalogs.read(tmp_path / "out")
    assert table["galaxy_id"].tolist() == plain["galaxy_id"].tolist()
    np.testing.assert_allclose(table["x"], plain["x"], rtol=1e-4, atol=1e-5 * u.kpc)


@pytest.mark.parametrize("kind", ["table", "parquet", "dask"])
def test_equal_galaxies_in_other_partitions(galaxies, tmp_path, kind):
    galaxies = galaxies[[0, 1, 0, 2, 0, 1, 1, 0, 0]]
    galaxies["name"] = [f"g{row}" for row in range(len(galaxies))]
    options = {"n": 3, "seed": 1, "partition_size": 2}
    catalog = galaxies
    if kind != "table":
        catalog = tmp_path / "galaxies.parquet"
        galaxies.write(catalog)
    if kind == "dask":
        frame = pytest.importorskip("dask.dataframe")
        catalog = frame.from_pandas(galaxies.to_pandas(), npartitions=2)
        names = galaxies.colnames[:3]
        options["units"] = {name: str(galaxies[name].unit) for name in names}
    catalogs.run("sample_stars", catalog, output=tmp_path / "out", **options)
    table = catalogs.read(tmp_path / "out")
    assert len(np.unique(table["x"])) == 27
    plain = galml.sample_stars(galaxies, n=3, seed=1)
    np.testing.assert_allclose(table["x"], plain["x"], rtol=1e-4, atol=1e-5 * u.kpc)


def test_realizations_are_as_the_catalog_tells(galaxies, tmp_path):
    galaxies = galaxies[[0, 0, 0, 0]]
    galaxies["realization"] = [5, 2**62 + 1, 2**62, 5]
    output = tmp_path / "out"
    catalogs.run("sample_stars", galaxies, output=output, n=1, seed=1, partition_size=3)
    first, second, third, last = catalogs.read(output)["x"].value
    assert abs(last / first - 1) < 1e-4
    assert len({first, second, third}) == 3


def test_progress_tells_the_failed(galaxies, tmp_path, capsys):
    galaxies["median_age"][4] = np.nan
    with pytest.warns(GalmlWarning):
        catalogs.run(
            "sample_stars",
            galaxies,
            output=tmp_path / "out",
            progress=True,
            n=3,
            partition_size=5,
        )
    told = capsys.readouterr().err
    assert "12/12" in told and "galaxy/s, failed=1" in told


def test_a_model_by_name_from_a_file_or_as_it_is(galaxies, tmp_path):
    model = galml.load_model("default", operation="sample_stars")
    model.save(tmp_path / "mine.safetensors")
    options = {"n": 5, "seed": 1, "output": tmp_path / "out"}
    summary = catalogs.run("sample_stars", galaxies, model=model, **options)
    assert summary["computed"] == 1
    for same in ("default", model.name, tmp_path / "mine.safetensors"):
        summary = catalogs.run("sample_stars", galaxies, model=same, **options)
        assert summary["computed"] == 0
    plain = galml.sample_stars(galaxies, n=5, seed=1)
    meta = catalogs.read(tmp_path / "out").meta
    del meta["DATE"], plain.meta["DATE"]
    assert meta == plain.meta


def test_a_tile_that_was_replaced_is_another_input(survey, tmp_path):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    catalogs.run("spin", catalog, **options)
    (folder / "a.fits").write_bytes((folder / "b.fits").read_bytes())
    with pytest.raises(FileError, match="other options or inputs"):
        catalogs.run("spin", catalog, **options)


def test_fields_of_a_fixed_width_need_no_size(survey, tmp_path):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "seed": 1}
    options["output"] = tmp_path / "own"
    catalogs.run("merger", catalog["ra", "dec"][:4], **options)
    options |= {"output": tmp_path / "same", "size": 50.688 * u.arcsec}
    catalogs.run("merger", catalog["ra", "dec"][:4], **options)
    found, expected = (catalogs.read(tmp_path / name) for name in ("own", "same"))
    name = "merger_probability"
    assert np.isfinite(found[name]).all()
    np.testing.assert_array_equal(found[name], expected[name])


def test_other_networks_need_a_size(survey, tmp_path):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    with pytest.raises(InputError, match="size: got None"):
        catalogs.run("circularity", catalog["ra", "dec"], **options)


def test_widths_are_those_of_bands_or_columns(survey, tmp_path):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "seed": 1}
    widths = [[1.2], [1.3]] * u.arcsec
    with pytest.raises(InputError, match="psf_fwhm: got .*, one for each galaxy"):
        catalogs.run("spin", catalog[:2], output=tmp_path, psf_fwhm=widths, **options)
    options |= {"bands": ["r"], "psf_fwhm": [1.2] * u.arcsec}
    catalogs.run("spin", catalog[:2], output=tmp_path / "out", **options)
    assert np.isfinite(catalogs.read(tmp_path / "out")["spin"]).all()


@pytest.mark.parametrize(
    "wrong", [{"device": "abacus"}, {"scheduler": 5}, {"scheduler": "nowhere"}]
)
def test_a_wrong_option_does_not_claim_the_folder(survey, tmp_path, wrong):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    if "scheduler" in wrong:
        pytest.importorskip("distributed")
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: got"):
        catalogs.run("spin", catalog, **options, **wrong)
    assert catalogs.run("spin", catalog, n_samples=2, **options)["computed"] == 1
    # What has been computed is not given up.
    for other in (wrong, {"n_samples": 3}):
        if "scheduler" not in other:
            with pytest.raises(FileError, match="other options or inputs"):
                catalogs.run("spin", catalog, **options, **other)
    assert catalogs.read(tmp_path / "out")["spin_samples"].shape == (24, 2)


def test_a_run_that_lost_its_folder_writes_nothing(galaxies, tmp_path):
    first = Dataset(tmp_path / "out")
    with first.open(["one"], {}) as stamp:
        late = Dataset(first.path, stamp["configuration"])
        late.write(0, "part-0.parquet", None, 0, {})
    (first.path / "_done" / "0000000.json").unlink()
    with first.open(["two"], {}):
        pass
    with pytest.raises(RunError, match="another run"):
        late.write(0, "part-0.parquet", galaxies, 12, {})
    assert [path.name for path in first.path.glob("*")] in (
        ["_run.json", "_done"],
        ["_done", "_run.json"],
    )
    assert not list((first.path / "_done").iterdir())


def test_outputs_that_are_no_folder(galaxies, tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (None, 5, b"out", ""):
        with pytest.raises(InputTypeError, match="output: got"):
            catalogs.run("sample_stars", galaxies, output=output, n=5)
        with pytest.raises(InputTypeError, match="output: got"):
            catalogs.read(output)
    for output in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "a\0b"):
        with pytest.raises(FileError, match="output: got"):
            catalogs.run("sample_stars", galaxies, output=output, n=5)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "_run.json").write_text("[1, 2]")
    with pytest.raises(FileError, match="something else"):
        catalogs.run("sample_stars", galaxies, output=tmp_path / "foreign", n=5)


def test_arguments_of_a_wrong_type(survey, galaxies, tmp_path):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    for name, values in {
        "images": (5, [5], galaxies, {}, tmp_path / "no*.fits"),
        "units": (5, "deg"),
        "partition_size": (True, 2.5),
        "unit": ("nonsense",),
        "hdu": (9,),
        "cutouts": (3,),
    }.items():
        for value in values:
            with pytest.raises(InputError, match=rf"{name}.*: got"):
                catalogs.run("spin", catalog, **options | {name: value})
    for value in (5, [], [5], str(tmp_path / "no*.parquet")):
        with pytest.raises(InputError, match="catalog: got"):
            catalogs.run("spin", value, **options)
    assert not (tmp_path / "out").exists()


def test_refusals(galaxies, tmp_path):
    from galml.core.runs import locked

    with pytest.raises(InputError, match="operation"):
        catalogs.run("nothing", galaxies, output=tmp_path / "out")
    with pytest.raises(InputError, match="operation: got 'similar'"):
        catalogs.run("similar", galaxies, output=tmp_path / "out", query=0)
    each = np.full(len(galaxies), 5)
    for values in (each, each.tolist()):
        with pytest.raises(InputError, match="n: got .* or a column of the catalog"):
            catalogs.run("sample_stars", galaxies, output=tmp_path / "out", n=values)
    names = ["x", "y", "z", "v_x", "v_y", "v_z", "age", "fe_h"][: len(galaxies)]
    named = tmp_path / "named"
    catalogs.run("sample_stars", galaxies, output=named, n=5, components=names)
    assert set(names) <= set(catalogs.read(named).colnames)
    with pytest.raises(InputError, match="radius"):
        catalogs.run("sample_stars", galaxies, output=tmp_path / "out", radius=3)
    with locked(tmp_path / "out"), pytest.raises(FileError, match="another run"):
        catalogs.run("sample_stars", galaxies, output=tmp_path / "out", n=5)
    for wrong in (
        {"size": 3 * u.arcsec},
        {"n_pixels": 40},
        {"partition_size": 0},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            catalogs.run("sample_stars", galaxies, output=tmp_path / "out", **wrong)
    with pytest.raises(InputError, match="images"):
        catalogs.run("extract_cutouts", galaxies, output=tmp_path / "out")
    with pytest.raises(InputError, match="where no run was"):
        catalogs.failures(tmp_path / "out")
    with pytest.raises(InputError, match="column 'mass'"):
        catalogs.run(
            "sample_stars", galaxies, output=tmp_path / "out", units={"mass": "Msun"}
        )
    with pytest.raises(InputError, match="no run has come to its end"):
        catalogs.read(tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(FileError, match="something else"):
        catalogs.run("sample_stars", galaxies, output=tmp_path / "full", n=5)


@pytest.mark.parametrize("kind", [tuple, list, pandas.Series, lambda x: x])
def test_values_for_each_galaxy_are_refused(survey, tmp_path, kind):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    with pytest.raises(InputError, match=r"r_eff: got 24 values, one for each galaxy"):
        catalogs.run("spin", catalog, r_eff=kind(catalog["r_eff"].value), **options)


def test_files_of_a_catalog_are_alike(survey, tmp_path):
    folder, catalog = survey
    options = {"images": str(folder / "*.fits"), "output": tmp_path / "out"}
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    catalog[:12].write(first)
    other = catalog[12:].copy()
    other["r_eff"] = other["r_eff"].to(u.arcmin)
    other.write(second)
    with pytest.raises(InputError, match="catalog: got .*2.parquet, with r_eff in arc"):
        catalogs.run("spin", [str(first), str(second)], **options)
    other.remove_column("r_eff")
    other.write(second, overwrite=True)
    with pytest.raises(InputError, match="2.parquet, which differs in r_eff"):
        catalogs.run("spin", [str(first), str(second)], **options)
    other = catalog[12:].copy()
    other.meta["NOTE"] = "that metadata may differ"
    other.write(second, overwrite=True)
    assert catalogs.run("spin", [str(first), str(second)], **options)["rows"] == 24


def test_other_masks_maps_and_tables_are_other_inputs(galaxies, tmp_path):
    masses = galaxies["stellar_mass"]
    runs = []
    for masked in ([], [3]):
        table = galaxies.copy()
        table["stellar_mass"] = Masked(masses, mask=np.isin(np.arange(12), masked))
        runs.append(("sample_stars", table, {"n": 2, "seed": 1}))
    for sign in (1, -1):
        velocity = sign * 100.0 * np.ones((60, 60))
        velocity[20:40, 20:40] = np.linspace(-50, 50, 20)
        maps = np.empty(2, object)
        for row in range(2):
            ccd = CCDData(np.tile(np.linspace(-90, 90, 60), (60, 1)), unit="km/s")
            ccd.data[25:35, 25:35] *= sign
            maps[row] = ccd
        runs.append(("circularity", QTable({"map": maps}), {}))
    stars = galml.sample_stars(galaxies, 2, seed=1)
    for mass in (masses[5], 2 * masses[5]):
        table = galaxies.copy()
        table["galaxy_id"] = np.arange(12)
        table["stellar_mass"][5] = mass
        runs.append(("star_log_prob", stars, {"conditions": table}))
    for number in range(0, len(runs), 2):
        output = tmp_path / f"{number}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GalmlWarning)
            for operation, table, options in (runs[number], runs[number]):
                catalogs.run(operation, table, output=output, **options)
        operation, table, options = runs[number + 1]
        with pytest.raises(FileError, match="a run with other options or inputs"):
            catalogs.run(operation, table, output=output, **options)


def test_galaxies_that_are_hardly_apart(galaxies, tmp_path):
    galaxies = galaxies[[0] * 6]
    galaxies["stellar_mass"] += np.arange(6) * u.Msun
    galaxies["stellar_mass"] = Masked(
        galaxies["stellar_mass"], mask=[True] + [False] * 5
    )
    options = {"n": 2, "seed": 4}
    with pytest.warns(GalmlWarning):
        plain = galml.sample_stars(galaxies, **options)
        output = tmp_path / "out"
        catalogs.run(
            "sample_stars", galaxies, output=output, partition_size=2, **options
        )
    table = catalogs.read(output)
    assert len(np.unique(table["x"][1:])) == 10
    np.testing.assert_allclose(table["x"], plain["x"], rtol=1e-4, atol=1e-5 * u.kpc)


def test_stars_are_written_part_by_part(galaxies, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "STARS", 7)
    output = tmp_path / "out"
    catalogs.run("sample_stars", galaxies, output=output, n=10, seed=1)
    assert parquet.ParquetFile(output / "part-0000000.parquet").num_row_groups == 18
    table, plain = catalogs.read(output), galml.sample_stars(galaxies, 10, seed=1)
    assert table.colnames == plain.colnames and len(table) == 120
    np.testing.assert_allclose(table["x"], plain["x"], rtol=1e-4, atol=1e-5 * u.kpc)
    del table.meta["DATE"], plain.meta["DATE"]
    assert table.meta == plain.meta


def test_reasons_name_no_row_of_a_partition(galaxies, tmp_path):
    galaxies["metallicity"][9] = np.nan
    output = tmp_path / "out"
    with pytest.warns(GalmlWarning):
        catalogs.run("sample_stars", galaxies, output=output, n=2, partition_size=5)
    found = catalogs.failures(output)
    assert found["row"].tolist() == [9]
    assert found["reason"][0].startswith("conditions['metallicity']: got nan")


def test_images_are_missing(survey, galaxies, tmp_path):
    _, catalog = survey
    for table in (catalog, catalog.to_pandas()):
        with pytest.raises(InputError, match="images: got None, expected tiles"):
            catalogs.run("spin", table, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_index_is_read_from_its_file(survey, tmp_path):
    folder, catalog = survey
    tiles = catalogs.index(str(folder / "*.fits"))
    for name in ("tiles.parquet", "tiles.ecsv"):
        tiles.write(tmp_path / name)
        output = tmp_path / f"out {name}"
        summary = catalogs.run(
            "spin", catalog, images=str(tmp_path / name), output=output
        )
        assert summary["failed"] == 0


def test_files_of_a_column_are_inputs(tmp_path):
    table = QTable({"id": ["a", "b"], "file": [f"{tmp_path}/{n}.fits" for n in "ab"]})
    y, x = np.indices((40, 40)) - 19.5
    for number, name in enumerate(table["file"]):
        velocity = 90 * np.tanh((x + number * y) / 6)
        CCDData(velocity, unit="km/s").write(name)
    options = {"output": tmp_path / "out"}
    catalogs.run("circularity", table, **options)
    assert catalogs.run("circularity", table, **options)["computed"] == 0
    CCDData(velocity.T, unit="km/s").write(table["file"][0], overwrite=True)
    with pytest.raises(FileError, match="a run with other options or inputs"):
        catalogs.run("circularity", table, **options)


@pytest.mark.parametrize("harm", ["lost", "empty", "torn"])
def test_parts_that_are_lost_are_computed_again(galaxies, tmp_path, harm):
    options = {"output": tmp_path / "out", "n": 2, "seed": 1, "partition_size": 4}
    catalogs.run("sample_stars", galaxies, **options)
    whole = catalogs.read(tmp_path / "out")
    if harm == "lost":
        (tmp_path / "out" / "part-0000001.parquet").unlink()
    elif harm == "empty":
        (tmp_path / "out" / "part-0000001.parquet").write_bytes(b"")
    else:
        (tmp_path / "out" / "_done" / "0000001.json").write_text('{"rows": 4')
    with pytest.raises(InputError, match="no run has come to its end"):
        catalogs.read(tmp_path / "out")
    assert catalogs.run("sample_stars", galaxies, **options)["computed"] == 1
    assert (catalogs.read(tmp_path / "out")["x"] == whole["x"]).all()
