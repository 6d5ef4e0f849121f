# Licensed under a 3-clause BSD style license - see LICENSE.rst
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from matplotlib.figure import Figure

from galml.core import InputError
from galml.stellar_kinematics import lambda_r, plots

image_test = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 50},
    style="default",
)
ELLIPSE = {"r_eff": 9 * u.pix, "ellipticity": 0.5, "position_angle": 60 * u.deg}


def galaxy(speed=150.0):
    """Maps of a disk whose receding side lies 60 degrees from +y, through -x."""
    y, x = np.indices((41, 41)) - 20.0
    turn = np.radians(60)
    major = y * np.cos(turn) - x * np.sin(turn)
    minor = (x * np.cos(turn) + y * np.sin(turn)) / 0.5
    radius = np.hypot(major, minor)
    flux = np.where(radius < 35, np.exp(-radius / 5), np.nan)
    error = StdDevUncertainty(np.full(flux.shape, 9.0))
    values = speed * major / (radius + 3) + 700, 90 * np.exp(-radius / 20)
    return flux, *(CCDData(v, unit="km/s", uncertainty=error) for v in values)


@pytest.fixture(scope="module")
def row():
    return lambda_r(*galaxy(), seed=1, **ELLIPSE)[0]


@image_test
def test_galaxy(row):
    flux, velocity, dispersion = galaxy()
    return plots.plot_galaxy(
        flux, row, velocity=velocity, dispersion=dispersion, **ELLIPSE
    )


@image_test
def test_table():
    random = np.random.default_rng(0)
    ellipticity = random.uniform(0, 0.9, 40)
    spin = np.sqrt(ellipticity) * random.uniform(0.1, 1, 40)
    table = QTable({"lambda_r": spin, "lambda_r_err": np.full(40, 0.03)})
    table["ellipticity"] = ellipticity
    table["lambda_r"][:3] = np.nan
    return plots.plot_table(table)


def test_what_the_axes_show(row):
    flux, velocity, dispersion = galaxy()
    options = {"velocity": velocity, "dispersion": dispersion} | ELLIPSE
    figure = Figure()
    assert plots.plot_galaxy(flux, row, **options, figure=figure) is figure
    axes = {axis.get_label(): axis for axis in figure.axes}
    assert {"flux", "velocity", "dispersion", "profile"} <= set(axes)
    # The receding side is red, to the left and up; the rest of the sky is empty.
    shown = axes["velocity"].images[0].get_array()
    assert shown[180, 120] > 50 > -50 > shown[120, 180]
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown))[5, 5]
    # λ_R inside the ellipse is the one that was measured.
    curve = axes["profile"].lines[0].get_xydata()
    measured = np.interp(9, *curve.T)
    assert measured == pytest.approx(row["lambda_r"], abs=0.01)
    by_ellipse = plots.plot_galaxy(flux, row, radius="elliptical", **options)
    profile = next(a for a in by_ellipse.axes if a.get_label() == "profile")
    other = lambda_r(*galaxy(), n_samples=0, radius="elliptical", **ELLIPSE)
    inside = np.interp(9, *profile.lines[0].get_xydata().T)
    assert inside == pytest.approx(other["lambda_r"][0], abs=0.01)


def test_the_whole_map_is_the_aperture():
    flux, velocity, dispersion = galaxy()
    row = lambda_r(*galaxy(), n_samples=0)[0]
    figure = plots.plot_galaxy(flux, row, velocity=velocity, dispersion=dispersion)
    assert not next(a for a in figure.axes if a.get_label() == "flux").patches


def test_corrected_spin_is_drawn():
    maps = zip(galaxy(90), galaxy(150), strict=True)
    table = lambda_r(*map(list, maps), psf_fwhm=2 * u.pix, sersic_index=1, **ELLIPSE)
    panel = plots.plot_table(table).axes[0]
    drawn = panel.collections[-1].get_offsets()[:, 1]
    np.testing.assert_allclose(drawn, table["lambda_r_corrected"])


def test_one_galaxy_only(row):
    flux, velocity, dispersion = galaxy()
    with pytest.raises(InputError, match="flux: got a batch"):
        plots.plot_galaxy(
            [flux], row, velocity=[velocity], dispersion=[dispersion], r_eff=9 * u.pix
        )
