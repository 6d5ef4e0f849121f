# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from matplotlib.figure import Figure

import galml
from galml.core.exceptions import InputError
from galml.imaging import read_images
from galml.stellar_spin import plots

# The look of lines and letters differs between versions of matplotlib and FreeType.
compared = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 50},
    style="default",
)
BANDS = ("g", "r", "i")


@pytest.fixture(scope="module")
def options(galaxies):
    return {"r_eff": galaxies.r_eff * u.pix, "bands": BANDS}


@pytest.fixture(scope="module")
def table(galaxies, options, model):
    return galml.spin(galaxies.data * u.nJy, model=model, **options)


def one(galaxies, index=0):
    data = galaxies.data[index] * u.nJy
    return data, {"r_eff": galaxies.r_eff[index] * u.pix, "bands": BANDS}


def panels(figure):
    figure.canvas.draw()
    return {panel.get_label(): panel for panel in figure.axes}


def test_galaxy(galaxies, table):
    data, options = one(galaxies)
    figure = Figure()
    assert plots.plot_galaxy(data, table[0], figure=figure, **options) is figure
    axes = panels(figure)
    assert {"image", "prepared", "spin"} <= set(axes)
    assert axes["image"].images[0].get_array().shape == (48, 48, 3)
    (circle,) = (p for p in axes["image"].patches if p.get_gid() == "r_eff")
    assert circle.radius == galaxies.r_eff[0] and tuple(circle.center) == (23.5, 23.5)
    (bar,) = axes["spin"].patches
    assert bar.get_y() == table["spin_lo"][0]
    assert bar.get_height() == pytest.approx(table["spin_hi"][0] - table["spin_lo"][0])
    assert f"{table['spin'][0]:.2f}" in figure._supxlabel.get_text()


def test_galaxy_without_a_result(galaxies, table):
    data, options = one(galaxies)
    row = dict(zip(table.colnames, table[0], strict=True)) | {
        "spin": np.nan,
        "flags": 1,
    }
    figure = plots.plot_galaxy(data[1], row, **options | {"bands": "r"})
    assert "no spin" in figure._supxlabel.get_text()
    assert not panels(figure)["spin"].patches


def test_batches_are_no_galaxy(galaxies, table, options):
    with pytest.raises(InputError, match="cutout: got a batch"):
        plots.plot_galaxy(galaxies.data * u.nJy, table[0], **options)


def test_gallery(galaxies, table, options):
    truth = np.linspace(0, 1, 24)
    figure = plots.plot_gallery(
        galaxies.data * u.nJy, table, truth, columns=5, **options
    )
    figure.canvas.draw()
    assert len(figure.axes) == 25
    assert [len(panel.images) for panel in figure.axes] == [1] * 24 + [0]
    title = figure.axes[7].get_title()
    assert f"{table['spin'][7]:.2f}" in title and f"true {truth[7]:.2f}" in title


def test_table(table):
    axes = panels(plots.plot_table(table))
    assert "regression" not in axes
    assert sum(bar.get_height() for bar in axes["histogram"].patches) == 24
    points = axes["plane"].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], table["spin"])


def test_table_with_truth(table):
    rng = np.random.default_rng(0)
    truth = {"spin": np.clip(table["spin"] + rng.normal(0, 0.03, 24), 0, 1)}
    axes = panels(plots.plot_table(table, truth))
    assert "Pearson" in axes["regression"].get_title()
    mean = np.array(axes["regression"].containers[0][0].get_ydata(), dtype=float)
    assert len(mean) >= 1 and np.isfinite(mean).all()
    curve = axes["calibration"].lines[1].get_ydata()
    assert curve[0] <= curve[-1] == 1


def test_table_of_published_model(galaxies, published_model, options):
    own = options | {"r_eff": galaxies.r_eff[:2] * u.pix}
    table = galml.spin(galaxies.data[:2] * u.nJy, model=published_model, **own)
    assert "plane" in panels(plots.plot_table(table))


def test_saliency_follows_the_galaxy(galaxies, model):
    data, options = one(galaxies, 3)
    (image,) = read_images(data, **options).members
    seen, strength = plots.saliency(image, model)
    assert seen.shape == strength.shape == (48, 48)
    assert (strength >= 0).all() and strength.sum() > 0
    assert strength[12:36, 12:36].mean() > strength.mean()
    (mirrored,) = read_images(data[..., ::-1], **options).members
    _, other = plots.saliency(mirrored, model)
    errors = [np.abs(v - strength).max() for v in (other[::-1], other, other[:, ::-1])]
    assert min(errors) < 1e-4 * strength.max()


def test_saliency_figure(galaxies, model, published_model):
    data, options = one(galaxies)
    for one_model in (model, published_model):
        axes = panels(plots.plot_saliency(data, model=one_model, **options))
        assert {"image", "prepared", "saliency"} <= set(axes)


def field(galaxies, rows):
    """A few galaxies with a measured PSF, as they are drawn."""
    known = {"r_eff": galaxies.r_eff[rows] * u.pix, "bands": BANDS}
    return galaxies.data[rows] * u.nJy, known | {"psf_fwhm": 2 * u.pix}


@compared
def test_figure_of_a_galaxy(make):
    data, options = field(make(12, shape=(64, 64), seed=5, noise=0.01), [7])
    options["r_eff"] = options["r_eff"][0]
    return plots.plot_galaxy(data[0], galml.spin(data[0], **options)[0], **options)


@compared
def test_figure_of_a_gallery(make):
    galaxies = make(12, shape=(48, 48), seed=5, noise=0.0)
    data, options = field(galaxies, np.argsort(galaxies.bulge)[::4])
    table = galml.spin(data, **options)
    return plots.plot_gallery(data, table, columns=3, **options)


@compared
def test_figure_of_a_table():
    rng = np.random.default_rng(2)
    truth = rng.beta(4, 3, 300)
    error = 0.06 + 0.04 * rng.random(300)
    spin = np.clip(truth + error * rng.normal(size=300), 0.01, 0.95)
    shape = rng.uniform(0, 0.9, 300)
    table = QTable({"spin": spin, "spin_lo": spin - error, "spin_hi": spin + error})
    table["ellipticity"] = shape
    odds = np.exp(30 * (spin - 0.31 * np.sqrt(shape)))
    table["fast_rotator_probability"] = odds / (1 + odds)
    return plots.plot_table(table, {"spin": truth})


@compared
def test_figure_of_the_saliency(make):
    data, options = field(make(12, shape=(64, 64), seed=5, noise=0.01), [7])
    options["r_eff"] = options["r_eff"][0]
    return plots.plot_saliency(data[0], **options)


def test_importing_needs_no_matplotlib():
    code = (
        "import sys, galml.stellar_spin.plots\n"
        "assert not any(m.startswith('matplotlib') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
