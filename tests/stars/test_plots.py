# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from matplotlib.figure import Figure

from galml.core.exceptions import InputError
from galml.stars import plots
from galml.stars.metrics import rotation_curve

KMS = u.km / u.s
compared = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 45},
    style="default",
)


def galaxy(count, seed):
    """A thin disk that turns, with ages and abundances."""
    random = np.random.default_rng(seed)
    radius, angle = random.gamma(2, 2, count), random.uniform(0, 2 * np.pi, count)
    age = random.uniform(0.1, 13, count)
    iron = 0.2 - 0.05 * age + random.normal(0, 0.1, count)
    noise = random.normal(0, 20, (3, count))
    return QTable(
        {
            "x": radius * np.cos(angle) * u.kpc,
            "y": radius * np.sin(angle) * u.kpc,
            "z": random.normal(0, 0.3, count) * u.kpc,
            "v_x": (noise[0] - 200 * np.sin(angle)) * KMS,
            "v_y": (noise[1] + 200 * np.cos(angle)) * KMS,
            "v_z": noise[2] * KMS,
            "metal_mass_fraction": 0.0134 * 10**iron,
            "fe_h": iron * u.dex,
            "o_fe": (0.02 * age + random.normal(0, 0.02, count)) * u.dex,
            "age": age * u.Gyr,
        }
    )


@pytest.fixture(scope="module")
def stars():
    return galaxy(2000, 0), galaxy(3000, 1)


def panels(figure):
    figure.canvas.draw()
    return {panel.get_label(): panel for panel in figure.axes}


def test_maps(stars):
    sample, truth = stars
    figure = Figure()
    assert plots.plot_maps(sample, truth, figure=figure) is figure
    axes = panels(figure)
    for name in ("sampled", "true"):
        assert {f"face-on {name}", f"edge-on {name}", f"velocity {name}"} <= set(axes)
    images = [axes[f"face-on {name}"].images[0] for name in ("sampled", "true")]
    assert images[0].get_clim() == images[1].get_clim()
    assert images[0].get_extent() == images[1].get_extent()
    density = 10 ** images[1].get_array().filled(-np.inf)
    pixel = (images[1].get_extent()[1] * 2 / len(density)) ** 2
    # Smoothed over the edge.
    assert density.sum() * pixel == pytest.approx(0.98, abs=0.015)


def test_maps_have_y_upwards_and_know_what_turns(stars):
    sample = stars[0][stars[0]["y"] > 1 * u.kpc]
    axes = panels(plots.plot_maps(sample, extent=10_000 * u.pc))
    assert not any("true" in label for label in axes)
    image = axes["face-on sampled"].images[0]
    assert image.get_extent() == [-10, 10, -10, 10] and image.origin == "lower"
    seen = image.get_array().filled(np.nan)
    half = len(seen) // 2
    # But for what is smoothed by three pixels.
    assert np.isnan(seen[: half - 3]).all() and np.isfinite(seen[half:]).any()
    velocity = axes["velocity sampled"].images[0].get_array().filled(np.nan)
    assert np.nanmean(velocity[:, half:]) > 50 > -50 > np.nanmean(velocity[:, :half])


def test_quantiles(stars):
    sample, truth = stars
    sample = sample.copy()
    sample["x"] = (sample["x"] + 1 * u.kpc).to(u.pc)
    axes = panels(plots.plot_quantiles(sample, truth))
    assert len(axes) == 10
    line, points = axes["x"].lines
    np.testing.assert_allclose(line.get_xdata(), line.get_ydata())
    shift = np.median(points.get_ydata() - points.get_xdata())
    assert shift == pytest.approx(1, abs=0.3)
    axes = panels(plots.plot_quantiles(sample, truth, axes=("age", "x")))
    assert set(axes) == {"age", "x"}


def test_curves(stars):
    sample, truth = stars
    edges = [0, 3, 6, 9] * u.kpc
    axes = panels(plots.plot_curves(sample, truth, edges=edges))
    first, second = axes["rotation"].lines
    np.testing.assert_allclose(
        first.get_ydata(), rotation_curve(sample, edges)["value"].to_value(KMS)
    )
    np.testing.assert_allclose(second.get_xdata(), [1.5, 4.5, 7.5])
    assert len(axes["dispersion"].lines) == 6
    assert len(panels(plots.plot_curves(sample))["dispersion"].lines) == 3


def test_age_metallicity(stars):
    sample, truth = stars
    axes = panels(plots.plot_age_metallicity(sample, truth))
    assert {"ages sampled", "abundances true"} <= set(axes)
    (line,) = axes["ages true"].lines
    slope = np.polyfit(line.get_xdata()[:13], line.get_ydata()[:13], 1)[0]
    assert slope == pytest.approx(-0.05, abs=0.005)
    assert axes["ages sampled"].get_ylim() == axes["ages true"].get_ylim()


def test_without_iron_and_oxygen(stars):
    parts = [table.copy() for table in stars]
    for table in parts:
        table.remove_columns(("fe_h", "o_fe"))
    axes = panels(plots.plot_age_metallicity(*parts))
    assert {"ages sampled", "ages true"} == set(axes) - {"<colorbar>"}
    assert axes["ages true"].get_ylabel() == "[M/H] (dex)"


def test_comparison(stars):
    axes = panels(plots.plot_galaxy(*stars))
    wanted = {"face-on true", "velocity sampled", "rotation", "abundances sampled"}
    assert wanted <= set(axes)


def test_the_galaxy_is_named(stars):
    sample = stars[0].copy()
    sample["galaxy_id"] = "NGC 1"
    for draw in (plots.plot_galaxy, plots.plot_maps, plots.plot_curves):
        assert draw(sample).get_suptitle() == "NGC 1"
    sample["galaxy_id"][:3] = "NGC 2"
    assert plots.plot_galaxy(sample).get_suptitle() == ""


def test_one_bar_for_maps_of_a_kind(stars):
    figure = plots.plot_galaxy(*stars)
    bars = [panel.get_ylabel() for panel in figure.axes if "log" in panel.get_ylabel()]
    assert len(bars) == len(set(bars)) == 2


def test_missing_columns(stars):
    sample = stars[0].copy()
    sample.remove_column("v_y")
    with pytest.raises(InputError, match="no column 'v_y'"):
        plots.plot_maps(sample)


@compared
def test_picture_of_a_galaxy(stars):
    return plots.plot_galaxy(stars[0][:600])


@compared
def test_picture_of_quantiles(stars):
    sample, truth = stars
    sample = sample.copy()
    sample["age"] = 0.8 * sample["age"]
    return plots.plot_quantiles(sample, truth)


def test_importing_needs_no_matplotlib():
    code = (
        "import sys, galml.stars.plots\n"
        "assert not any(m.startswith('matplotlib') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
