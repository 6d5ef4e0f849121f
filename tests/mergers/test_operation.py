# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS
from PIL import Image

import galml
from galml.core import GalmlWarning, decode_flags
from galml.core.exceptions import InputError, ModelError
from galml.core.flags import Flag
from galml.core.model import GalaxyModel
from galml.cutouts import CutoutStack
from galml.mergers import STAGES

COLUMNS = [
    "filter",
    "field",
    "merger_probability",
    "merger_probability_err",
    "merger_probability_samples",
    "merger_class",
    "stage_probability",
    "entropy_data",
    "entropy_model",
    "time_since_merger",
    "time_since_merger_err",
    "flags",
]
DESCRIBED = ("operation", "architecture", "options", "card", "input_spec", "name")
ACS = {"filter": "F814W", "pixel_scale": 0.03 * u.arcsec, "unit": u.nJy, "seed": 1}


@pytest.fixture(scope="module")
def table(scenes, model):
    return galml.merger(scenes[:, None], model=model, **ACS)


def ccd(data, **meta):
    meta = {"FILTER": "F814W", "PIXSCALE": 0.03} | meta
    return CCDData(data, unit=u.nJy, meta=meta)


def assert_same(first, second, atol=1e-5):
    for name in COLUMNS[:-1]:
        if first[name].dtype.kind in "US":
            assert first[name].tolist() == second[name].tolist()
            continue
        one, other = (u.Quantity(table[name]).value for table in (first, second))
        np.testing.assert_allclose(one, other, atol=atol, err_msg=name)


def test_columns(table):
    assert isinstance(table, QTable) and len(table) == 6
    assert table.colnames == COLUMNS
    assert set(table["filter"]) == {"F814W"} and set(table["field"]) == {""}
    chance = table["merger_probability"]
    assert ((chance >= 0) & (chance <= 1)).all()
    samples = table["merger_probability_samples"]
    assert samples.shape == (6, 50)
    np.testing.assert_allclose(samples.mean(1), chance, atol=1e-6)
    np.testing.assert_allclose(samples.std(1), table["merger_probability_err"])
    named = np.where(chance > 0.5, "post-merger", "non-merger")
    assert table["merger_class"].tolist() == named.tolist()
    stages = table["stage_probability"]
    assert stages.shape == (6, len(STAGES))
    np.testing.assert_allclose(stages.sum(1), 1, atol=1e-5)
    assert (table["entropy_data"] > 0).all() and (table["entropy_model"] >= 0).all()
    total = table["entropy_data"] + table["entropy_model"]
    whole = -(stages * np.log2(stages)).sum(1)
    np.testing.assert_allclose(total, whole, atol=1e-4)
    assert table["time_since_merger"].unit == u.Gyr
    told = stages[:, 3:].sum(1) > 0.5
    np.testing.assert_array_equal(np.isfinite(table["time_since_merger"]), told)
    assert table.meta["OPERATN"] == "merger" and table.meta["PREVALEN"] == 0.5
    assert table.meta["ARG_1"] == "pixel_scale=0.03 arcsec"


def test_every_form_of_the_input(scenes, model, table, tmp_path):
    options = {"model": model, "seed": 1}
    known = ACS | {"model": model}
    single = galml.merger(ccd(scenes[1]), **options)
    assert_same(table[1:2], single, atol=1e-4)
    listed = galml.merger([ccd(one) for one in scenes], **options)
    assert_same(table, listed, atol=1e-4)
    assert_same(table, galml.merger(scenes[:, None] * u.nJy, **known), atol=1e-5)
    stack = CutoutStack(
        scenes[:, None] * u.nJy, bands=("F814W",), pixel_scale=0.03 * u.arcsec
    )
    assert_same(table, galml.merger(stack, **options), atol=1e-5)
    rows = QTable({"name": list("abcdef"), "image": scenes})
    named = galml.merger(rows, **known)
    assert named["name"].tolist() == list("abcdef")
    assert_same(table, named)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.cdelt = -0.03 / 3600, 0.03 / 3600
    header = wcs.to_header()
    header["FILTER"], header["BUNIT"], header["TARGNAME"] = "F814W", "nJy", "AEGIS-12"
    path = tmp_path / "galaxy.fits"
    fits.PrimaryHDU(scenes[1].astype(np.float32), header).writeto(path)
    read = galml.merger(str(path), **options)
    np.testing.assert_allclose(
        read["merger_probability"], table["merger_probability"][1], atol=0.05
    )
    assert read["field"].tolist() == ["EGS"] and read["filter"].tolist() == ["F814W"]


def test_results_do_not_depend_on_batches(scenes, model, table):
    small = galml.merger(scenes[:, None], model=model, batch_size=1, **ACS)
    assert_same(table, small)
    back = galml.merger(scenes[::-1, None], model=model, **ACS)
    assert_same(table, back[::-1])


@pytest.mark.parametrize("turn, mirror", [(1, False), (2, True), (3, False)])
def test_turned_images_have_the_same_results(scenes, model, table, turn, mirror):
    turned = np.rot90(scenes, turn, (1, 2))
    turned = turned[:, :, ::-1] if mirror else turned
    assert_same(table, galml.merger(turned[:, None], model=model, **ACS), atol=2e-4)


def test_passes(scenes, model):
    options = ACS | {"model": model}
    none = galml.merger(scenes[:2, None], n_samples=0, **options)
    assert "merger_probability_samples" not in none.colnames
    assert np.isnan(none["merger_probability_err"]).all()
    assert np.isfinite(none["merger_probability"]).all()
    assert (none["entropy_model"] < 1e-6).all()
    one = galml.merger(scenes[:2, None], n_samples=1, **options)
    assert np.isnan(one["merger_probability_err"]).all()
    assert one["merger_probability_samples"].shape == (2, 1)
    few = galml.merger(scenes[:2, None], n_samples=3, **options)
    assert np.isfinite(few["merger_probability_err"]).all()
    assert few["merger_probability_samples"].shape == (2, 3)
    with pytest.raises(InputError, match="n_samples"):
        galml.merger(scenes[:2, None], n_samples=-1, **options)


def test_filters_choose_the_field(scenes, model):
    options = {"model": model, "seed": 1, "unit": u.nJy}
    for band, pixel, name in (
        ("F160W", 0.06, "F160W"),
        ("F125W", 0.06, "F160W"),
        ("F200W", 0.03, "F200W"),
        ("r", 0.396, "r"),
        ("g", 0.396, "r"),
        ("F606W", 0.03, "F814W"),
    ):
        found = galml.merger(
            scenes[:1, None],
            filter=band,
            pixel_scale=pixel * u.arcsec,
            **options,
        )
        assert found["filter"].tolist() == [name]
        other = band not in ("F160W", "F125W", "F200W", "r")
        assert bool(found["flags"][0] & Flag.RESAMPLED) == other, band


def test_a_band_of_several_is_seen(scenes, model, table):
    noise = np.random.default_rng(1).normal(size=scenes[:2].shape)
    data = np.stack([noise, scenes[:2]], 1)
    known = {key: ACS[key] for key in ("pixel_scale", "unit", "seed")}
    bands = ("F606W", "F814W")
    seen = galml.merger(data, bands=bands, model=model, **known)
    assert_same(table[:2], seen, atol=1e-4)
    other = galml.merger(data, bands=bands, filter="F606W", model=model, **known)
    assert (other["merger_probability"] != seen["merger_probability"]).all()


def test_other_pixels_are_resampled_and_flagged(scenes, model, table):
    fine = np.repeat(np.repeat(scenes[:2], 3, 1), 3, 2)
    options = ACS | {"pixel_scale": 0.01 * u.arcsec, "model": model}
    found = galml.merger(fine[:, None], **options)
    assert all("resampled" in names for names in decode_flags(found["flags"]))
    difference = found["merger_probability"] - table["merger_probability"][:2]
    assert np.abs(difference).max() < 0.3


def test_no_pixel_scale_shows_all(scenes, model):
    known = {"filter": "F814W", "unit": u.nJy, "seed": 1, "model": model}
    found = galml.merger(scenes[:1, None], **known)
    assert np.isfinite(found["merger_probability"]).all()
    assert "resampled" in decode_flags(found["flags"])[0]


def test_no_unit_is_flagged(scenes, model):
    known = {key: ACS[key] for key in ("pixel_scale", "filter", "seed")}
    found = galml.merger(scenes[:2, None], model=model, **known)
    assert all("no_unit" in names for names in decode_flags(found["flags"]))
    given = galml.merger(scenes[:2, None], model=model, unit=u.nJy, **known)
    assert not any("no_unit" in names for names in decode_flags(given["flags"]))
    np.testing.assert_allclose(
        found["merger_probability"], given["merger_probability"], atol=1e-3
    )


def test_color_images(scenes, model, tmp_path):
    bright = np.clip(180 * scenes[1][::-1], 0, 255).astype(np.uint8)
    path = tmp_path / "sdss.png"
    Image.fromarray(np.stack([bright] * 3, 2)).save(path)
    read = galml.merger([path], model=model, seed=1)
    assert read["filter"].tolist() == ["r"] and read["name"].tolist() == ["sdss"]
    assert np.isfinite(read["merger_probability"]).all()
    assert "resampled" not in decode_flags(read["flags"])[0]


def test_fields(scenes, model):
    options = ACS | {"model": model}
    found = galml.merger(scenes[:1, None], field="goods-south", **options)
    assert found["field"].tolist() == ["GOODS-S"]
    with pytest.raises(InputError, match="field"):
        galml.merger(scenes[:1, None], field="Hubble's backyard", **options)
    with pytest.raises(InputError, match="filter"):
        galml.merger(scenes[:1, None], filter="F999X", model=model)


def test_common_part_is_that_of_all_filters_of_the_model(scenes, model):
    """So that it stays right for parts of a table, and for tables that are stacked."""
    described = {key: getattr(model, key) for key in DESCRIBED}
    config = model.config | {"common": {"filter 0": 0.1, "filter 1": 0.425}}
    model = GalaxyModel(model.network, config=config, **described)
    for name in ("F814W", "F160W"):
        found = galml.merger(ccd(scenes[0], FILTER=name), model=model, seed=1)
        assert found.meta["COMMON"] == "F814W 0.1, F160W 0.425, F200W 1, r 1"


@pytest.mark.parametrize(
    ("pixel", "name"),
    [(np.nan, "r"), (0.396, "r"), (0.2, "r"), (0.06, "F814W"), (0.03, "F814W")],
)
def test_filters_that_nobody_tells_are_assumed(scenes, model, pixel, name):
    """As the pixels have it: no telescope on the ground has such small ones."""
    options = {"model": model, "seed": 1, "unit": u.nJy}
    meta = {} if np.isnan(pixel) else {"PIXSCALE": pixel}
    found = galml.merger(CCDData(scenes[0], unit=u.nJy, meta=meta), **options)
    assert found["filter"].tolist() == [name]
    assert "band_assumed" in decode_flags(found["flags"][0])
    told = galml.merger(
        CCDData(scenes[0], unit=u.nJy, meta=meta), filter=name, **options
    )
    assert "band_assumed" not in decode_flags(told["flags"][0])
    assert_same(found, told)
    clean = galml.contamination(CCDData(scenes[0], unit=u.nJy, meta=meta), **options)
    assert clean["filter"].tolist() == [name]


def test_filters_are_assumed_one_by_one(scenes, model):
    scale = [0.396, 0.03, 0.03, np.nan] * u.arcsec
    options = {"model": model, "seed": 1, "unit": u.nJy}
    found = galml.merger(scenes[:4, None], pixel_scale=scale, **options)
    assert found["filter"].tolist() == ["r", "F814W", "F814W", "r"]
    alone = galml.merger(scenes[2:3, None], pixel_scale=scale[2:3], **options)
    assert_same(found[2:3], alone)
    named = galml.merger(scenes[:1, None], bands=["F160W"], **options)
    assert "band_assumed" not in decode_flags(named["flags"][0])


def test_assumed_filters_that_do_not_fit_are_out_of_domain(scenes, model):
    for pixel in (0.002, 3.0):
        data = CCDData(scenes[0], unit=u.nJy, meta={"PIXSCALE": pixel})
        found = galml.merger(data, model=model, seed=1)
        flags = decode_flags(found["flags"][0])
        assert {"band_assumed", "resampled", "out_of_domain"} <= set(flags)


@pytest.mark.parametrize(
    ("camera", "name"), [("WFC3", "F160W"), ("NIRCAM", "F200W"), (None, "F200W")]
)
def test_cameras_tell_filters_of_one_name_apart(scenes, model, camera, name):
    data = ccd(scenes[0], FILTER="F164N", INSTRUME=camera)
    found = galml.merger(data, model=model, seed=1)
    assert found["filter"].tolist() == [name]


def test_bad_members_are_flagged_rows(scenes, model):
    flat, empty = np.ones((64, 64)), np.full((64, 64), np.nan)
    members = [
        ccd(scenes[0]),
        ccd(flat),
        ccd(empty),
        "no such file.fits",
        ccd(scenes[1]),
    ]
    with pytest.warns(GalmlWarning, match="3 of 5 rows"):
        found = galml.merger(members, model=model, seed=1)
    failed = [bool(flags & Flag.FAILED) for flags in found["flags"]]
    assert failed == [False, True, True, True, False]
    assert np.isnan(found["merger_probability"]).tolist() == failed
    assert [text == "" for text in found["merger_class"]] == failed
    assert np.isnan(found["stage_probability"]).all(1).tolist() == failed
    with pytest.raises(InputError, match="everywhere"):
        galml.merger(ccd(flat), model=model)


def test_masks_and_errors_are_used(scenes, model):
    dirty = scenes[0].copy()
    dirty[10:20, 10:20] = 1e6
    mask = dirty > 1e3
    hidden = NDData(
        dirty,
        unit=u.nJy,
        mask=mask,
        uncertainty=StdDevUncertainty(np.full(dirty.shape, 0.02)),
        meta={"FILTER": "F814W", "PIXSCALE": 0.03},
    )
    before = dirty.copy()
    found = galml.merger(hidden, model=model, seed=1)
    np.testing.assert_array_equal(dirty, before)
    clean = galml.merger(ccd(scenes[0]), model=model, seed=1)
    assert not found["flags"][0] & Flag.NO_UNCERTAINTY
    assert abs(found["merger_probability"][0] - clean["merger_probability"][0]) < 0.3


def test_tables_are_written_and_read(table, tmp_path):
    for name in ("table.ecsv", "table.fits"):
        table.write(tmp_path / name)
        again = QTable.read(tmp_path / name)
        np.testing.assert_allclose(
            again["stage_probability"], table["stage_probability"], rtol=1e-6
        )
        assert again["merger_class"].tolist() == table["merger_class"].tolist()


def test_contamination(scenes, model):
    y, x = np.indices(scenes[0].shape) - 63.5
    star = 5 * np.exp(-0.5 * np.hypot(x - 35, y + 20) ** 2 / 2**2)
    data = np.stack([scenes[0], scenes[0] + star])[:, None]
    found = galml.contamination(data, model=model, **ACS)
    assert found.colnames == [
        "filter",
        "contamination",
        "contamination_err",
        "contamination_lo",
        "contamination_hi",
        "aperture",
        "quality",
        "flags",
    ]
    low, high = found["contamination_lo"], found["contamination_hi"]
    assert ((low >= 0) & (low < high) & (high <= 1)).all()
    np.testing.assert_allclose(found["contamination_err"], (high - low) / 2)
    assert found["contamination"][1] > found["contamination"][0]
    np.testing.assert_allclose(found["aperture"].to_value(u.arcsec), 1.92)
    assert found["quality"].dtype == bool
    strict = galml.contamination(data, model=model, limit=0.0, **ACS)
    loose = galml.contamination(data, model=model, limit=1.0, **ACS)
    assert not strict["quality"].any() and loose["quality"].all()
    with pytest.raises(InputError, match="limit"):
        galml.contamination(data, model=model, limit=2, **ACS)


def test_the_published_network(scenes, published_model):
    found = galml.merger(scenes[:2, None], model=published_model, n_samples=4, **ACS)
    assert found.colnames == [
        "filter",
        "field",
        "merger_probability",
        "merger_probability_err",
        "merger_probability_samples",
        "merger_class",
        "flags",
    ]
    assert np.isfinite(found["merger_probability"]).all()
    assert found["merger_probability_samples"].shape == (2, 4)
    with pytest.raises(ModelError, match="no contaminations"):
        galml.contamination(scenes[:2, None], model=published_model, **ACS)


def test_pixels_of_no_size(scenes, model):
    options = ACS | {"model": model, "pixel_scale": -0.06 * u.arcsec}
    with pytest.raises(InputError, match="pixel_scale: got -0.06 arcsec"):
        galml.merger(scenes[0], **options)
    options["pixel_scale"] = [0.03, -0.03] * u.arcsec
    with pytest.warns(GalmlWarning, match="1 of 2"):
        found = galml.merger(scenes[:2, None], **options)
    assert np.isfinite(found["merger_probability"]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (galml.contamination, {"limit": "a"}),
        (galml.merger, {"filter": ["r"]}),
        (galml.merger, {"filter": ("r",)}),
        (galml.merger, {"field": ["COSMOS", "EGS"]}),
        (galml.merger, {"field": ("UDS",)}),
        (galml.merger, {"field": 3}),
    ],
)
def test_arguments_of_a_wrong_type_are_named(scenes, model, call, argument):
    with pytest.raises(InputError, match=next(iter(argument))):
        call(scenes[:1, None], model=model, **ACS | argument)
