# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import QTable, Table

import galml
from galml.core import (
    Flag,
    GalmlWarning,
    InputError,
    InputTypeError,
    InputUnitError,
    decode_flags,
)
from galml.gas_kinematics import Moments
from galml.stellar_kinematics import correct_seeing, lambda_r

KMS = u.km / u.s
Y, X = np.indices((31, 31)) - 15.0
FLUX = np.exp(-np.hypot(X, Y) / 4)
VELOCITY = 120 * np.tanh(X / 3) * KMS
DISPERSION = np.full(X.shape, 70.0) * KMS
MAPS = FLUX, VELOCITY, DISPERSION
EXPECTED = lambda_r(*MAPS, r_eff=7 * u.pix)


def spin_of(*arguments, **options):
    return lambda_r(*arguments, **{"r_eff": 7 * u.pix} | options)["lambda_r"]


def table_of(scale=1 * u.dimensionless_unscaled, errors=False):
    table = QTable(
        {
            "x": X.ravel() * scale,
            "y": Y.ravel() * scale,
            "flux": FLUX.ravel(),
            "velocity": VELOCITY.ravel(),
            "dispersion": DISPERSION.ravel(),
        },
        meta={"OBJECT": "NGC 1"},
    )
    if errors:
        table["velocity_err"] = np.full(X.size, 12.0) * KMS
        table["dispersion_err"] = np.full(X.size, 9000.0) * u.m / u.s
    return table


def test_columns_and_provenance():
    assert EXPECTED.colnames == [
        "lambda_r",
        "lambda_r_err",
        "v_over_sigma",
        "v_over_sigma_err",
        "ellipticity",
        "systemic_velocity",
        "coverage",
        "flags",
    ]
    assert isinstance(EXPECTED, QTable) and len(EXPECTED) == 1
    assert EXPECTED["systemic_velocity"].unit == KMS
    assert EXPECTED.meta["OPERATN"] == "lambda_r"
    assert EXPECTED.meta["GALMLVER"] == galml.__version__
    assert "r_eff=7.0 pix" in EXPECTED.meta.values()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda flux, v, s: (flux * u.Jy, v, s),
        lambda flux, v, s: (NDData(flux), NDData(v), NDData(s)),
        lambda flux, v, s: (CCDData(flux, unit="adu"), v, s.to("m/s")),
        lambda flux, v, s: (fits.ImageHDU(flux), v, s),
        lambda flux, v, s: (np.ma.array(flux), v, s),
    ],
)
def test_kinds_of_maps(wrap):
    assert spin_of(*wrap(*MAPS))[0] == pytest.approx(EXPECTED["lambda_r"][0], rel=1e-9)


def test_inputs_are_not_changed():
    copies = [np.array(m) for m in MAPS]
    lambda_r(*MAPS, r_eff=7 * u.pix, ellipticity=None)
    for before, after in zip(copies, MAPS, strict=True):
        assert np.array_equal(before, np.asarray(after))


@pytest.mark.parametrize("kind", [list, tuple, iter, "stack"])
def test_batches_keep_their_order(kind):
    dispersions = [DISPERSION, 2 * DISPERSION, 3 * DISPERSION]
    batch = [FLUX] * 3, [VELOCITY] * 3, dispersions
    if kind == "stack":
        batch = np.stack(batch[0]), u.Quantity(batch[1]), u.Quantity(batch[2])
    else:
        batch = [kind(maps) for maps in batch]
    spins = spin_of(*batch)
    alone = [spin_of(FLUX, VELOCITY, sigma)[0] for sigma in dispersions]
    np.testing.assert_allclose(spins, alone, rtol=1e-12)
    assert spins[0] > spins[1] > spins[2]


def test_options_row_by_row():
    batch = [[m] * 3 for m in MAPS]
    options = {
        "r_eff": [5, 7, 9] * u.pix,
        "ellipticity": [0.0, 0.3, 0.6],
        "position_angle": [10, 20, 30] * u.deg,
        "center": [(15, 15), (14, 15), (15, 16)],
    }
    table = lambda_r(*batch, **options)
    for i, row in enumerate(table):
        alone = {name: values[i] for name, values in options.items()}
        assert row["lambda_r"] == lambda_r(*MAPS, **alone)["lambda_r"][0]
    np.testing.assert_allclose(table["ellipticity"], [0, 0.3, 0.6], atol=1e-12)


def test_bad_members_of_a_batch_are_rows_of_nan():
    flux = [FLUX, FLUX, "missing.fits", FLUX[:9], FLUX]
    velocity = [VELOCITY, VELOCITY.value * u.Jy, VELOCITY, VELOCITY, VELOCITY]
    with pytest.warns(GalmlWarning, match="3 of 5 rows have no result") as caught:
        table = lambda_r(flux, velocity, [DISPERSION] * 5, r_eff=7 * u.pix)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert np.isnan(table["lambda_r"]).tolist() == [False, True, True, True, False]
    assert table["lambda_r"][4] == EXPECTED["lambda_r"][0]
    assert decode_flags(table["flags"])[1:4] == [
        ("failed",),
        ("failed", "unreadable"),
        ("failed",),
    ]
    assert np.isnan(table["systemic_velocity"][1])


def test_fewer_maps_than_announced():
    with pytest.warns(GalmlWarning, match="dispersion: got too few maps"):
        table = lambda_r(
            iter([FLUX] * 2), iter([VELOCITY] * 2), iter([DISPERSION]), r_eff=7 * u.pix
        )
    assert np.isnan(table["lambda_r"]).tolist() == [False, True]


def test_fits_files(tmp_path):
    paths = []
    for name, values in zip(("flux", "velocity", "dispersion"), MAPS, strict=True):
        hdu = fits.PrimaryHDU(u.Quantity(values).value)
        hdu.header["OBJECT"] = "NGC 2"
        if name != "flux":
            hdu.header["BUNIT"] = "km/s"
        paths.append(tmp_path / f"{name}.fits")
        hdu.writeto(paths[-1])
    table = lambda_r(*paths, r_eff=7 * u.pix)
    assert table["lambda_r"][0] == pytest.approx(EXPECTED["lambda_r"][0], rel=1e-12)
    assert table["name"].tolist() == ["NGC 2"]
    batch = lambda_r(*([str(path)] * 2 for path in paths), r_eff=7 * u.pix)
    assert (batch["lambda_r"] == table["lambda_r"][0]).all() and len(batch) == 2


def test_one_file_with_many_extensions(tmp_path):
    images = [
        fits.ImageHDU(u.Quantity(values).value, name=name)
        for name, values in zip(("MFLUX", "VEL", "SIGMA"), MAPS, strict=True)
    ]
    for image, variance in zip(images[1:], (225.0, 100.0), strict=True):
        image.header["BUNIT"] = "km/s"
        image.header["ERRDATA"] = f"{image.name}_IVAR"
        partner = fits.ImageHDU(np.full(X.shape, 1 / variance))
        partner.name = f"{image.name}_IVAR"
        partner.header["HDUCLAS3"] = "INVMSE"
        images.append(partner)
    path = tmp_path / "maps.fits"
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    hdu = {"flux": "MFLUX", "velocity": "VEL", "dispersion": "SIGMA"}
    table = lambda_r(path, path, path, hdu=hdu, r_eff=7 * u.pix)
    assert table["lambda_r"][0] == pytest.approx(EXPECTED["lambda_r"][0], rel=1e-12)
    assert 0 < table["lambda_r_err"][0] < 0.05
    assert lambda_r(path, hdu=hdu, r_eff=7 * u.pix)["lambda_r"] == table["lambda_r"]
    for batch in ([path] * 2, iter([str(path)] * 2)):
        spins = lambda_r(batch, hdu=hdu, r_eff=[7, 5] * u.pix)["lambda_r"]
        assert spins[0] == table["lambda_r"][0] > spins[1]
    with pytest.raises(InputError, match="hdu: got extensions for"):
        lambda_r(path, path, path, hdu={"sigma": "SIGMA"}, r_eff=7 * u.pix)
    with pytest.raises(InputError, match="hdu: got no extension for .'flux'."):
        lambda_r(path, hdu={"velocity": "VEL", "dispersion": "SIGMA"}, r_eff=7 * u.pix)


# Tables of spaxels


@pytest.mark.parametrize("kind", [QTable, Table])
def test_a_table_of_spaxels(kind):
    row = lambda_r(kind(table_of()), r_eff=7 * u.pix)[0]
    for name in ("lambda_r", "v_over_sigma", "coverage"):
        assert row[name] == pytest.approx(EXPECTED[name][0], rel=1e-9)
    assert row["name"] == "NGC 1" and row["flags"] == EXPECTED["flags"][0]


def test_a_table_in_angles():
    table = table_of(0.5 * u.arcsec)
    options = {"ellipticity": 0.3, "position_angle": 40 * u.deg}
    expected = spin_of(*MAPS, **options)[0]
    spin = lambda_r(table, r_eff=3.5 * u.arcsec, center=(0, 0), **options)
    assert spin["lambda_r"][0] == pytest.approx(expected, rel=1e-9)
    assert spin["coverage"][0] == pytest.approx(
        lambda_r(*MAPS, r_eff=7 * u.pix, **options)["coverage"][0], rel=1e-6
    )
    with pytest.raises(InputUnitError, match="r_eff"):
        lambda_r(table, r_eff=7 * u.pix)


def test_a_table_with_errors_and_masked_rows():
    table = table_of(errors=True)
    row = lambda_r(table, r_eff=7 * u.pix, seed=0)[0]
    maps = [
        CCDData(values, uncertainty=StdDevUncertainty(np.full(X.shape, std)))
        for values, std in zip(MAPS[1:], (12.0, 9.0), strict=True)
    ]
    expected = lambda_r(FLUX, *maps, r_eff=7 * u.pix, seed=0)[0]
    assert row["lambda_r_err"] == pytest.approx(expected["lambda_r_err"], rel=0.3)
    assert not row["flags"] & Flag.NO_UNCERTAINTY
    masked = Table(table, masked=True)
    masked["velocity"].mask[400:430] = True
    holes = table_of(errors=True)
    holes.remove_rows(slice(400, 430))
    spin = lambda_r(masked, r_eff=7 * u.pix, center=(0, 0))["lambda_r"][0]
    alone = lambda_r(holes, r_eff=7 * u.pix, center=(0, 0))["lambda_r"][0]
    assert spin == pytest.approx(alone, rel=1e-12)
    negative = table_of(errors=True)
    negative["velocity_err"][400:430] = -1 * KMS
    bad = lambda_r(negative, r_eff=7 * u.pix, center=(0, 0))["lambda_r"][0]
    assert bad == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "fits.gz"])
def test_files_of_tables(tmp_path, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in ("named", "plain", "broken")]
    named, plain = table_of(), table_of(0.5 * u.arcsec)
    del plain.meta["OBJECT"]
    named.write(paths[0])
    plain.write(paths[1])
    paths[2].write_text("nothing\n")
    row = lambda_r(paths[0], r_eff=7 * u.pix)[0]
    assert row["lambda_r"] == pytest.approx(EXPECTED["lambda_r"][0], rel=1e-6)
    assert row["name"] == "NGC 1"
    with pytest.warns(GalmlWarning, match="1 of 3"):
        table = lambda_r(
            list(map(str, paths)), r_eff=[7 * u.pix, 3.5 * u.arcsec, 7 * u.pix]
        )
    assert table["name"].tolist() == ["NGC 1", "plain", "broken"]
    assert table["lambda_r"][0] == row["lambda_r"]
    assert table["lambda_r"][1] == pytest.approx(row["lambda_r"], rel=1e-6)
    assert np.isnan(table["lambda_r"][2])


def test_image_without_its_partners(tmp_path):
    path = tmp_path / "velocity.fits"
    fits.PrimaryHDU(VELOCITY.value).writeto(path)
    with pytest.raises(InputError, match="maps of velocity and dispersion beside it"):
        lambda_r(path, r_eff=7 * u.pix)


def test_codes_for_missing_measurements():
    table, holes = table_of(), table_of()
    table["velocity"][400:430] = table["dispersion"][400:430] = -999.9 * KMS
    holes.remove_rows(slice(400, 430))
    rows = [lambda_r(one, r_eff=7 * u.pix, center=(0, 0)) for one in (table, holes)]
    assert rows[0]["lambda_r"] == pytest.approx(rows[1]["lambda_r"][0], rel=1e-12)


def test_tables_that_cannot_be_measured_end_no_batch():
    tables = [table_of() for _ in range(4)]
    tables[1]["x"] = tables[1]["y"] = np.zeros(X.size)
    tables[2]["flux"] = np.full(X.size, 20) * u.mag
    tables[3] = tables[3][:0]
    with pytest.warns(GalmlWarning, match="3 of 4 .*spaxels at one place"):
        table = lambda_r(tables, r_eff=7 * u.pix)
    assert np.isnan(table["lambda_r"]).tolist() == [False, True, True, True]


def test_velocities_whose_squares_are_no_numbers():
    """Beside a sum that overflows, all rotation would seem to be none."""
    with pytest.warns(GalmlWarning, match="1 of 2 rows .*velocity: got values up to"):
        rows = lambda_r([FLUX] * 2, [VELOCITY, 1e160 * VELOCITY], [DISPERSION] * 2)
    assert (rows["flags"] & int(Flag.FAILED)).tolist() == [0, int(Flag.FAILED)]
    assert np.isnan(rows["lambda_r"][1]) and np.isnan(rows["v_over_sigma"][1])


def test_moments_are_one_galaxy():
    """They are a tuple, too, of maps that are no tables."""
    maps = Moments(*(CCDData(u.Quantity(m), meta={"OBJECT": "NGC 2"}) for m in MAPS))
    one, two = (lambda_r(given, r_eff=7 * u.pix) for given in (maps, [maps, maps]))
    assert (len(one), len(two)) == (1, 2) and one["name"] == "NGC 2"
    assert one["lambda_r"] == EXPECTED["lambda_r"]
    assert (two["lambda_r"] == EXPECTED["lambda_r"]).all()


def test_many_tables():
    damaged = table_of()
    damaged.remove_column("y")
    with pytest.warns(GalmlWarning, match="1 of 3"):
        table = lambda_r([table_of(), damaged, table_of()], r_eff=7 * u.pix)
    assert np.isnan(table["lambda_r"]).tolist() == [False, True, False]
    assert table["name"].tolist() == ["NGC 1"] * 3


def test_progress():
    calls = []
    lambda_r(
        *([m] * 3 for m in MAPS),
        r_eff=7 * u.pix,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(3, 3)]


# Errors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"r_eff": 0 * u.pix}, InputError, "r_eff"),
        ({"r_eff": np.nan * u.pix}, InputError, "r_eff"),
        ({"r_eff": "big"}, InputTypeError, "r_eff"),
        ({"r_eff": 7}, InputUnitError, "r_eff: got 7, without a unit"),
        ({"position_angle": 30}, InputUnitError, "position_angle"),
        ({"psf_fwhm": 2, "sersic_index": 2}, InputUnitError, "psf_fwhm"),
        ({"r_eff": [1, 2] * u.pix}, InputError, "r_eff"),
        ({"r_eff": 3 * u.arcsec}, InputUnitError, "r_eff"),
        ({"r_eff": 3 * u.kpc}, InputUnitError, "r_eff"),
        ({"r_eff": 1 * u.pix}, InputError, "5 usable spaxels in the aperture"),
        ({"center": (90, 90)}, InputError, "0 usable spaxels in the aperture"),
        ({"center": 3}, InputTypeError, "center"),
        ({"center": (1, 2, 3)}, InputTypeError, "center"),
        ({"center": (np.nan, 3)}, InputError, "center"),
        ({"center": SkyCoord(1, 2, unit="deg")}, InputError, "celestial WCS"),
        ({"ellipticity": 1}, InputError, "ellipticity"),
        ({"ellipticity": -0.1}, InputError, "ellipticity"),
        ({"ellipticity": np.nan}, InputError, "ellipticity"),
        ({"ellipticity": "round"}, InputTypeError, "ellipticity"),
        ({"position_angle": "up"}, InputTypeError, "position_angle"),
        ({"position_angle": np.inf * u.deg}, InputError, "position_angle"),
        ({"position_angle": 3 * u.km}, InputUnitError, "position_angle"),
        ({"radius": "square"}, InputError, "radius"),
        ({"systemic": 3 * u.kg}, InputUnitError, "systemic"),
        ({"systemic": np.nan}, InputError, "systemic"),
        ({"psf_fwhm": 2 * u.pix}, InputError, "sersic_index"),
        ({"sersic_index": 2}, InputError, "psf_fwhm"),
        (
            {"psf_fwhm": 2 * u.pix, "sersic_index": 2, "r_eff": None},
            InputError,
            "r_eff",
        ),
        ({"psf_fwhm": 2 * u.kg, "sersic_index": 2}, InputUnitError, "psf_fwhm"),
        ({"psf_fwhm": 2 * u.pix, "sersic_index": "n"}, InputTypeError, "sersic_index"),
        ({"n_samples": 1}, InputError, "n_samples"),
        ({"n_samples": 2.5}, InputError, "n_samples"),
        ({"seed": -1}, InputError, "seed"),
    ],
)
def test_options_that_cannot_be_used(options, error, message):
    with pytest.raises(error, match=message):
        lambda_r(*MAPS, **{"r_eff": 7 * u.pix} | options)


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        ((FLUX, VELOCITY.value, DISPERSION), InputUnitError, "velocity"),
        ((FLUX, VELOCITY, DISPERSION.value * u.K), InputUnitError, "dispersion"),
        ((FLUX, VELOCITY, DISPERSION[:9]), InputError, "shapes"),
        ((FLUX * u.mag / u.arcsec**2, VELOCITY, DISPERSION), InputUnitError, "linear"),
        ((FLUX, VELOCITY[0], DISPERSION), InputError, "velocity"),
        ((FLUX, VELOCITY, None), InputTypeError, "dispersion"),
        ((FLUX, None, None), InputTypeError, "flux: got a ndarray"),
        (("missing.ecsv", None, None), OSError, "missing.ecsv"),
        ((7, None, None), InputTypeError, "flux: got a int"),
        ((b"x.fits", None, None), InputTypeError, "flux: got a bytes"),
        (({"flux": FLUX}, None, None), InputTypeError, "flux: got a dict"),
        ((np.array("x.fits"), None, None), InputTypeError, "flux: got a ndarray"),
        (("a\0b", None, None), InputError, "flux: got"),
        ((FLUX, [VELOCITY], DISPERSION), InputError, "as many maps"),
        (([FLUX], [VELOCITY] * 2, [DISPERSION] * 2), InputError, "as many maps"),
        ((-FLUX, VELOCITY, DISPERSION), InputError, "0 usable spaxels in the map"),
        ((table_of()["x", "y", "flux"], None, None), InputError, "columns"),
        ((table_of(3 * u.kg), None, None), InputUnitError, "x"),
        ((FLUX, 1e160 * VELOCITY, DISPERSION), InputError, "velocity: .* 1.18e.162"),
        ((FLUX, VELOCITY, 1e300 * DISPERSION), InputError, "dispersion: .* at most"),
    ],
)
def test_maps_that_cannot_be_used(maps, error, message):
    with pytest.raises(error, match=message):
        lambda_r(*maps, r_eff=7 * u.pix)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"psf_fwhm": 2 * u.arcsec, "r_eff": 3}, InputUnitError),
        ({"psf_fwhm": "wide"}, InputTypeError),
        ({"sersic_index": "n"}, InputTypeError),
        ({"psf_fwhm": [1, 2, 3], "sersic_index": [1, 2]}, InputError),
    ],
)
def test_seeing_of_something_else(options, error):
    with pytest.raises(error):
        correct_seeing(0.3, **{"psf_fwhm": 2, "r_eff": 5, "sersic_index": 2} | options)
