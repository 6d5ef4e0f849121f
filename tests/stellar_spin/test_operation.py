# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS

import galml
from galml.core import GalmlWarning, decode_flags
from galml.core.domain import find_domain
from galml.core.exceptions import InputError, InputUnitError, ModelError
from galml.core.flags import Flag
from galml.core.running import run
from galml.cutouts import CutoutStack, sdss_rgb
from galml.imaging import read_images
from galml.physics import pivot_wavelengths
from galml.stellar_spin.metrics import pearson
from galml.stellar_spin.operation import PRIOR_WIDTH

BANDS = ("g", "r", "i")
COLUMNS = [
    "spin",
    "spin_err",
    "spin_lo",
    "spin_hi",
    "fast_rotator_probability",
    "ellipticity",
    "ellipticity_err",
    "novelty",
    "flags",
]


@pytest.fixture(scope="module")
def images(galaxies):
    return galaxies.data * u.nJy


@pytest.fixture(scope="module")
def options(galaxies, model):
    return {"r_eff": galaxies.r_eff * u.pix, "bands": BANDS, "model": model}


@pytest.fixture(scope="module")
def table(images, options):
    return galml.spin(images, **options)


def ccd(galaxies, index, **meta):
    meta = {
        "R_EFF": 0.4 * galaxies.r_eff[index],
        "PIXSCALE": 0.4,
        "BANDS": "g,r,i",
    } | meta
    return CCDData(galaxies.data[index], unit=u.nJy, meta=meta)


def assert_same(first, second, atol=1e-5):
    for name in COLUMNS[:-1]:
        np.testing.assert_allclose(first[name], second[name], atol=atol, err_msg=name)


def test_columns(table):
    assert isinstance(table, QTable) and len(table) == 24
    assert table.colnames == COLUMNS
    for name in COLUMNS[:-1]:
        assert np.isfinite(table[name]).all()
    inside = (table["spin_lo"] < table["spin_hi"]) & (table["spin_lo"] >= 0)
    assert (inside & (table["spin_hi"] <= 1)).all()
    probability = table["fast_rotator_probability"]
    assert ((probability >= 0) & (probability <= 1)).all()
    half = (table["spin_hi"] - table["spin_lo"]) / 2
    np.testing.assert_allclose(table["spin_err"], half, atol=1e-6)
    assert table.meta["OPERATN"] == "spin"
    assert table.meta["MODEL"] == "stellar-spin-3"


def test_what_is_predicted(galaxies, table):
    """Shapes are seen, and disks turn faster than bulges, the more so edge-on."""
    shape, spin = 1 - galaxies.axis_ratio, np.asarray(table["spin"])
    assert pearson(table["ellipticity"], shape) > 0.85
    disk, flat = galaxies.bulge < 0.6, shape > 0.2
    assert pearson(spin, galaxies.bulge) < -0.5
    assert spin[~disk & ~flat].mean() < spin[disk].mean() - 0.1
    probability = np.asarray(table["fast_rotator_probability"])
    assert probability[disk].min() > 0.9


@pytest.mark.parametrize("turn", ["x", "y", "quarter", "diagonal"])
def test_invariance(images, options, table, turn):
    moved = {
        "x": lambda d: d[..., ::-1],
        "y": lambda d: d[..., ::-1, :],
        "quarter": lambda d: np.rot90(d, 1, (-1, -2)),
        "diagonal": lambda d: d.swapaxes(-1, -2),
    }[turn](images)
    assert_same(galml.spin(moved, **options), table)


def test_prior_of_the_sample(images, options, table, model):
    types = model.config["types"]
    same = galml.spin(images, prior=types, **options)
    np.testing.assert_allclose(same["spin"], table["spin"], atol=1e-5)
    early = {"elliptical": 0.6, "lenticular": 0.35, "spiral": 0.05, "dwarf": 0}
    late = {"elliptical": 0.05, "lenticular": 0.05, "spiral": 0.8, "dwarf": 0.1}
    slow, fast = (galml.spin(images, prior=one, **options) for one in (early, late))
    assert np.mean(slow["spin"]) < np.mean(table["spin"]) < np.mean(fast["spin"])
    assert "prior" in " ".join(str(v) for v in slow.meta.values())
    np.testing.assert_array_equal(slow["ellipticity"], table["ellipticity"])


def test_a_domain_keeps_nothing_of_a_call(images, model):
    domain = find_domain(model, prior=model.config["types"])
    before = dict(vars(domain))
    list(domain.read(images, bands=BANDS).members)
    assert vars(domain) == before


def test_prior_needs_types(images, options, published_model):
    with pytest.raises(InputError, match="prior: got"):
        galml.spin(images, prior={"spiral": 1}, **options | {"model": published_model})


def test_images_unlike_the_training_are_flagged(images, options, table):
    """Checkerboards are no galaxies."""
    y, x = np.indices(images.shape[-2:])
    board = 30.0 * u.nJy * ((x // 4 + y // 4) % 2) + images
    found = galml.spin(board, **options)
    flagged = (found["flags"] & Flag.OUT_OF_DOMAIN) != 0
    assert flagged.mean() > 0.7
    assert (found["novelty"] > table["novelty"]).all()
    assert np.median(found["novelty"]) > 1 > np.median(table["novelty"])


def test_batches_change_nothing(galaxies, images, options, table):
    assert_same(galml.spin(images, **options | {"batch_size": 5}), table)
    order = np.random.default_rng(0).permutation(24)
    size = galaxies.r_eff[order] * u.pix
    assert_same(galml.spin(images[order], **options | {"r_eff": size}), table[order])
    single = galml.spin(images[3], **options | {"r_eff": galaxies.r_eff[3] * u.pix})
    assert_same(single, table[3:4])


def test_metadata_of_ccddata(galaxies, model, table):
    data = [ccd(galaxies, i, OBJECT=f"galaxy {i}") for i in range(5)]
    column = np.empty(5, dtype=object)
    column[:] = data
    found = galml.spin(data, model=model)
    assert_same(found, table[:5])
    assert found["name"].tolist() == [f"galaxy {i}" for i in range(5)]
    assert_same(galml.spin(iter(data), model=model), table[:5])
    assert_same(
        galml.spin(QTable({"cutout": column}), model=model),
        table[:5],
    )
    assert_same(galml.spin(data[2], model=model), table[2:3])


def test_stack(galaxies, model, table):
    catalog = QTable({"id": np.arange(24), "r_eff": 0.4 * galaxies.r_eff * u.arcsec})
    stack = CutoutStack(
        galaxies.data * u.nJy, bands=BANDS, pixel_scale=0.4 * u.arcsec, catalog=catalog
    )
    found = galml.spin(stack, model=model)
    assert_same(found, table)
    assert found["name"].tolist() == [str(i) for i in range(24)]


def test_units_of_flux(galaxies, options, table):
    data = galaxies.data[:4]
    own = options | {"r_eff": galaxies.r_eff[:4] * u.pix}
    frequency = u.spectral_density(pivot_wavelengths(BANDS) * u.micron)
    wave = u.erg / u.s / u.cm**2 / u.AA
    by_wavelength = (data.swapaxes(1, 3) * u.nJy).to(wave, frequency).swapaxes(1, 3)
    maggies = (data * u.nJy).to(u.nmgy, u.zero_point_flux(1 * u.AB))
    for same in (
        data * 1e-3 * u.uJy,
        by_wavelength,
        maggies,
        data * u.nJy / u.arcsec**2,
    ):
        assert_same(galml.spin(same, **own), table[:4], atol=1e-4)
    counts = galml.spin(data * u.adu, **own)
    # Without colors, spins differ by less than their errors.
    change = np.abs(counts["spin"] - table["spin"][:4])
    assert 0.05 < change.max() and (change < table["spin_err"][:4]).all()
    assert_same(galml.spin(data, **own), counts)


def test_scale_of_wcs(galaxies, model, table):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    wcs.wcs.crpix = 24.5, 24.5
    data = CCDData(galaxies.data[0], unit=u.nJy, wcs=wcs)
    size = 0.4 * galaxies.r_eff[0] * u.arcsec
    assert_same(galml.spin(data, r_eff=size, bands=BANDS, model=model), table[:1])


def test_single_band(galaxies, model, table):
    own = {"r_eff": galaxies.r_eff[0] * u.pix, "model": model}
    first = galml.spin(galaxies.data[0, 1] * u.nJy, **own)
    told = galml.spin(galaxies.data[0, 1:2] * u.nJy, bands="r", **own)
    assert_same(told, first)
    assert first["flags"][0] - told["flags"][0] == Flag.BAND_ASSUMED
    many = galml.spin(galaxies.data[:, 1:2], **own | {"r_eff": galaxies.r_eff * u.pix})
    change = np.abs(many["spin"] - table["spin"])
    assert 0.1 < change.max() < 0.25


def test_fits_files(galaxies, model, table, tmp_path):
    header = fits.Header({"BUNIT": "nJy", "BANDS": "g,r,i", "PIXSCALE": 0.4})
    for index in range(3):
        header["R_EFF"] = 0.4 * galaxies.r_eff[index]
        fits.writeto(tmp_path / f"g{index}.fits", galaxies.data[index], header)
    files = [str(tmp_path / f"g{index}.fits") for index in range(3)]
    found = galml.spin(files, model=model)
    assert_same(found, table[:3])
    assert found["name"].tolist() == ["g0", "g1", "g2"]


def test_color_images(galaxies, model, tmp_path):
    light = (galaxies.data[:4] - 3) * 10
    colors = sdss_rgb(light * u.nJy, pixel_scale=0.396 * u.arcsec)
    colors = np.round(255 * colors).astype(np.uint8)
    own = {"r_eff": galaxies.r_eff[:4] * u.pix, "model": model}
    found = galml.spin(colors, **own)
    exact = galml.spin(light * u.nJy, bands=BANDS, **own)
    assert np.abs(found["spin"] - exact["spin"]).max() < 0.1
    single = galml.spin(colors[1], r_eff=galaxies.r_eff[1] * u.pix, model=model)
    assert_same(single, found[1:2])
    image = pytest.importorskip("PIL.Image")
    image.fromarray(colors[1][::-1]).save(tmp_path / "a.png")
    size = galaxies.r_eff[1] * u.pix
    assert_same(galml.spin(tmp_path / "a.png", r_eff=size, model=model), single)


def test_uncertainty_and_mask_count(galaxies, model, table):
    data = ccd(galaxies, 0)
    data.uncertainty = StdDevUncertainty(np.full(data.shape, 0.3))
    known = galml.spin(data, model=model)
    assert "no_uncertainty" not in decode_flags(known["flags"])[0]
    assert np.abs(known["spin"] - table["spin"][0]) < 0.02
    # Of an image that is said to be noisier, less is known.
    data.uncertainty = StdDevUncertainty(np.full(data.shape, 6.0))
    noisy = galml.spin(data, model=model)
    assert noisy["spin_err"] > 1.03 * known["spin_err"]
    star = ccd(galaxies, 0)
    star.data = star.data.copy()
    star.data[:, 5:9, 5:9] = 1e5
    bright = galml.spin(star, model=model)
    star.mask = star.data > 1e4
    masked = galml.spin(star, model=model)
    assert np.abs(masked["spin"] - table["spin"][0]) < 0.01
    assert np.abs(bright["spin"] - table["spin"][0]) > 0.015


def test_psf_counts(galaxies, model, table):
    by_argument = galml.spin(ccd(galaxies, 0), psf_fwhm=1.2 * u.arcsec, model=model)
    by_meta = galml.spin(ccd(galaxies, 0, PSFFWHM="1.3,1.2,1.1"), model=model)
    assert_same(by_argument, by_meta)
    # What looks as round through a wider PSF is flatter.
    flatter = by_meta["ellipticity"] - table["ellipticity"][0]
    assert 0.005 < flatter[0] < 0.15
    widths = np.full((2, 3), 1.2) * u.arcsec
    both = [ccd(galaxies, 0), ccd(galaxies, 1)]
    assert_same(galml.spin(both, psf_fwhm=widths, model=model)[:1], by_meta)


def test_samples(images, options, table):
    own = options | {"n_samples": 400, "seed": 1}
    drawn = galml.spin(images, **own)["spin_samples"]
    assert drawn.shape == (24, 400)
    np.testing.assert_allclose(drawn.mean(1), table["spin"], atol=0.06)
    again = galml.spin(images, **own | {"batch_size": 7})["spin_samples"]
    # Where hardly any probability is, quantiles are steep.
    np.testing.assert_allclose(drawn, again, atol=5e-5)


def test_flags(galaxies, model):
    faint = galml.spin(ccd(galaxies, 0), model=model)
    assert not set(decode_flags(faint["flags"])[0]) & {
        "low_snr",
        "no_wcs",
        "few_pixels",
    }
    rng = np.random.default_rng(0)
    noise = ccd(galaxies, 0)
    noise.data = rng.normal(size=noise.shape)
    assert "low_snr" in decode_flags(galml.spin(noise, model=model)["flags"])[0]
    small = galml.spin(ccd(galaxies, 0, R_EFF=0.6), model=model)
    assert "few_pixels" in decode_flags(small["flags"])[0]
    large = galml.spin(ccd(galaxies, 0, R_EFF=6.0), model=model)
    assert "truncated" in decode_flags(large["flags"])[0]
    kept = galml.spin(ccd(galaxies, 0, FLAGS=8192), model=model)
    assert int(kept["flags"][0]) & 8192


def test_size_is_measured(make, model):
    galaxies = make(6, shape=(80, 80), seed=8, noise=0.05, round_=True)
    data = galaxies.data * u.nJy
    given = galml.spin(data, r_eff=galaxies.r_eff * u.pix, bands=BANDS, model=model)
    found = galml.spin(data, bands=BANDS, model=model)
    assert all("size_measured" in flags for flags in decode_flags(found["flags"]))
    assert not any("size_measured" in flags for flags in decode_flags(given["flags"]))
    turned = galml.spin(data[..., ::-1], bands=BANDS, model=model)
    assert_same(found, turned, atol=2e-4)
    (images,) = read_images(data, bands=BANDS).members
    assert (np.abs(images.r_eff / galaxies.r_eff - 1) < 0.5).all()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"r_eff": 0.1 * u.pix}, InputError, "r_eff: got 0.1 pixels"),
        ({"r_eff": 3.0}, InputUnitError, "r_eff: got"),
        ({"r_eff": 3 * u.arcsec}, InputError, "r_eff: got an angle"),
        ({"r_eff": [3, 4] * u.pix}, InputError, "r_eff: got 2 values"),
        ({"bands": ("g", "r")}, InputError, "bands: got"),
        ({"bands": None}, InputError, "bands: got no names"),
        ({"bands": ("g", "r", "q")}, InputError, "bands: got the unknown band 'q'"),
        ({"pixel_scale": 3 * u.km}, InputUnitError, "pixel_scale: got"),
        ({"psf_fwhm": [1, 2] * u.pix}, InputError, "psf_fwhm: got 2 values"),
        (
            {"cutouts": np.zeros((3, 20, 20))},
            InputError,
            "cutouts: got the same value everywhere",
        ),
        (
            {"cutouts": np.full((3, 20, 20), np.nan)},
            InputError,
            "cutouts: got an image",
        ),
        (
            {"cutouts": np.full((3, 20, 20), np.nan), "r_eff": None},
            InputError,
            "cutouts: got an image",
        ),
        ({"unit": "km"}, InputUnitError, "cutouts: got values in km"),
        ({"unit": "mag"}, InputUnitError, "cutouts: got values in mag"),
        ({"model": "nothing"}, ModelError, "nothing"),
    ],
)
def test_bad_input(galaxies, model, change, error, message):
    options = {
        "cutouts": galaxies.data[0],
        "r_eff": 5 * u.pix,
        "bands": BANDS,
        "model": model,
    } | change
    with pytest.raises(error, match=message):
        galml.spin(options.pop("cutouts"), **options)


def test_bad_members_are_rows_of_nan(galaxies, model, table):
    infinite = ccd(galaxies, 0)
    infinite.data = np.full(infinite.shape, np.inf)
    data = [
        ccd(galaxies, 0),
        ccd(galaxies, 1, R_EFF=0.01),
        "missing.fits",
        NDData([[1.0]], meta={"R_EFF": 1, "PIXSCALE": 1}),
        None,
        infinite,
        ccd(galaxies, 1, R_EFF="large"),
        ccd(galaxies, 1, PIXSCALE=-1.0),
        ccd(galaxies, 1, PSFFWHM="1,2"),
        ccd(galaxies, 1, BANDS="g,g,r"),
        galaxies.data[0].astype(complex),
        ccd(galaxies, 1),
    ]
    with pytest.warns(GalmlWarning, match="10 of 12 rows have no result"):
        found = galml.spin(data, model=model)
    assert_same(found[[0, 11]], table[:2])
    assert np.isnan(found["spin"][1:11]).all()
    names = decode_flags(found["flags"])
    assert all("failed" in flags for flags in names[1:11]) and "unreadable" in names[2]


def test_stacks_of_unknown_bands_raise(galaxies, model):
    stack = CutoutStack(
        galaxies.data * u.nJy, bands=("g", "x", "i"), pixel_scale=0.4 * u.arcsec
    )
    with pytest.raises(InputError, match="^bands: got the unknown band 'x'"):
        galml.spin(stack, model=model)


def test_published_model(galaxies, published_model, images):
    own = {"r_eff": galaxies.r_eff[:3] * u.pix, "model": published_model}
    found = galml.spin(images[:3], bands=BANDS, **own)
    assert found.colnames == [*COLUMNS[:4], "flags"]
    np.testing.assert_allclose(found["spin_hi"] - found["spin_lo"], 0.2)
    with pytest.raises(InputError, match="n_samples"):
        galml.spin(images[:3], bands=BANDS, n_samples=2, **own)


def test_answers_of_the_population_alone_are_flagged(galaxies, model):
    """Wide answers, and only these, tell of the population."""
    table = galml.spin(galaxies.data * u.nJy, r_eff=4 * u.pix, bands=BANDS, model=model)
    wide = (table["spin_hi"] - table["spin_lo"]) / 2 > PRIOR_WIDTH
    flagged = (table["flags"] & int(Flag.PRIOR_DOMINATED)) != 0
    known = np.isfinite(table["spin"])
    np.testing.assert_array_equal(flagged[known], wide[known])


def test_a_domain_keeps_nothing_of_what_it_saw(images, model):
    domain = find_domain(model)
    before = dict(vars(domain))
    first = run(domain, images[:4], {"r_eff": 4 * u.pix, "bands": BANDS})
    assert len(first) == 4 and vars(domain) == before


def test_images_of_nothing_say_so():
    """Why their size cannot be measured stands in the flags, too."""
    noise = np.random.default_rng(0).normal(size=(2, 64, 64))
    y, x = np.indices(noise[0].shape) - 32.0
    noise[1] += 50 * np.exp(-np.hypot(x, y) / 5)
    with pytest.warns(GalmlWarning, match="1 of 2 rows"):
        table = galml.spin(list(noise * u.nJy), bands=["r"])
    nothing = int(Flag.FAILED | Flag.NO_SOURCE_AT_CENTER)
    assert (table["flags"] & nothing).tolist() == [nothing, 0]


@pytest.mark.parametrize("name", ["H\N{GREEK SMALL LETTER ALPHA}", "B_J", "LRF"])
def test_filters_that_are_no_known_band(name):
    y, x = np.indices((64, 64)) - 32.0
    image = NDData(np.exp(-np.hypot(x, y) / 5), unit=u.nJy, meta={"FILTER": name})
    with pytest.raises(InputError, match="bands: got the unknown band"):
        galml.spin(image)
