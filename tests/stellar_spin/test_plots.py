# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys

import astropy.units as u
import numpy as np
import pytest
from matplotlib.figure import Figure

import galml
from galml.core.exceptions import InputError
from galml.stellar_spin import plots
from galml.stellar_spin.images import read_images
from galml.stellar_spin.saliency import saliency

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
    image = next(read_images(data, **options)[2])
    seen, strength = saliency(image, model)
    assert seen.shape == strength.shape == (48, 48)
    assert (strength >= 0).all() and strength.sum() > 0
    assert strength[12:36, 12:36].mean() > strength.mean()
    mirrored = next(read_images(data[..., ::-1], **options)[2])
    _, other = saliency(mirrored, model)
    errors = [np.abs(v - strength).max() for v in (other[::-1], other, other[:, ::-1])]
    assert min(errors) < 1e-4 * strength.max()


def test_saliency_figure(galaxies, model, published_model):
    data, options = one(galaxies)
    for one_model in (model, published_model):
        axes = panels(plots.plot_saliency(data, model=one_model, **options))
        assert {"image", "prepared", "saliency"} <= set(axes)


def test_importing_needs_no_matplotlib():
    code = (
        "import sys, galml.stellar_spin.plots\n"
        "assert not any(m.startswith('matplotlib') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
