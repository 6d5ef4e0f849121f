# Licensed under a 3-clause BSD style license - see LICENSE.rst
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import QTable

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.morphology import galleries, plots

# The look of lines and letters differs between versions of matplotlib and FreeType.
compared = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 50},
    style="default",
)
BANDS = ("g", "r", "z")
GRZ = {"bands": BANDS, "unit": u.nJy}


@pytest.fixture
def table(shown_galaxies):
    return shown_galaxies[1].copy()


@pytest.fixture(scope="module")
def images(shown_galaxies):
    return shown_galaxies[0]


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


def test_traversal_follows_one_latent_at_a_time(table):
    seen = {}

    def listen(latent, pose):
        seen["latent"], seen["pose"] = latent.numpy().copy(), pose
        return decode(latent, pose)

    figure = galleries.plot_traversal(
        listen, table, components=(1, 0), steps=5, width=3
    )
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


def test_traversal_by_another_model(untrained):
    latent, pose = (np.random.default_rng(0).normal(size=(9, k)) for k in (32, 8))
    table = QTable({"latent": latent, "pose": pose}, meta={"MODELSHA": "a" * 64})
    with pytest.raises(InputError, match=r"table: got .*, expected those of untrained"):
        galleries.plot_traversal(untrained, table)
    table.meta["MODELSHA"] = untrained.sha256
    assert galleries.plot_traversal(untrained, table, components=[0], steps=2).axes


def test_traversal_from_a_galaxy_by_a_model(table):
    class Network(torch.nn.Linear):
        def decode(self, latent, pose):
            return decode(latent, pose)[:, :1]

    class Model:
        network = Network(1, 1)

    figure = galleries.plot_traversal(Model(), table, row=3)
    assert len(figure.axes) == 42
    assert figure.axes[0].texts[0].get_text() == "latent 0"
    picture = figure.axes[3].images[0].get_array()
    assert (picture[..., 0] == picture[..., 2]).all()
    np.testing.assert_allclose(picture, figure.axes[10].images[0].get_array())
    table.remove_column("pose")
    assert galleries.plot_traversal(decode, table, components=[0]).axes
    with pytest.raises(InputTypeError, match="model: got an object of type str"):
        galleries.plot_traversal("morphology", table)
    with pytest.raises(InputError, match="row: got 60"):
        galleries.plot_traversal(decode, table, row=60)
    with pytest.raises(InputError, match="components: got .9,."):
        galleries.plot_traversal(decode, table, components=(9,))
    with pytest.raises(InputError, match="steps: got 1"):
        galleries.plot_traversal(decode, table, steps=1)
    with pytest.raises(InputError, match="planes"):
        galleries.plot_traversal(decode, table, planes=(0, 1, 3))


def test_reconstructions_have_the_stretch_of_the_original(images, table):
    data = images[:3] * u.nJy
    same = [CCDData(one.to(u.Jy), meta={"BANDS": "g,r,z"}) for one in data]
    figure = galleries.plot_reconstructions(data, same, table, bands=BANDS)
    axes = figure.axes
    assert len(axes) == 10 and axes[-1].get_label() == "residual"
    for column in range(3):
        first, second, left = (axes[row * 3 + column].images[0] for row in range(3))
        np.testing.assert_allclose(first.get_array(), second.get_array(), atol=1e-6)
        assert np.abs(left.get_array()).max() < 1e-3
    assert f"J1001\nSSIM {table['ssim'][1]:.3f}" == axes[1].get_title()
    fainter = galleries.plot_reconstructions(data, 0.5 * data, bands=BANDS).axes
    first, second, left = (fainter[row * 3].images[0].get_array() for row in range(3))
    middle = (slice(15, 25), slice(15, 25))
    assert second[middle].mean() < 0.95 * first[middle].mean()
    expected = 0.5 * images[0].mean(axis=0) / (0.004 / np.sqrt(3))
    assert left[20, 20] == pytest.approx(expected[20, 20], rel=0.15)


def test_reconstructions_of_one_band_and_of_color_images(images):
    gray = images[:2, 1]
    figure = galleries.plot_reconstructions([*gray], [*gray], n=1)
    picture = figure.axes[0].images[0].get_array()
    assert (picture[..., 0] == picture[..., 2]).all() and picture.max() > 0.5
    colors = np.clip(200 * np.moveaxis(images[:2], 1, -1), 0, 255).astype(np.uint8)
    figure = galleries.plot_reconstructions(colors, colors)
    assert figure.axes[0].images[0].get_array().shape == (40, 40, 3)


def test_reconstructions_of_pictures_in_files(images, tmp_path):
    picture = pytest.importorskip("PIL.Image")
    colors = (255 * np.clip(np.moveaxis(images[:2], 1, -1), 0, 1)).astype(np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, one in zip(paths, colors, strict=True):
        picture.fromarray(one[::-1]).save(path)
    expected = galleries.plot_reconstructions(colors, colors).axes
    found = galleries.plot_reconstructions(paths, colors).axes
    for one, other in zip(found, expected, strict=True):
        for image, same in zip(one.images, other.images, strict=True):
            np.testing.assert_array_equal(image.get_array(), same.get_array())
    assert galleries.plot_reconstructions(paths[0], colors[0]).axes


def test_galaxies_without_reconstructions_are_left_out(images, table):
    data = [CCDData(one, unit="nJy", meta={"BANDS": "g,r,z"}) for one in images[:3]]
    figure = galleries.plot_reconstructions(data, [None, *data[1:]], table, n=1)
    assert len(figure.axes) == 4 and figure.axes[0].get_title().startswith("J1001")
    with pytest.raises(InputError, match="reconstructions: got no galaxies"):
        galleries.plot_reconstructions(data, [None] * 3)


def test_reconstructions_that_are_of_others(images):
    data = images[:2] * u.nJy
    with pytest.raises(InputError, match="reconstructions: got 1 images, expected 2"):
        galleries.plot_reconstructions(data, data[:1], bands=BANDS)
    with pytest.raises(InputError, match=r"got shape \(3, 39, 40\)"):
        galleries.plot_reconstructions(data, data[:, :, 1:], bands=BANDS)
    with pytest.raises(InputUnitError, match="reconstructions: got m"):
        galleries.plot_reconstructions(data, images[:2] * u.m, bands=BANDS)


def test_outliers_by_rank(table, images):
    with_scores(table)
    table["outlier_score"][59] = np.nan
    figure = galleries.plot_outliers(table, list(images), n=5, columns=3, **GRZ)
    figure.canvas.draw()
    assert len(figure.axes) == 6
    assert [len(panel.images) for panel in figure.axes] == [1] * 5 + [0]
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[0] == f"J1058\n2: score 5.8, FAR {1 - 58 / 59:.2g}"
    assert titles[4].startswith("J1054\n6: ")
    with pytest.raises(InputError, match="table: got no column outlier_score"):
        galleries.plot_outliers(table["name", "ssim"], images)
    with pytest.raises(InputError, match="n: got 0"):
        galleries.plot_outliers(table, images, n=0, **GRZ)


def test_titles_of_neighbors_do_not_touch(table, images):
    with_scores(table)
    table["name"] = [f"{1237648720142401611 + row}" for row in range(len(table))]
    figure = galleries.plot_outliers(table, images, n=24, **GRZ)
    figure.draw_without_rendering()
    boxes = [panel.title.get_window_extent() for panel in figure.axes]
    for left, right in zip(boxes[:-1], boxes[1:], strict=True):
        assert left.x1 + 3 < right.x0 or right.x1 < left.x0


def test_images_that_cannot_be_read_are_named_so(table, images):
    with_scores(table)
    images = images.copy()
    images[59] = np.nan
    figure = galleries.plot_outliers(table, images, n=2, **GRZ)
    assert figure.axes[0].texts[0].get_text() == "no image"
    assert len(figure.axes[1].images) == 1


def test_similar(images):
    table = neighbors()
    figure = galleries.plot_similar(table, images, **GRZ)
    assert len(figure.axes) == 10
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[0] == "J1003\nquery" and titles[1] == "J1006\n0.3"
    framed = [any(p.get_gid() == "frame" for p in ax.patches) for ax in figure.axes]
    assert framed == [True, *[False] * 4] * 2
    own = galleries.plot_similar(table, images, images[:8, :, ::-1], n=1, **GRZ).axes
    assert len(own) == 5
    first, other = (f[0].images[0].get_array() for f in (figure.axes, own))
    np.testing.assert_allclose(first, other[::-1])
    with pytest.raises(
        InputError, match="query_cutouts: got 3 images, and rows 3 to 7"
    ):
        galleries.plot_similar(table, images, images[:3], **GRZ)


def test_pairs(images):
    pairs = pairs_of(10)
    pairs["distance"][0] = np.nan
    figure = galleries.plot_pairs(
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
        galleries.plot_pairs(pairs["distance",], images, images)


@compared
def test_figure_of_a_traversal(table):
    return galleries.plot_traversal(decode, table, components=(0, 1))


@compared
def test_figure_of_reconstructions(table, images):
    blurred = (np.roll(images, 1, -1) + np.roll(images, -1, -1)) / 2
    return galleries.plot_reconstructions(
        images * u.nJy, blurred * u.nJy, table, bands=BANDS
    )


@compared
def test_figure_of_outliers(table, images):
    return galleries.plot_outliers(with_scores(table), images, **GRZ)


@compared
def test_figure_of_similar_galaxies(images):
    return galleries.plot_similar(neighbors(), images, **GRZ)


@compared
def test_figure_of_pairs(images):
    both = {"bands": (BANDS, BANDS), "unit": u.nJy, "surveys": ("SDSS", "KiDS")}
    pairs = pairs_of(60)
    pairs["index_b"] = pairs["index_a"]
    return galleries.plot_pairs(pairs, images, images[..., ::-1], 5, **both)


def test_galleries_are_among_the_plots():
    public = [name for name in galleries.__all__ if name.startswith("plot_")]
    assert len(public) == 5 and set(public) < set(plots.__all__)
    assert all(getattr(plots, name) is getattr(galleries, name) for name in public)
