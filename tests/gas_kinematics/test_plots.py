# Licensed under a 3-clause BSD style license - see LICENSE.rst

import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.testing import assert_allclose

from galml.core.exceptions import InputError
from galml.gas_kinematics import plots

matplotlib = pytest.importorskip("matplotlib")
Figure = pytest.importorskip("matplotlib.figure").Figure


def disk(angle, pixels=32):
    """Mean velocity of a disk around 1000 km/s, receding side ``angle`` from +y."""
    y, x = np.mgrid[:pixels, :pixels] - (pixels - 1) / 2
    theta = np.radians(angle)
    along = np.cos(theta) * y - np.sin(theta) * x
    velocity = 1000 + 100 * np.tanh(along / 4)
    return np.where(np.hypot(x, y) < pixels * 0.42, velocity, np.nan) * u.km / u.s


def row(**changes):
    return {
        "circularity": 0.8,
        "circularity_err": 0.06,
        "circularity_lo": 0.75,
        "circularity_hi": 0.87,
        "disturbed_probability": 0.01,
        "position_angle": 30.0 * u.deg,
        "position_angle_err": 5.0 * u.deg,
        "inclination": 60.0 * u.deg,
        "inclination_err": 4.0 * u.deg,
        "map_quality": 0.95,
        "flags": 512,
    } | changes


def sample(n):
    rng = np.random.default_rng(0)
    truth = {"circularity": rng.uniform(0, 1, n), "position_angle": np.zeros(n)}
    error = rng.uniform(0.02, 0.1, n)
    kappa = truth["circularity"] + error * rng.normal(size=n)
    columns = {
        "circularity": kappa,
        "circularity_err": error,
        "circularity_lo": kappa - error,
        "circularity_hi": kappa + error,
        "disturbed_probability": np.clip(1 - kappa, 0, 1),
        "position_angle": (100 * error * rng.normal(size=n) % 360) * u.deg,
        "position_angle_err": 100 * error * u.deg,
        "map_quality": 1 - error,
        "latent": np.outer(kappa, np.arange(16)) + 0.01 * rng.normal(size=(n, 16)),
        "flags": np.zeros(n, int),
    }
    return QTable(columns), truth


def panels(figure):
    """Axes by label, color bars left out."""
    figure.canvas.draw()
    return {a.get_label(): a for a in figure.axes if not hasattr(a, "_colorbar")}


def found(panel, name):
    return panel.findobj(lambda artist: artist.get_gid() == name)


def lab(rgb):
    """CIELAB of sRGB colors, under D65."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = linear @ np.transpose(to_xyz) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def test_colors_are_perceptually_sound():
    colors = matplotlib.colormaps[plots.VELOCITY_COLORS]
    rgb = colors(np.linspace(0, 1, 255))[:, :3]
    assert rgb[0, 2] > rgb[0, 0] and rgb[-1, 0] > rgb[-1, 2]
    lightness = lab(rgb)[:, 0]
    assert_allclose(lightness, lightness[::-1], atol=1.0)
    assert (np.diff(lightness[:128]) > -0.1).all()
    assert (np.diff(lightness[127:]) < 0.1).all()
    assert np.ptp(lightness) > 45
    # Steps of sixteen colors, so that rounding to 8 bits does not count.
    steps = np.linalg.norm(np.diff(lab(rgb[::16]), axis=0), axis=1)
    assert steps.max() / steps.min() < 1.15


def test_galaxy():
    figure = plots.plot_galaxy(disk(30), row(name="NGC 1"), beam=3 * u.pix)
    axes = panels(figure)
    assert set(axes) == {"map", "prepared", "circularity"}
    assert axes["map"].get_title() == "NGC 1"
    (image,) = axes["map"].images
    low, high = image.get_clim()
    assert low == -high and 80 < high < 160
    assert abs(np.nanmean(image.get_array())) < 1
    assert axes["prepared"].images[0].get_array().shape == (32, 32)
    # The receding side of the prepared map is up.
    prepared = axes["prepared"].images[0].get_array()
    assert np.nanmean(prepared[20:]) > 0.5 and np.nanmean(prepared[:12]) < -0.5
    (beam,) = found(axes["map"], "beam")
    assert beam.radius == 1.5
    text = figure.get_supxlabel()
    for part in ("0.80 ± 0.06", "30° ± 5°", "60° ± 4°", "0.01", "no_wcs"):
        assert part in text
    low, high = axes["circularity"].patches[0].get_bbox().intervaly
    assert_allclose((low, high), (0.75, 0.87))


@pytest.mark.parametrize("parity", [-1, 1])
def test_position_angle_on_the_sky(parity):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.cdelt = parity * 1e-4, 1e-4
    wcs.wcs.crpix, wcs.wcs.crval = (16.5, 16.5), (150, 2)
    ccd = CCDData(disk(-30 * parity), wcs=wcs)
    panel = panels(plots.plot_galaxy(ccd, row()))["map"]
    (line,) = found(panel, "angle")
    (x0, x1), (y0, y1) = line.get_data()
    assert_allclose((x0, y0), 15.5, atol=0.2)
    drawn = np.degrees(np.arctan2(-(x1 - x0), y1 - y0))
    assert_allclose(drawn, -30 * parity, atol=0.1)
    (wedge,) = found(panel, "wedge")
    assert_allclose((wedge.theta1 + wedge.theta2) / 2 % 360, (drawn + 90) % 360)
    assert_allclose(wedge.theta2 - wedge.theta1, 10)
    # The line ends where velocities recede.
    assert panel.images[0].get_array()[round(y1 * 0.8 + 3), round(x1 * 0.8 + 3)] > 50


def test_galaxy_that_failed():
    nothing = row(circularity=np.nan, position_angle=np.nan * u.deg, flags=1 + 64)
    values = disk(30)
    values[:] = np.nan
    figure = plots.plot_galaxy(values, nothing)
    axes = panels(figure)
    assert not found(axes["map"], "angle")
    assert not axes["circularity"].patches
    assert "no circularity" in figure.get_supxlabel()
    assert "failed, few_pixels" in figure.get_supxlabel()


def test_galaxy_without_errors():
    """The published model knows a position angle, and no more."""
    names = ("circularity", "position_angle_err", "inclination", "map_quality")
    figure = plots.plot_galaxy(disk(30), row(**dict.fromkeys(names, np.nan)))
    panel = panels(figure)["map"]
    assert found(panel, "angle") and not found(panel, "wedge")
    assert "PA = 30°" in figure.get_supxlabel()
    assert "nan" not in figure.get_supxlabel()


def test_galaxy_outliers_leave_the_limits():
    values = disk(0)
    clean = panels(plots.plot_galaxy(values, row()))["map"].images[0].get_clim()
    values[16, 10:16] = [1e5, -300, 2e3, -1e5, 3e3, 1e4] * u.km / u.s
    struck = panels(plots.plot_galaxy(values, row()))["map"].images[0].get_clim()
    assert_allclose(struck, clean, rtol=0.05)


def test_galaxy_refuses_batches():
    with pytest.raises(InputError, match="velocity_map: got a batch"):
        plots.plot_galaxy([disk(0)], row())


def test_table():
    table, _ = sample(40)
    table["circularity"][3] = np.nan
    axes = panels(plots.plot_table(table))
    assert set(axes) == {"latent", "histogram", "quality"}
    assert axes["histogram"].get_title() == "40 galaxies, 1 without a result"
    assert sum(patch.get_height() for patch in axes["histogram"].patches) <= 39
    offsets = axes["latent"].collections[0].get_offsets()
    # Principal components: centerd, uncorrelated, the first one the widest.
    covariance = np.cov(offsets.T)
    assert_allclose(offsets.mean(axis=0), 0, atol=1e-9)
    assert_allclose(covariance[0, 1], 0, atol=1e-9)
    assert covariance[0, 0] > covariance[1, 1]


@pytest.mark.parametrize("n", [30, 400])
def test_table_with_truth(n):
    table, truth = sample(n)
    axes = panels(plots.plot_table(table, truth))
    assert set(axes) >= {"truth", "calibration", "reliability"}
    assert len(axes["truth"].containers) == (1 if n == 30 else 0)
    labels = [text.get_text() for text in axes["calibration"].get_legend().get_texts()]
    assert labels == ["κ", "position angle"]
    curve = axes["calibration"].lines[1].get_ydata()
    assert (np.diff(curve) >= 0).all()
    assert_allclose(curve[34], 0.68, atol=0.2 if n == 30 else 0.07)


def test_table_without_position_angles():
    table, truth = sample(30)
    axes = panels(
        plots.plot_table(table, QTable({"circularity": truth["circularity"]}))
    )
    assert len(axes["calibration"].get_legend().get_texts()) == 1


@pytest.mark.parametrize("n", [0, 1])
def test_table_of_hardly_any(n):
    table, _ = sample(3)
    assert panels(plots.plot_table(table[:n]))["histogram"].get_title()


def test_table_without_results():
    table, _ = sample(5)
    for name in ("circularity", "circularity_err", "map_quality"):
        table[name] = np.nan
    table["position_angle_err"] = np.nan * u.deg
    panel = panels(plots.plot_table(table))["latent"]
    assert len(panel.collections[0].get_offsets()) == 5


def test_history():
    history = QTable(
        {
            "epoch": [0, 1, 2, 3],
            "train_loss": [3.0, 2.0, 1.0, 0.5],
            "validation_loss": [3.0, 2.0, 1.5, 1.7],
        }
    )
    panel = panels(plots.plot_history(history))["loss"]
    assert_allclose(panel.lines[2].get_xydata(), [[2, 1.5]])
    assert "epoch 2, 1.5" in panel.get_legend().get_texts()[2].get_text()


def test_figures_are_used_and_returned():
    table, _ = sample(5)
    figure = Figure()
    assert plots.plot_table(table, figure=figure) is figure
    figure = Figure()
    assert plots.plot_galaxy(disk(0), row(), figure=figure) is figure


def test_import_is_light():
    code = (
        "import sys, galml.gas_kinematics.plots\n"
        "assert not {'matplotlib', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


compared = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 50},
    style="default",
)


@compared
def test_picture_of_a_galaxy():
    return plots.plot_galaxy(disk(30), row(name="a disk"), beam=3 * u.pix)


@compared
def test_picture_of_a_table():
    return plots.plot_table(*sample(80))
