# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter
from scipy.special import ellipe

from galml.core import Flag, InputError, decode_flags
from galml.stellar_kinematics import correct_seeing, lambda_r, operation

N = 61
MIDDLE = (N - 1) / 2
CENTER = (MIDDLE, MIDDLE)


def disk(
    n=N, scale=8.0, angle=90.0, inclination=60.0, speed=200.0, sigma=60.0, rise=4.0
):
    """Thin exponential disk: its light, velocities and dispersions.

    The major axis lies at ``angle``, counter-clockwise from +y; the rotation curve is
    flat outside ``rise``.
    """
    y, x = np.indices((n, n)) - (n - 1) / 2
    turn, tilt = np.radians([angle, inclination])
    major = y * np.cos(turn) - x * np.sin(turn)
    minor = (x * np.cos(turn) + y * np.sin(turn)) / np.cos(tilt)
    radius = np.hypot(major, minor)
    flux = np.exp(-radius / scale)
    cosine = np.divide(major, radius, out=np.zeros_like(radius), where=radius > 0)
    velocity = speed * np.sin(tilt) * cosine * np.tanh(radius / rise)
    return flux, velocity, np.full(flux.shape, sigma)


def measure(flux, velocity, dispersion, unit="km/s", **options):
    return lambda_r(flux, velocity, dispersion, unit=unit, **options)[0]


def noisy(values, error, unit=u.km / u.s, **options):
    std = StdDevUncertainty(np.full(values.shape, error))
    return CCDData(values, unit=unit, uncertainty=std, **options)


def sky(scale=0.5, angle=0.0, parity=-1):
    """Give a celestial WCS with that pixel scale in arcsec."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, 2.0), (MIDDLE + 1, MIDDLE + 1)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    wcs.wcs.cd = turn @ np.diag([parity, 1]) * scale / 3600
    return wcs


# Closed forms


@pytest.mark.parametrize("sigma", [1.0, 50.0, 120.0, 700.0])
@pytest.mark.parametrize("radius", ["circular", "elliptical"])
def test_constant_speed_and_dispersion(sigma, radius):
    y, x = np.indices((40, 40)) - 19.5
    row = measure(
        np.exp(-np.hypot(x, y) / 7),
        120 * np.sign(x) + 30,
        np.full(x.shape, sigma),
        r_eff=12 * u.pix,
        ellipticity=0.3,
        position_angle=90 * u.deg,
        radius=radius,
    )
    assert row["lambda_r"] == pytest.approx(120 / np.hypot(120, sigma), rel=1e-9)
    assert row["v_over_sigma"] == pytest.approx(120 / sigma, rel=1e-9)
    assert row["systemic_velocity"].to_value("km/s") == pytest.approx(30, abs=1e-9)


@pytest.mark.parametrize("inclination", [20, 50, 75])
@pytest.mark.parametrize("sigma", [20.0, 100.0])
def test_thin_disk_with_a_flat_curve(inclination, sigma):
    # V = v sin(i) cos(phi) everywhere: only averages over phi are left.
    maps = disk(301, 60, 90, inclination, 200, sigma, rise=1e-3)
    row = measure(
        *maps,
        r_eff=100 * u.pix,
        ellipticity=1 - np.cos(np.radians(inclination)),
        position_angle=90 * u.deg,
        radius="elliptical",
    )
    s = sigma / (200 * np.sin(np.radians(inclination)))
    expected = 1 / (np.sqrt(1 + s**2) * ellipe(1 / (1 + s**2)))
    assert row["lambda_r"] == pytest.approx(expected, rel=2e-3)
    assert row["v_over_sigma"] == pytest.approx(1 / (np.sqrt(2) * s), rel=2e-3)
    assert row["coverage"] == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("radius", ["circular", "elliptical"])
def test_solid_body_against_quadrature(radius):
    inclination, scale, size, slope, sigma = 60.0, 50.0, 100.0, 1.5, 70.0
    y, x = np.indices((241, 241)) - 120.0
    flux = np.exp(-np.hypot(x, y / 0.5) / scale)
    maps = flux, slope * x, np.full(x.shape, sigma)
    ellipse = {"ellipticity": 0.5, "position_angle": 90 * u.deg}
    row = measure(*maps, r_eff=size * u.pix, **ellipse, radius=radius)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    r = size * (nodes[:, None] + 1) / 2
    phi = np.pi * (nodes + 1)
    weight = weights[:, None] * weights * r * np.exp(-r / scale)
    major, minor = r * np.cos(phi), r * np.sin(phi) * np.cos(np.radians(inclination))
    distance = np.hypot(major, minor) if radius == "circular" else r
    velocity = slope * major
    spin = (weight * distance * abs(velocity)).sum()
    spin /= (weight * distance * np.hypot(velocity, sigma)).sum()
    ordered = np.sqrt((weight * velocity**2).sum() / (weight * sigma**2).sum())
    assert row["lambda_r"] == pytest.approx(spin, rel=2e-3)
    assert row["v_over_sigma"] == pytest.approx(ordered, rel=4e-3)


def test_the_two_radii_differ():
    options = {"r_eff": 12 * u.pix, "ellipticity": 0.5, "position_angle": 90 * u.deg}
    rows = [
        measure(*disk(), radius=radius, **options)["lambda_r"]
        for radius in ("circular", "elliptical")
    ]
    # Slow pixels beside the minor axis weigh more by elliptical radius.
    assert rows[0] > rows[1] + 0.01


def test_limits():
    flux, velocity, dispersion = disk()
    cold = measure(flux, velocity, 0 * dispersion, r_eff=12 * u.pix)
    assert cold["lambda_r"] == pytest.approx(1, abs=1e-12)
    assert cold["v_over_sigma"] == np.inf
    assert "out_of_domain" in decode_flags(cold["flags"])
    still = measure(flux, 0 * velocity, dispersion, r_eff=12 * u.pix)
    assert still["lambda_r"] == 0 and still["v_over_sigma"] == 0
    assert "out_of_domain" not in decode_flags(still["flags"])


# Invariance


MOVES = {
    "turned": lambda a: np.rot90(a),
    "mirrored": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "transposed": lambda a: a.T,
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("ellipticity", [0.0, 0.5, None])
def test_flips_and_turns(move, ellipticity):
    maps = disk(angle=25)
    options = {"r_eff": 14 * u.pix, "ellipticity": ellipticity, "radius": "elliptical"}
    expected = measure(*maps, **options)
    row = measure(*(MOVES[move](a) for a in maps), **options)
    for name in ("lambda_r", "v_over_sigma", "ellipticity", "coverage"):
        assert row[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda f, v, s: (f, -v, s),
        lambda f, v, s: (f, v + 7321, s),
        lambda f, v, s: (3e-17 * f, v, s),
        lambda f, v, s: (f * u.Jy, v / 1000 * u.Mm / u.s, s * 1000 * u.m / u.s),
        lambda f, v, s: (f.astype(">f8"), v.astype(">f8"), s.astype(">f8")),
    ],
)
def test_sign_offset_and_units(change):
    maps = disk()
    expected = measure(*maps, r_eff=12 * u.pix, ellipticity=0.4)
    row = measure(*change(*maps), r_eff=12 * u.pix, ellipticity=0.4)
    for name in ("lambda_r", "v_over_sigma", "ellipticity"):
        assert row[name] == pytest.approx(expected[name], rel=1e-9)


def test_any_angle_on_the_sky():
    # The same galaxy on skies of any rotation and parity, its angle said on the sky.
    expected = measure(
        *disk(), r_eff=12 * u.pix, ellipticity=0.5, position_angle=90 * u.deg
    )
    for angle, parity in [(0, -1), (35, -1), (35, 1), (200, 1)]:
        wcs = sky(angle=angle, parity=parity)
        maps = [CCDData(m, unit="km/s", wcs=wcs) for m in disk()]
        # Of -x, the image's 90 degrees.
        east, north = wcs.wcs.cd @ [-1, 0]
        row = lambda_r(
            *maps,
            r_eff=6 * u.arcsec,
            ellipticity=0.5,
            position_angle=np.arctan2(east, north) * u.rad,
            center=wcs.pixel_to_world(*CENTER),
        )[0]
        assert row["lambda_r"] == pytest.approx(expected["lambda_r"], rel=1e-6)
        assert not row["flags"] & (Flag.NO_WCS | Flag.CENTER_ASSUMED)


def test_shape_of_the_light_is_measured():
    maps = disk(121, 20, angle=70, inclination=60)
    given = measure(
        *maps,
        r_eff=34 * u.pix,
        ellipticity=0.5,
        position_angle=70 * u.deg,
        center=(60, 60),
    )
    angle = measure(*maps, r_eff=34 * u.pix, ellipticity=0.5)
    assert angle["lambda_r"] == pytest.approx(given["lambda_r"], rel=2e-3)
    shape = measure(*maps, r_eff=34 * u.pix, ellipticity=None)
    assert shape["ellipticity"] == pytest.approx(0.5, abs=0.02)
    assert shape["lambda_r"] == pytest.approx(given["lambda_r"], rel=0.01)


# What is left out


def test_masked_and_broken_spaxels_do_not_count():
    flux, velocity, dispersion = disk()
    expected = measure(flux, velocity, dispersion, r_eff=12 * u.pix, center=CENTER)
    where = np.zeros(flux.shape, bool)
    where[25:29, 34:38] = True
    holes = []
    for place, rubbish in [(0, np.nan), (0, -5.0), (1, np.inf), (2, np.nan)]:
        maps = [flux.copy(), velocity.copy(), dispersion.copy()]
        maps[place][where] = rubbish
        holes.append(measure(*maps, r_eff=12 * u.pix, center=CENTER))
    masked = CCDData(np.where(where, 1e6, velocity), unit="km/s", mask=where)
    holes.append(measure(flux, masked, dispersion, r_eff=12 * u.pix, center=CENTER))
    spins = [row["lambda_r"] for row in holes]
    assert np.ptp(spins) < 1e-12
    assert 1e-4 < abs(spins[0] - expected["lambda_r"]) < 0.05
    assert holes[0]["coverage"] == pytest.approx(
        expected["coverage"] - where.sum() / (np.pi * 12**2), abs=1e-9
    )


def test_systemic_velocity_of_half_a_galaxy_with_outliers():
    flux, velocity, dispersion = disk()
    whole = measure(flux, velocity, dispersion, r_eff=12 * u.pix, center=CENTER)
    velocity = velocity + 1500
    velocity[:, 36:42] = np.nan
    velocity[20, 22:25] = 9e4
    row = measure(flux, velocity, dispersion, r_eff=12 * u.pix, center=CENTER)
    assert row["systemic_velocity"].value == pytest.approx(1500, abs=5)
    clean = np.where(velocity > 1e4, np.nan, velocity)
    fixed = measure(
        flux, clean, dispersion, r_eff=12 * u.pix, center=CENTER, systemic=1500
    )
    in_m = measure(
        flux,
        clean,
        dispersion,
        r_eff=12 * u.pix,
        center=CENTER,
        systemic=1.5e6 * u.m / u.s,
    )
    assert in_m["lambda_r"] == pytest.approx(fixed["lambda_r"], rel=1e-12)
    assert fixed["lambda_r"] == pytest.approx(whole["lambda_r"], abs=0.05)


def test_coverage_and_size_flags():
    flux, velocity, dispersion = disk(sigma=80.0)
    full = decode_flags(measure(flux, velocity, dispersion, r_eff=12 * u.pix)["flags"])
    assert full == ("no_wcs", "center_assumed", "no_uncertainty")
    velocity = velocity.copy()
    velocity[:, 37:] = np.nan
    cut = measure(flux, velocity, dispersion, r_eff=12 * u.pix, center=CENTER)
    assert cut["coverage"] < 0.85 and cut["flags"] & Flag.MASKED
    beyond = measure(*disk(), r_eff=45 * u.pix, center=CENTER)
    assert beyond["coverage"] < 0.85 and beyond["flags"] & Flag.MASKED
    small = measure(*disk(), r_eff=2.5 * u.pix, center=CENTER)
    assert small["flags"] & Flag.FEW_PIXELS
    whole = measure(*disk())
    assert whole["flags"] & Flag.TRUNCATED and np.isnan(whole["coverage"])
    assert np.isfinite(whole["lambda_r"])


# Errors


def test_monte_carlo_errors_match_repeated_noise():
    flux, velocity, dispersion = disk()
    random = np.random.default_rng(5)
    options = {
        "r_eff": 10 * u.pix,
        "center": CENTER,
        "ellipticity": 0.4,
        "position_angle": 90 * u.deg,
    }
    rows = [
        measure(
            flux + random.normal(0, 0.01, flux.shape),
            velocity + random.normal(0, 15, flux.shape),
            dispersion + random.normal(0, 10, flux.shape),
            **options,
        )
        for _ in range(300)
    ]
    maps = noisy(flux, 0.01, "adu"), noisy(velocity, 15), noisy(dispersion, 10)
    row = lambda_r(*maps, n_samples=400, seed=0, **options)[0]
    for name in ("lambda_r", "v_over_sigma"):
        scatter = np.std([row[name] for row in rows])
        assert row[f"{name}_err"] == pytest.approx(scatter, rel=0.15)
    assert not row["flags"] & Flag.NO_UNCERTAINTY


def test_draws_depend_on_seed_and_galaxy_alone():
    flux, velocity, dispersion = disk()
    maps = flux, noisy(velocity, 15), noisy(dispersion, 10)
    single = lambda_r(*maps, r_eff=12 * u.pix, seed=0)["lambda_r_err"][0]
    pairs = [[m, m] for m in maps]
    pairs[0][0] = flux**2
    batch = lambda_r(*pairs, r_eff=12 * u.pix, seed=0)["lambda_r_err"]
    assert batch[1] == single
    assert abs(batch[0] / single - 1) > 0.01
    # 100 draws know a standard deviation to 7 %.
    other = lambda_r(*maps, r_eff=12 * u.pix, seed=1)["lambda_r_err"][0]
    assert 1e-4 < abs(other / single - 1) < 0.4
    without = lambda_r(*maps, r_eff=12 * u.pix, n_samples=0)
    assert np.isnan(without["lambda_r_err"][0]) and "SEED" not in without.meta


def test_a_fresh_seed_is_noted_and_reproduces():
    flux, velocity, dispersion = disk()
    maps = flux, noisy(velocity, 15), noisy(dispersion, 10)
    tables = [lambda_r(*maps, r_eff=12 * u.pix, n_samples=10) for _ in range(2)]
    first, second = (table["lambda_r_err"][0] for table in tables)
    assert tables[0].meta["SEED"] != tables[1].meta["SEED"] and first != second
    again = lambda_r(*maps, r_eff=12 * u.pix, n_samples=10, seed=tables[0].meta["SEED"])
    assert again["lambda_r_err"][0] == first


def test_draws_in_pieces(monkeypatch):
    flux, velocity, dispersion = disk()
    maps = flux, noisy(velocity, 15), noisy(dispersion, 10)
    whole = lambda_r(*maps, r_eff=12 * u.pix, seed=3)["lambda_r_err"][0]
    monkeypatch.setattr(operation, "MAX_DRAWN", 3000)
    pieces = lambda_r(*maps, r_eff=12 * u.pix, seed=3)["lambda_r_err"][0]
    assert pieces == pytest.approx(whole, rel=1e-12)


def test_no_errors_without_uncertainties():
    flux, velocity, dispersion = disk()
    row = measure(flux, noisy(velocity, 15), dispersion, r_eff=12 * u.pix)
    assert np.isnan(row["lambda_r_err"]) and np.isnan(row["v_over_sigma_err"])
    assert row["flags"] & Flag.NO_UNCERTAINTY


# Seeing


def test_seeing_formula():
    corrected, lower, upper = correct_seeing(
        0.4, psf_fwhm=2.0 * u.arcsec, r_eff=0.1 * u.arcmin, sersic_index=4
    )
    x = 2.0 / 2.3548200450309493 / 6.0
    factor = (1 + (x / 0.47) ** 1.76) ** 0.84 * (1 + 2 * 0.26 * x)
    assert corrected == pytest.approx(0.4 * factor, rel=1e-12)
    assert lower == pytest.approx(min(0.32 * x, 0.4 * (factor - 1)), rel=1e-12)
    assert upper == pytest.approx(0.03 * x, rel=1e-12)
    plain = correct_seeing([0.2, 0.4], psf_fwhm=[0, 2], r_eff=6, sersic_index=[1, 4])
    np.testing.assert_allclose(plain[0], [0.2, 0.4 * factor], rtol=1e-12)


@pytest.mark.parametrize(
    ("spin", "fwhm", "index"),
    [
        (0.3, 2.4, 2),
        (0.3, 0.5, 0.4),
        (0.3, 0.5, 6.6),
        (0.9, 2.0, 4),
        (0.3, np.nan, 2),
        (0.3, 0.5, np.nan),
    ],
)
def test_seeing_correction_does_not_hold_everywhere(spin, fwhm, index):
    values = correct_seeing(spin, psf_fwhm=fwhm, r_eff=1.0, sersic_index=index)
    assert np.isnan(values).all()


def blurred(flux, velocity, dispersion, fwhm):
    """Maps through a Gaussian PSF: the moments of the light are blurred."""
    moments = flux, flux * velocity, flux * (velocity**2 + dispersion**2)
    moments = [gaussian_filter(m, fwhm / 2.3548) for m in moments]
    mean = moments[1] / moments[0]
    return moments[0], mean, np.sqrt(moments[2] / moments[0] - mean**2)


@pytest.mark.parametrize("fwhm", [4.0, 8.0])
def test_seeing_correction_recovers_a_blurred_disk(fwhm):
    maps = disk(121, scale=7.15, inclination=50, sigma=60, rise=4.0)
    options = {
        "r_eff": 12 * u.pix,
        "ellipticity": 1 - np.cos(np.radians(50)),
        "position_angle": 90 * u.deg,
    }
    truth = measure(*maps, **options)["lambda_r"]
    seen = measure(
        *blurred(*maps, fwhm), psf_fwhm=fwhm * u.pix, sersic_index=1, **options
    )
    assert seen["lambda_r"] < truth - 0.015
    better = abs(seen["lambda_r_corrected"] - truth)
    assert better < 0.02 and better < truth - seen["lambda_r"]
    assert not seen["flags"] & Flag.OUT_OF_DOMAIN


def test_corrected_column_and_its_error():
    flux, velocity, dispersion = disk()
    maps = flux, noisy(velocity, 15), noisy(dispersion, 10)
    row = lambda_r(*maps, r_eff=12 * u.pix, psf_fwhm=5 * u.pix, sersic_index=3)[0]
    corrected, lower, upper = correct_seeing(
        row["lambda_r"], psf_fwhm=5 * u.pix, r_eff=12 * u.pix, sersic_index=3
    )
    assert row["lambda_r_corrected"] == corrected > row["lambda_r"]
    scaled = row["lambda_r_err"] * corrected / row["lambda_r"]
    expected = np.hypot(scaled, (lower + upper) / 2)
    assert row["lambda_r_corrected_err"] == pytest.approx(expected, rel=1e-12)
    assert "lambda_r_corrected" not in lambda_r(*maps, r_eff=12 * u.pix).colnames


def test_only_regular_rotators_are_corrected():
    flux, velocity, dispersion = disk()
    options = {"r_eff": 12 * u.pix, "psf_fwhm": 3 * u.pix, "sersic_index": 2}
    y, x = np.indices(flux.shape) - MIDDLE
    core = np.where(np.hypot(x, y) < 7, -velocity, velocity)
    noise = np.random.default_rng(0).normal(0, 50, flux.shape)
    for field in (core, noise):
        row = measure(flux, field, dispersion, **options)
        assert np.isnan(row["lambda_r_corrected"])
        assert row["flags"] & Flag.OUT_OF_DOMAIN and np.isfinite(row["lambda_r"])
    row = measure(flux, velocity + noise / 5, dispersion, **options)
    assert np.isfinite(row["lambda_r_corrected"])


# A simulated galaxy


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("psf_fwhm", -2 * u.pix), ("psf_fwhm", np.nan * u.pix)]
    + [("sersic_index", one) for one in (-1, 0, np.nan, np.inf)],
)
def test_seeing_that_is_none(name, wrong):
    maps = disk()
    options = {"r_eff": 12 * u.pix, "psf_fwhm": 3 * u.pix, "sersic_index": 2}
    with pytest.raises(InputError, match=f"{name}: got"):
        measure(*maps, **options | {name: wrong})
