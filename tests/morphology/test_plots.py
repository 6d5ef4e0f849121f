# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from galml.core.exceptions import InputError, InputTypeError
from galml.morphology import plots

# The look of lines and letters differs between versions of matplotlib and FreeType.
compared = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 50},
    style="default",
)
BANDS = ("g", "r", "z")
GRZ = {"bands": BANDS, "unit": u.nJy}
CLASSES = ("elliptical", "spiral", "edge-on")


@pytest.fixture
def table(shown_galaxies):
    return shown_galaxies[1].copy()


@pytest.fixture(scope="module")
def images(shown_galaxies):
    return shown_galaxies[0]


def panels(figure):
    figure.canvas.draw()
    return {panel.get_label(): panel for panel in figure.axes}


def test_plane_of_points(table):
    figure = Figure()
    table["latent"][4] = np.nan
    assert plots.plot_latents(table, color="class", figure=figure) is figure
    panel = panels(figure)["plane"]
    assert panel.get_title() == "60 galaxies, 1 without a result"
    points = panel.collections[-1]
    assert len(points.get_offsets()) == 59
    legend = [text.get_text() for text in panel.get_legend().get_texts()]
    assert legend == sorted(CLASSES)
    known = np.arange(60) != 4
    colors = {name: to_rgba(c) for name, c, _ in plots.class_groups(table["class"])}
    expected = [colors[name] for name in table["class"][known]]
    np.testing.assert_allclose(points.get_facecolors(), expected)
    # Components by hand: uncorrelated, the first with the larger variance.
    covariance = np.cov(points.get_offsets().T)
    values = np.linalg.eigvalsh(np.cov(np.asarray(table["latent"])[known].T))
    np.testing.assert_allclose(np.diag(covariance), values[::-1][:2])
    assert abs(covariance[0, 1]) < 1e-10
    assert panel.get_xlabel() == "principal component 1"


def test_plane_of_a_projection(table):
    table["projection"] = np.random.default_rng(1).normal(size=(60, 2))
    panel = panels(plots.plot_latents(table, color="ssim"))["plane"]
    np.testing.assert_array_equal(
        panel.collections[-1].get_offsets(), table["projection"]
    )
    assert panel.get_ylabel() == "projection 2"
    alone = panels(plots.plot_latents(table["projection"]))["plane"]
    offsets = alone.collections[-1].get_offsets()
    np.testing.assert_array_equal(offsets, table["projection"])


def test_images_in_cells_do_not_overlap(table, images):
    table["latent"][0] = np.nan
    figure = plots.plot_latents(table, images, color="class", columns=6, **GRZ)
    panel = panels(figure)["plane"]
    extents = np.array([image.get_extent() for image in panel.images])
    assert 8 < len(extents) <= 36
    assert len(np.unique(np.round(extents, 9), axis=0)) == len(extents)
    steps = extents[:, 1] - extents[:, 0]
    np.testing.assert_allclose(steps, np.ptp(panel.get_xlim()) / 6)
    # A galaxy lies in the cell in which it is drawn, with the color of its class.
    plane, _ = plots.plane_of(table)
    frames = panel.patches
    colors = {to_rgba(c): name for name, c, _ in plots.class_groups(table["class"])}
    for (left, right, bottom, top), frame in zip(extents, frames, strict=True):
        inside = (plane >= (left, bottom)).all(1) & (plane <= (right, top)).all(1)
        assert colors[tuple(frame.get_edgecolor())] in set(table["class"][inside])


def test_masked_latents_are_not_drawn(table):
    mask = np.zeros((60, 6), dtype=bool)
    mask[4, 2] = True
    table["latent"] = MaskedColumn(table["latent"], mask=mask)
    plane, _ = plots.plane_of(table)
    assert np.flatnonzero(np.isnan(plane).any(1)).tolist() == [4]


def test_what_has_no_plane(table, images):
    with pytest.raises(InputError, match="points: got the columns name, ssim, exp"):
        plots.plot_latents(table["name", "ssim"])
    with pytest.raises(InputError, match="points: got 1-D values of type float64"):
        plots.plot_latents(np.zeros(5))
    with pytest.raises(InputTypeError, match="points: got 1-D values of type <U7"):
        plots.plot_latents("latents")
    with pytest.raises(InputError, match="points: got 1 rows to be drawn"):
        plots.plot_latents(table[:1])
    with pytest.raises(InputError, match="color: got 'nothing'"):
        plots.plot_latents(table, color="nothing")
    with pytest.raises(InputError, match=r"color: got shape \(3,\), expected \(60,\)"):
        plots.plot_latents(table, color=[1, 2, 3])
    with pytest.raises(InputError, match="images: got 59 images, expected 60"):
        plots.plot_latents(table, images[1:], **GRZ)
    with pytest.raises(InputError, match="images: got one image"):
        plots.plot_latents(table, images[0], **GRZ)
    with pytest.raises(InputTypeError, match="images: got an iterator"):
        plots.plot_latents(table, iter(images), **GRZ)


def test_classes():
    values = np.array(["b", "a", "", "b", None, "c"], dtype=object)
    groups = {name: rows.tolist() for name, _, rows in plots.class_groups(values)}
    assert list(groups) == ["unlabeled", "a", "b", "c"]
    assert groups["unlabeled"] == [False, False, True, False, True, False]
    many = MaskedColumn([*range(9), 3], mask=[0] * 8 + [1, 0])
    groups = {name: rows for name, _, rows in plots.class_groups(many)}
    assert list(groups) == ["unlabeled", "other", *"0123456"]
    assert groups["3"].sum() == 2 and groups["other"].sum() == 1
    assert plots.is_class(values) and plots.is_class(np.arange(10) % 3 == 0)
    assert not plots.is_class(np.arange(10)) and not plots.is_class(np.ones(3))


def test_corner(table):
    table["class"][::2] = ""
    axes = panels(plots.plot_corner(table, "class", components=(0, 1, 3)))
    assert set(axes) == {"0 0", "1 0", "1 1", "3 0", "3 1", "3 3"}
    points = axes["3 1"].collections
    shown = np.concatenate([one.get_offsets() for one in points])
    expected = np.asarray(table["latent"])[:, [1, 3]]
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(expected, axis=0))
    assert axes["3 1"].get_xlabel() == "latent 1" and not axes["3 1"].get_ylabel()
    assert axes["3 0"].get_ylabel() == "latent 3"
    (legend,) = axes["0 0"].figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["unlabeled", *sorted(CLASSES)]
    assert legend.get_title().get_text() == "60 galaxies"
    with pytest.raises(
        InputError, match="components: got .0, 6., expected two or more"
    ):
        plots.plot_corner(table, components=(0, 6))
    with pytest.raises(InputError, match="labels: got 'x'"):
        plots.plot_corner(table, "x")


def test_contours_enclose_two_thirds():
    """Of a normal distribution, 68 % are nearer than 1.51 standard deviations."""
    values = np.random.default_rng(3).normal(size=(20000, 2))
    panel = panels(plots.plot_corner(values, components=(0, 1)))["1 0"]
    (path,) = panel.collections[-1].get_paths()
    radius = np.hypot(*path.vertices.T)
    assert radius.mean() == pytest.approx(np.sqrt(-2 * np.log(0.32)), rel=0.05)


def test_adaptation(table):
    latent = np.asarray(table["latent"])
    target = latent + np.array([2, 0, 0, 0, 0, 0])
    figure = plots.plot_adaptation(
        table, target, latent, surveys=("DECaLS", "MzLS"), paired=True
    )
    axes = panels(figure)
    titles = [axes[key].get_title() for key in ("before", "after")]
    assert titles == [
        "before adaptation: median distance 2",
        "after adaptation: median distance 0",
    ]
    source, moved = (axes["before"].collections[i].get_offsets() for i in (0, 1))
    np.testing.assert_allclose(np.hypot(*(moved - source).T), 2, rtol=0.1)
    source, moved = (axes["after"].collections[i].get_offsets() for i in (0, 1))
    np.testing.assert_allclose(source, moved)
    with pytest.raises(InputError, match="adapted: got 5 latents, expected 6"):
        plots.plot_adaptation(table, target, latent[:, :5])
    with pytest.raises(InputError, match="target: got 10 galaxies, expected 60"):
        plots.plot_adaptation(table, target[:10], latent, paired=True)
    assert plots.plot_adaptation(table, target[:10], latent[:10]).axes
    tables = [QTable({"latent": latent}, meta={"MODELSHA": one * 64}) for one in "abb"]
    with pytest.raises(InputError, match="target: got latents of a model"):
        plots.plot_adaptation(*tables)
    for one in tables[1:]:
        one.meta["ADAPTSHA"] = tables[0].meta["MODELSHA"]
    assert plots.plot_adaptation(*tables).axes


def test_galaxy(table, images):
    figure = Figure()
    data = images[1] * u.nJy
    assert plots.plot_galaxy(data, table[1], bands=BANDS, figure=figure) is figure
    axes = panels(figure)
    assert set(axes) == {"image", "latents", "pose"}
    assert axes["image"].images[0].get_array().shape == (40, 40, 3)
    ends = np.array([s[1, 1] for s in axes["latents"].collections[0].get_segments()])
    np.testing.assert_allclose(ends, table["latent"][1])
    text = figure._supxlabel.get_text()
    assert f"SSIM {table['ssim'][1]:.3f}" in text and "flags: none" in text
    assert axes["image"].get_title() == "J1001"


def test_galaxy_of_another_encoder_and_without_latents(table, images):
    known = {"latent": np.full(6, np.nan), "flags": 1}
    figure = plots.plot_galaxy(images[1], known, **GRZ)
    axes = panels(figure)
    assert set(axes) == {"image", "latents"} and not axes["latents"].collections
    assert figure._supxlabel.get_text() == "no latents\nflags: failed"
    with pytest.raises(InputError, match="cutout: got a batch"):
        plots.plot_galaxy(images, table[0], **GRZ)
    with pytest.raises(InputError, match="everywhere"):
        plots.plot_galaxy(np.ones((3, 40, 40)), table[0], **GRZ)


@pytest.mark.parametrize("row", [slice(None), slice(1), "pose", None])
def test_what_is_no_row_of_a_table(table, images, row):
    one = {"pose": table["pose"]} if row == "pose" else 0 if row is None else table[row]
    with pytest.raises(InputError) as raised:
        plots.plot_galaxy(images[0], one, **GRZ)
    assert raised.value.argument == "row"


@pytest.mark.parametrize(
    ("dtype", "classes"),
    [("float64", False), ("Float64", False), ("string", True), ("category", True)],
)
def test_colors_of_pandas(table, dtype, classes):
    pandas = pytest.importorskip("pandas")
    values = np.arange(len(table)) / 7 if not classes else table["class"].tolist()
    series = pandas.Series(values, dtype=dtype)
    series[3] = pandas.NA if dtype != "float64" else np.nan
    panels = plots.plot_latents(table, color=series).axes
    assert (panels[0].get_legend() is not None) == classes
    expected = "unlabeled" if classes else "<colorbar>"
    shown = panels[0].get_legend().get_texts()[0].get_text() if classes else ""
    assert (shown or panels[1].get_label()) == expected


def test_table(table):
    table["latent"][7] = np.nan
    axes = panels(plots.plot_table(table))
    assert {"plane", "spread", "ssim"} <= set(axes)
    assert axes["plane"].get_title() == "60 galaxies, 1 without a result"
    heights = [bar.get_height() for bar in axes["spread"].patches]
    known = np.asarray(table["latent"])[np.arange(60) != 7]
    np.testing.assert_allclose(heights, np.sort(known.std(axis=0))[::-1])
    np.testing.assert_allclose(axes["spread"].lines[0].get_ydata(), 0.2)
    assert sum(bar.get_height() for bar in axes["ssim"].patches) == 60
    legend = panels(plots.plot_table(table, "class"))["plane"].get_legend()
    assert len(legend.get_texts()) == 3


def test_tables_of_few(table):
    """One galaxy, as the command line may find, and another encoder's latents."""
    axes = panels(plots.plot_table(table[:1]))
    assert not axes["plane"].collections and not axes["spread"].patches
    table["latent"] = np.nan
    table["ssim"] = np.nan
    axes = panels(plots.plot_table(table[:3]))
    assert axes["plane"].get_title() == "3 galaxies, 3 without a result"
    axes = panels(plots.plot_table(QTable({"latent": np.eye(5)[:2], "flags": [0, 0]})))
    assert set(axes) == {"plane", "spread"} and len(axes["spread"].patches) == 5


@compared
def test_figure_of_points(make_galaxies):
    _, table = make_galaxies(300)
    return plots.plot_latents(table, color="class")


@compared
def test_figure_of_images(make_galaxies):
    images, table = make_galaxies(300)
    return plots.plot_latents(table, images, color="class", columns=10, **GRZ)


@compared
def test_figure_of_a_corner(make_galaxies):
    _, table = make_galaxies(600)
    return plots.plot_corner(table, "class")


@compared
def test_figure_of_an_adaptation(make_galaxies):
    _, table = make_galaxies(600)
    target = table["latent"] * 0.8 + np.array([0.9, -0.8, 0, 0, 0, 0])
    options = {"surveys": ("DECaLS", "BASS/MzLS"), "paired": True}
    return plots.plot_adaptation(table, target, table["latent"] + 0.1, **options)


@compared
def test_figure_of_a_galaxy(table, images):
    return plots.plot_galaxy(images[1] * u.nJy, table[1], bands=BANDS)


@compared
def test_figure_of_a_table(make_galaxies):
    _, table = make_galaxies(300)
    return plots.plot_table(table)


def test_importing_needs_no_matplotlib():
    code = (
        "import sys, galml.morphology.plots\n"
        "assert not any(m.startswith('matplotlib') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
