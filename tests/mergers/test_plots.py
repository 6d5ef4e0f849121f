# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from matplotlib.figure import Figure
from scipy.special import expit

from galml.core.exceptions import InputError, InputTypeError
from galml.core.metrics import area_under_curve, reliability
from galml.mergers import STAGES, metrics, plots

# The look of lines and letters differs between versions of matplotlib and FreeType.
compared = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 50},
    style="default",
)
ACS = {"filter": "F814W", "pixel_scale": 0.03 * u.arcsec, "unit": u.nJy}


def scene(size=160, seed=2, noise=0.02):
    """A disk with a tail and a second nucleus, as F814W sees it."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    light = np.exp(-np.hypot(x, y / 0.7) / 7)
    tail = np.exp(-0.5 * ((y - 0.015 * x**2) / 4) ** 2) * (x > 0) * (x < 55)
    light += 0.12 * tail + 0.8 * np.exp(-np.hypot(x - 9, y - 6) / 3)
    return light + noise * np.random.default_rng(seed).normal(size=light.shape)


def make_table(count=300, seed=0):
    """Results of a calibrated classifier, as `galml.merger` gives them."""
    rng = np.random.default_rng(seed)
    merger = np.arange(count) % 2
    ratio = 2 * (rng.normal(size=count) + 2 * merger - 1)
    passes = expit(ratio[:, None] + 0.4 * rng.normal(size=(count, 50)))
    chance = passes.mean(axis=1)
    other = rng.dirichlet(np.ones(4), count) * 0.3
    stages = np.empty((count, 5))
    stages[:, [1, 2, 4]] = other[:, :3]
    rest = 1 - other[:, :3].sum(axis=1)
    stages[:, 3], stages[:, 0] = rest * chance, rest * (1 - chance)
    time = np.where(chance > 0.5, rng.uniform(0, 0.5, count), np.nan)
    table = QTable({"filter": rng.choice(["F814W", "F160W", "r"], count)})
    table["field"] = np.where(table["filter"] == "r", "", "UDS")
    table["merger_probability"] = chance
    table["merger_probability_err"] = passes.std(axis=1)
    table["merger_probability_samples"] = passes
    table["merger_class"] = np.where(chance > 0.5, "post-merger", "non-merger")
    table["stage_probability"] = stages
    entropy = -(stages * np.log2(stages)).sum(axis=1)
    unsure = rng.beta(2, 8, count)
    table["entropy_data"] = entropy * (1 - unsure)
    table["entropy_model"] = entropy * unsure
    table["time_since_merger"] = time * u.Gyr
    table["time_since_merger_err"] = 0.3 * time * u.Gyr
    table["flags"] = np.zeros(count, dtype=np.int32)
    return table, merger


@pytest.fixture(scope="module")
def results():
    return make_table()


@pytest.fixture(scope="module")
def row(results):
    """A post-merger in F814W."""
    table, _ = results
    chosen = (table["filter"] == "F814W") & (table["merger_probability"] > 0.8)
    return dict(zip(table.colnames, table[chosen][0], strict=True))


def panels(figure):
    figure.canvas.draw()
    return {panel.get_label(): panel for panel in figure.axes}


def test_galaxy(row):
    figure = Figure()
    assert plots.plot_galaxy(scene(), row, figure=figure, **ACS) is figure
    axes = panels(figure)
    assert {"image", "stages", "passes"} == set(axes)
    (image,) = axes["image"].images
    assert image.get_array().shape == (160, 160)
    assert image.get_extent() == pytest.approx([-2.4, 2.4, -2.4, 2.4])
    (square,) = (p for p in axes["image"].patches if p.get_gid() == "field")
    assert (square.get_x(), square.get_width()) == pytest.approx((-1.92, 3.84))
    assert "arcsec" in axes["image"].get_xlabel()
    bars = [bar.get_width() for bar in axes["stages"].patches]
    np.testing.assert_allclose(bars, row["stage_probability"])
    names = [label.get_text() for label in axes["stages"].get_yticklabels()]
    assert names == list(STAGES)
    assert sum(bar.get_height() for bar in axes["passes"].patches) == 50
    assert axes["passes"].lines[-1].get_xdata()[0] == row["merger_probability"]
    text = figure._supxlabel.get_text()
    assert f"post-merger: P = {row['merger_probability']:.2f}" in text
    assert "Gyr since the merger" in text and "flags: none" in text
    assert "F814W, UDS" in axes["image"].get_title()


def test_galaxy_without_a_scale(row):
    axes = panels(plots.plot_galaxy(scene(), row, filter="F814W", unit=u.nJy))
    (square,) = (p for p in axes["image"].patches if p.get_gid() == "field")
    assert square.get_width() == 160
    assert "pixels" in axes["image"].get_xlabel()


def test_faint_tails_are_seen(row):
    """The stretch counts in errors: a tail of six of them is not far below white."""
    (image,) = panels(plots.plot_galaxy(scene(), row, **ACS))["image"].images
    low, high = image.get_clim()
    shown = (np.asarray(image.get_array()) - low) / (high - low)
    tail = shown[96:102, 110:116].mean()
    assert tail > np.median(shown) + 0.25
    assert 0.05 < np.median(shown) < 0.4


def test_galaxy_of_the_published_model(row):
    told = ("filter", "field", "merger_class", "flags")
    known = {k: v for k, v in row.items() if k in told or "merger_prob" in k}
    figure = plots.plot_galaxy(scene(), known, **ACS)
    axes = panels(figure)
    assert not axes["stages"].axison and not axes["stages"].patches
    assert sum(bar.get_height() for bar in axes["passes"].patches) == 50
    assert "entropy" not in figure._supxlabel.get_text()


def test_galaxy_without_passes(row):
    known = {k: v for k, v in row.items() if not k.endswith("samples")}
    known["merger_probability_err"] = np.nan
    figure = plots.plot_galaxy(scene(), known, **ACS)
    assert not panels(figure)["passes"].patches
    assert "±" not in figure._supxlabel.get_text().partition(",")[0]


def test_galaxy_without_a_result(row):
    failed = row | {"merger_probability": np.nan, "flags": 1, "filter": ""}
    failed["stage_probability"] = np.full(5, np.nan)
    failed["merger_probability_samples"] = np.full(50, np.nan)
    figure = plots.plot_galaxy(scene(), failed, **ACS)
    assert figure._supxlabel.get_text() == "no probability\nflags: failed"
    axes = panels(figure)
    assert not axes["image"].patches
    assert not any(bar.get_width() for bar in axes["stages"].patches)


def test_color_images_are_drawn_in_colors(row):
    light = np.clip(scene(noise=0) * 200, 0, 255).astype(np.uint8)
    axes = panels(plots.plot_galaxy(np.stack([light] * 3, axis=-1), row))
    assert axes["image"].images[0].get_array().shape == (160, 160, 3)


def test_of_several_bands_the_one_that_is_seen_is_drawn(row):
    images = np.stack([scene(seed=1), 7 + scene(seed=3)])
    options = {"bands": ("F606W", "F814W")} | ACS
    both = plots.plot_galaxy(images, row, **options)
    alone = plots.plot_galaxy(images[1], row, **ACS)
    shown = [panels(figure)["image"].images[0].get_array() for figure in (both, alone)]
    np.testing.assert_allclose(*shown)


def test_images_without_noise_are_drawn(row):
    axes = panels(plots.plot_galaxy(scene(noise=0), row, **ACS))
    assert np.isfinite(axes["image"].images[0].get_array()).all()


def test_batches_are_no_galaxy(row):
    with pytest.raises(InputError, match="cutout: got a batch"):
        plots.plot_galaxy(np.stack([scene()[None]] * 2), row, **ACS)
    with pytest.raises(InputError, match="everywhere"):
        plots.plot_galaxy(np.ones((64, 64)), row, **ACS)


def test_what_is_no_row_of_a_result(row, results):
    table, _ = results
    clean = {"filter": "F814W", "contamination": 0.1, "flags": 0}
    for wrong in (clean, table):
        with pytest.raises(InputError, match="row: got"):
            plots.plot_galaxy(scene(), wrong, **ACS)
    for filter in ("F999X", ["r"]):
        with pytest.raises(InputError, match="filter: got"):
            plots.plot_galaxy(scene(), row, **ACS | {"filter": filter})
    with pytest.raises(InputTypeError, match="row: got int"):
        plots.plot_galaxy(scene(), 0, **ACS)


def test_what_is_no_table_of_results(results):
    table, merger = results
    clean = QTable({"filter": ["r"], "contamination": [0.1], "flags": [0]})
    with pytest.raises(InputError, match="table: got no column merger_probability"):
        plots.plot_table(clean)
    with pytest.raises(InputTypeError, match="truth: got ndarray"):
        plots.plot_table(table, merger)
    with pytest.raises(InputError, match="truth: got no column merger"):
        plots.plot_table(table, {"stage": merger})
    with pytest.raises(InputError, match="outcome: got 299 numbers"):
        plots.plot_table(table, {"merger": merger[1:]})
    with pytest.raises(InputError, match="bins: got 0"):
        plots.plot_calibration([0.1], [1], bins=0)


def test_names_of_filters_stand_above_the_bars(results):
    table, _ = results
    table = table.copy()
    table["merger_probability"] = 0.5
    figure = plots.plot_table(table)
    panel = panels(figure)["histogram"]
    legend = panel.get_legend().get_window_extent()
    assert not any(
        legend.overlaps(bar.get_window_extent())
        for bar in panel.patches
        if bar.get_height()
    )
    assert panel.bbox.x0 < legend.x0 and legend.x1 < panel.bbox.x1


def test_table(results):
    table, _ = results
    axes = panels(plots.plot_table(table))
    assert "roc" not in axes
    assert sum(bar.get_height() for bar in axes["histogram"].patches) == 300
    legend = axes["histogram"].get_legend().get_texts()
    assert {text.get_text() for text in legend} == {"r", "F814W", "F160W"}
    points = axes["entropy"].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], table["merger_probability"])
    np.testing.assert_allclose(points[:, 1], table["entropy_data"])
    low, high = axes["entropy"].get_ylim()
    assert low == 0 and high > points[:, 1].max() > 1


def test_table_with_truth(results):
    table, merger = results
    axes = panels(plots.plot_table(table, {"merger": merger}))
    (legend,) = axes["roc"].get_legend().get_texts()
    area = area_under_curve(table["merger_probability"], merger)
    assert f"area {area:.3f}" in legend.get_text()
    assert "calibration error" in axes["calibration"].get_title()


def test_table_with_failures(results):
    table, _ = results
    table = table[:5]
    table["merger_probability"][2] = np.nan
    axes = panels(plots.plot_table(table))
    assert axes["histogram"].get_title() == "5 galaxies, 1 without a result"
    assert sum(bar.get_height() for bar in axes["histogram"].patches) == 4
    table["merger_probability"] = np.nan
    table.remove_columns(["entropy_data", "entropy_model"])
    axes = panels(plots.plot_table(table))
    assert not axes["entropy"].collections


def test_confusion():
    matrix = [[8, 2, 0], [1, 3, 0], [0, 0, 5]]
    (panel,) = plots.plot_confusion(matrix, ("a", "b", "c")).axes
    texts = [text.get_text() for text in panel.texts]
    assert texts[0] == "80.0%\n8" and texts[4] == "75.0%\n3"
    assert panel.get_title().endswith("0.750")
    # A class without members has no share and spoils no others.
    (panel,) = plots.plot_confusion([[3, 1], [0, 0]]).axes
    assert panel.texts[2].get_text() == "0.0%\n0" and not panel.get_title()
    with pytest.raises(InputError, match="matrix: got shape"):
        plots.plot_confusion(matrix)


def test_roc_of_several_scores(results):
    table, merger = results
    scores = {"model": table["merger_probability"], "guess": np.arange(300) % 7}
    (panel,) = plots.plot_roc(scores, merger).axes
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert labels[0].startswith("model: area 0.9")
    assert labels[1].startswith("guess: area 0.")
    (panel,) = plots.plot_roc(table["merger_probability"], merger).axes
    curve = metrics.roc_curve(table["merger_probability"], merger)
    np.testing.assert_array_equal(panel.lines[1].get_ydata(), curve["recall"])


def test_purity_and_completeness(results):
    table, merger = results
    figure = plots.plot_purity_completeness(table["merger_probability"], merger)
    (panel,) = figure.axes
    many, _, few, _ = panel.lines
    assert (few.get_ydata() <= many.get_ydata()).all()
    assert few.get_ydata()[-1] == pytest.approx(0.1)


def test_calibration(results):
    table, merger = results
    (panel,) = plots.plot_calibration(table["merger_probability"], merger, 5).axes
    points = panel.containers[0][0]
    expected = reliability(table["merger_probability"], merger, 5)
    np.testing.assert_allclose(points.get_ydata(), expected["outcome"])


@compared
def test_figure_of_a_galaxy(row):
    return plots.plot_galaxy(scene(), row, **ACS)


@compared
def test_figure_of_a_table():
    table, merger = make_table(1200, seed=1)
    return plots.plot_table(table, {"merger": merger})


@compared
def test_figure_of_confusions():
    rng = np.random.default_rng(3)
    matrix = rng.integers(0, 40, (5, 5)) + np.diag([300, 200, 150, 250, 180])
    return plots.plot_confusion(matrix, STAGES)


@compared
def test_figure_of_purity():
    table, merger = make_table(1200, seed=1)
    score = table["merger_probability"]
    return plots.plot_purity_completeness(score, merger, (0.5, 0.1, 0.01))


def test_importing_needs_no_matplotlib():
    code = (
        "import sys, galml.mergers.plots\n"
        "assert not any(m.startswith('matplotlib') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
