# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
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


def make_galaxies(count=60, size=40, seed=0, noise=0.004):
    """Ellipticals, spirals and disks seen edge-on in g, r and z, and their latents."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    y, x = np.indices((size, size)) - (size - 1) / 2
    angle, turn = rng.uniform(0, np.pi, (2, count))
    ratio = np.choose(
        kind, [rng.uniform(0.6, 1, count), rng.uniform(0.6, 1, count), 0.2]
    )
    images = np.empty((count, 3, size, size))
    for i in range(count):
        along = x * np.cos(angle[i]) + y * np.sin(angle[i])
        across = (y * np.cos(angle[i]) - x * np.sin(angle[i])) / ratio[i]
        radius, theta = np.hypot(along, across), np.arctan2(across, along)
        bulge = np.exp(-((radius / 2.5) ** (0.5 if kind[i] == 0 else 1)) * 2)
        disk = 0.25 * np.exp(-radius / 5) * (kind[i] > 0)
        arms = 1 + (kind[i] == 1) * 0.9 * np.cos(
            2 * (theta - 2 * np.log1p(radius)) + turn[i]
        )
        colors = [0.35, 0.7, 1.2], [0.7, 0.85, 0.95]
        images[i] = np.multiply.outer(colors[0], bulge)
        images[i] += np.multiply.outer(colors[1], disk * arms)
    images += noise * rng.normal(size=images.shape)
    latent = rng.normal(0, 0.4, (count, 6))
    latent[:, 0] += np.choose(kind, (-1.6, 0.6, 1.2))
    latent[:, 1] += np.choose(kind, (0.2, -1.1, 1.3))
    latent[:, 4:] *= 0.1
    table = QTable({"name": [f"J{1000 + i}" for i in range(count)]})
    table["latent"] = latent
    table["latent_err"] = np.full(latent.shape, 0.2)
    table["pose"] = rng.normal(size=(count, 4))
    table["reconstruction_error"] = rng.gamma(9, 0.1, count)
    table["ssim"] = 1 - rng.beta(2, 30, count)
    table["flags"] = np.zeros(count, dtype=np.int32)
    table["class"] = np.array(CLASSES)[kind]
    return images, table


@pytest.fixture(scope="module")
def galaxies():
    return make_galaxies()


@pytest.fixture
def table(galaxies):
    return galaxies[1].copy()


@pytest.fixture(scope="module")
def images(galaxies):
    return galaxies[0]


def panels(figure):
    figure.canvas.draw()
    return {panel.get_label(): panel for panel in figure.axes}


def decode(latent, pose):
    """A source whose size is latent 0, whose color is latent 1, and a step of pose."""
    y, x = torch.meshgrid(*[torch.linspace(-2, 2, 24)] * 2, indexing="ij")
    size = torch.exp(0.3 * latent[:, 0, None, None])
    light = torch.exp(-torch.hypot(x, y) / (0.5 * size))
    if pose is not None:
        light = light + 0.1 * pose[:, 0, None, None] * (x > 1)
    color = 0.2 * latent[:, 1, None, None] * light
    return torch.stack([light, light - color, light + color], 1)


def with_scores(table):
    table["outlier_score"] = np.linspace(0, 5.9, len(table))
    table["false_alarm_rate"] = np.linspace(1, 0, len(table))
    table["rank"] = np.arange(len(table))[::-1] + 1
    return table


def neighbors(queries=(3, 7), k=4):
    query = np.repeat(queries, k)
    step = np.tile(3 * np.arange(1, k + 1), len(queries))
    table = QTable({"query": query, "neighbor": query + step})
    table["distance"] = 0.1 * step
    for key in ("query", "neighbor"):
        table[f"{key}_name"] = [f"J{1000 + i}" for i in table[key]]
    return table


def pairs_of(count, seed=0):
    rng = np.random.default_rng(seed)
    pairs = QTable({"index_a": np.arange(count), "index_b": np.arange(count)[::-1]})
    pairs["distance"] = rng.permutation(count) / 10
    return pairs


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


def test_what_has_no_plane(table, images):
    with pytest.raises(InputError, match="points: got no column latent"):
        plots.plot_latents(table["name", "ssim"])
    with pytest.raises(InputError, match=r"points: got latents of shape \(5,\)"):
        plots.plot_latents(np.zeros(5))
    with pytest.raises(InputTypeError, match="points: got an object of type str"):
        plots.plot_latents("latents")
    with pytest.raises(InputError, match="points: got 1, expected 2 or more"):
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


def test_traversal_follows_one_latent_at_a_time(table):
    seen = {}

    def listen(latent, pose):
        seen["latent"], seen["pose"] = latent.numpy().copy(), pose
        return decode(latent, pose)

    figure = plots.plot_traversal(listen, table, components=(1, 0), steps=5, width=3)
    figure.canvas.draw()
    assert len(figure.axes) == 10
    latent = np.asarray(table["latent"])
    moved = seen["latent"].reshape(2, 5, 6)
    start = np.median(latent, axis=0)
    np.testing.assert_allclose(moved[:, 2], [start, start], rtol=1e-6)
    np.testing.assert_allclose(moved[0, :, 0], start[0], rtol=1e-6)
    step = np.linspace(-3, 3, 5) * latent[:, 1].std()
    np.testing.assert_allclose(moved[0, :, 1], start[1] + step, rtol=1e-5)
    assert seen["pose"].shape == (10, 4) and not seen["pose"].any()
    light = [panel.images[0].get_array().sum() for panel in figure.axes[5:]]
    assert (np.diff(light) > 0).all()
    reds = [panel.images[0].get_array()[..., 0].sum() for panel in figure.axes[:5]]
    blues = [panel.images[0].get_array()[..., 2].sum() for panel in figure.axes[:5]]
    assert reds[0] < reds[-1] and blues[0] > blues[-1]
    assert [figure.axes[i].get_title() for i in (0, 2, 4)] == ["−3 σ", "0", "+3 σ"]


def test_traversal_from_a_galaxy_by_a_model(table):
    class Network(torch.nn.Linear):
        def decode(self, latent, pose):
            return decode(latent, pose)[:, :1]

    class Model:
        network = Network(1, 1)

    figure = plots.plot_traversal(Model(), table, row=3)
    assert len(figure.axes) == 42
    assert figure.axes[0].texts[0].get_text() == "latent 0"
    picture = figure.axes[3].images[0].get_array()
    assert (picture[..., 0] == picture[..., 2]).all()
    np.testing.assert_allclose(picture, figure.axes[10].images[0].get_array())
    table.remove_column("pose")
    assert plots.plot_traversal(decode, table, components=[0]).axes
    with pytest.raises(InputTypeError, match="model: got an object of type str"):
        plots.plot_traversal("morphology", table)
    with pytest.raises(InputError, match="row: got 60"):
        plots.plot_traversal(decode, table, row=60)
    with pytest.raises(InputError, match="components: got .9,."):
        plots.plot_traversal(decode, table, components=(9,))
    with pytest.raises(InputError, match="steps: got 1"):
        plots.plot_traversal(decode, table, steps=1)
    with pytest.raises(InputError, match="planes"):
        plots.plot_traversal(decode, table, planes=(0, 1, 3))


def test_reconstructions_have_the_stretch_of_the_original(images, table):
    data = images[:3] * u.nJy
    same = [CCDData(one.to(u.Jy), meta={"BANDS": "g,r,z"}) for one in data]
    figure = plots.plot_reconstructions(data, same, table, bands=BANDS)
    axes = figure.axes
    assert len(axes) == 10 and axes[-1].get_label() == "residual"
    for column in range(3):
        first, second, left = (axes[row * 3 + column].images[0] for row in range(3))
        np.testing.assert_allclose(first.get_array(), second.get_array(), atol=1e-6)
        assert np.abs(left.get_array()).max() < 1e-3
    assert f"J1001\nSSIM {table['ssim'][1]:.3f}" == axes[1].get_title()
    fainter = plots.plot_reconstructions(data, 0.5 * data, bands=BANDS).axes
    first, second, left = (fainter[row * 3].images[0].get_array() for row in range(3))
    middle = (slice(15, 25), slice(15, 25))
    assert second[middle].mean() < 0.95 * first[middle].mean()
    expected = 0.5 * images[0].mean(axis=0) / (0.004 / np.sqrt(3))
    assert left[20, 20] == pytest.approx(expected[20, 20], rel=0.15)


def test_reconstructions_of_one_band_and_of_color_images(images):
    gray = images[:2, 1]
    figure = plots.plot_reconstructions([*gray], [*gray], n=1)
    picture = figure.axes[0].images[0].get_array()
    assert (picture[..., 0] == picture[..., 2]).all() and picture.max() > 0.5
    colors = np.clip(200 * np.moveaxis(images[:2], 1, -1), 0, 255).astype(np.uint8)
    figure = plots.plot_reconstructions(colors, colors)
    assert figure.axes[0].images[0].get_array().shape == (40, 40, 3)


def test_galaxies_without_reconstructions_are_left_out(images, table):
    data = [CCDData(one, unit="nJy", meta={"BANDS": "g,r,z"}) for one in images[:3]]
    figure = plots.plot_reconstructions(data, [None, *data[1:]], table, n=1)
    assert len(figure.axes) == 4 and figure.axes[0].get_title().startswith("J1001")
    with pytest.raises(InputError, match="reconstructions: got 0"):
        plots.plot_reconstructions(data, [None] * 3)


def test_reconstructions_that_are_of_others(images):
    data = images[:2] * u.nJy
    with pytest.raises(InputError, match="reconstructions: got 1 images, expected 2"):
        plots.plot_reconstructions(data, data[:1], bands=BANDS)
    with pytest.raises(InputError, match=r"got shape \(3, 39, 40\)"):
        plots.plot_reconstructions(data, data[:, :, 1:], bands=BANDS)
    with pytest.raises(InputUnitError, match="reconstructions: got m"):
        plots.plot_reconstructions(data, images[:2] * u.m, bands=BANDS)


def test_outliers_by_rank(table, images):
    with_scores(table)
    table["outlier_score"][59] = np.nan
    figure = plots.plot_outliers(table, list(images), n=5, columns=3, **GRZ)
    figure.canvas.draw()
    assert len(figure.axes) == 6
    assert [len(panel.images) for panel in figure.axes] == [1] * 5 + [0]
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[0] == f"2: J1058\nscore 5.8, FAR {1 - 58 / 59:.2g}"
    assert titles[4].startswith("6: J1054")
    with pytest.raises(InputError, match="table: got no column outlier_score"):
        plots.plot_outliers(table["name", "ssim"], images)
    with pytest.raises(InputError, match="n: got 0"):
        plots.plot_outliers(table, images, n=0, **GRZ)


def test_images_that_cannot_be_read_are_named_so(table, images):
    with_scores(table)
    images = images.copy()
    images[59] = np.nan
    figure = plots.plot_outliers(table, images, n=2, **GRZ)
    assert figure.axes[0].texts[0].get_text() == "no image"
    assert len(figure.axes[1].images) == 1


def test_similar(images):
    table = neighbors()
    figure = plots.plot_similar(table, images, **GRZ)
    assert len(figure.axes) == 10
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[0] == "J1003\nquery" and titles[1] == "J1006\n0.3"
    framed = [any(p.get_gid() == "frame" for p in ax.patches) for ax in figure.axes]
    assert framed == [True, *[False] * 4] * 2
    own = plots.plot_similar(table, images, images[:8, :, ::-1], n=1, **GRZ).axes
    assert len(own) == 5
    first, other = (f[0].images[0].get_array() for f in (figure.axes, own))
    np.testing.assert_allclose(first, other[::-1])
    with pytest.raises(
        InputError, match="query_cutouts: got 3 images, and rows 3 to 7"
    ):
        plots.plot_similar(table, images, images[:3], **GRZ)


def test_pairs(images):
    pairs = pairs_of(10)
    pairs["distance"][0] = np.nan
    figure = plots.plot_pairs(
        pairs, images[:10], images[:10], 3, bands=(BANDS, BANDS), unit=u.nJy
    )
    titles = [panel.get_title() for panel in figure.axes]
    order = np.sort(pairs["distance"][1:])
    assert titles[:3] == [f"distance {one:.3g}" for one in order[:3]]
    assert titles[6:9] == [f"distance {one:.3g}" for one in order[::-1][:3]]
    texts = [panel.texts[0].get_text() for panel in figure.axes[::3]]
    assert texts == ["like: a", "like: b", "dislike: a", "dislike: b"]
    assert all(panel.images for panel in figure.axes)
    with pytest.raises(InputError, match="pairs: got no column index_a"):
        plots.plot_pairs(pairs["distance",], images, images)


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
def test_figure_of_points():
    _, table = make_galaxies(300)
    return plots.plot_latents(table, color="class")


@compared
def test_figure_of_images():
    images, table = make_galaxies(300)
    return plots.plot_latents(table, images, color="class", columns=10, **GRZ)


@compared
def test_figure_of_a_corner():
    _, table = make_galaxies(600)
    return plots.plot_corner(table, "class")


@compared
def test_figure_of_a_traversal(table):
    return plots.plot_traversal(decode, table, components=(0, 1))


@compared
def test_figure_of_reconstructions(table, images):
    blurred = (np.roll(images, 1, -1) + np.roll(images, -1, -1)) / 2
    return plots.plot_reconstructions(
        images * u.nJy, blurred * u.nJy, table, bands=BANDS
    )


@compared
def test_figure_of_outliers(table, images):
    return plots.plot_outliers(with_scores(table), images, **GRZ)


@compared
def test_figure_of_similar_galaxies(images):
    return plots.plot_similar(neighbors(), images, **GRZ)


@compared
def test_figure_of_pairs(images):
    both = {"bands": (BANDS, BANDS), "unit": u.nJy, "surveys": ("SDSS", "KiDS")}
    pairs = pairs_of(60)
    pairs["index_b"] = pairs["index_a"]
    return plots.plot_pairs(pairs, images, images[..., ::-1], 5, **both)


@compared
def test_figure_of_an_adaptation():
    _, table = make_galaxies(600)
    target = table["latent"] * 0.8 + np.array([0.9, -0.8, 0, 0, 0, 0])
    options = {"surveys": ("DECaLS", "BASS/MzLS"), "paired": True}
    return plots.plot_adaptation(table, target, table["latent"] + 0.1, **options)


@compared
def test_figure_of_a_galaxy(table, images):
    return plots.plot_galaxy(images[1] * u.nJy, table[1], bands=BANDS)


@compared
def test_figure_of_a_table():
    _, table = make_galaxies(300)
    return plots.plot_table(table)


def test_importing_needs_no_matplotlib():
    code = (
        "import sys, galml.morphology.plots\n"
        "assert not any(m.startswith('matplotlib') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
