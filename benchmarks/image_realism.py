# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tell mock color images from observed ones by twelve features, and show both.

    python benchmarks/image_realism.py [--batches N] [--page shuffled.png]

Observed are the galaxies of the Galaxy Zoo in ``gz1_sdss``, labels unused. Mocks are
made into the same kind of image. Gradient boosting on the features of
``tools/image_features.py`` tries to tell them apart: 0.5 is as good as a guess. The
half of the observed names whose SHA-256 begins with an even byte was looked at when the
recipe was made; the other half is reported. The page, which is no part of the package
for the observed pixels are not ours, has both kinds in random order, and says which is
which in the last line that is printed.
"""

import argparse
import hashlib
import importlib.util
import io
import tarfile
from concurrent.futures import ProcessPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import ROOT, shared_data, write_figures
from PIL import Image

from galml.imaging.color_pictures import color_pictures
from galml.mocks import galaxy_images
from galml.physics import generator_for
from galml.stellar_spin.mock_data import COLOR_BANDS, COLOR_OPTIONS, COLOR_SIDES

SEED, N_PARTICLES, QUANTILES = 2001, 12_000, (5, 16, 50, 84, 95)
ROWS, COLUMNS = 6, 10
#: How the twelve features are called in figures.
LABELS = {"b-r": "ln (g / i)", "g-r": "ln (r / i)", "log_r50": "ln r50"}


def image_features():
    """Import the features, which are no part of the package."""
    path = shared_data("gz1_sdss").parents[1] / "tools" / "image_features.py"
    spec = importlib.util.spec_from_file_location("image_features", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def observed_images():
    """Read the observed images, and whether each was looked at before."""
    images, known = [], []
    with tarfile.open(shared_data("gz1_sdss") / "images.tar") as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                name = member.name.rsplit("/", 1)[-1].removesuffix(".jpg")
                data = io.BytesIO(archive.extractfile(member).read())
                images.append(np.asarray(Image.open(data).convert("RGB")))
                known.append(hashlib.sha256(name.encode()).digest()[0] % 2 == 0)
    return np.array(images), np.array(known)


def mock_images(index):
    """Make a batch of mocks into color images."""
    torch.set_num_threads(1)
    generator = generator_for(SEED, "color images", index)
    sides, shares = zip(*COLOR_SIDES, strict=True)
    side = sides[int(torch.multinomial(torch.tensor(shares), 1, generator=generator))]
    options = COLOR_OPTIONS | {"n_particles": N_PARTICLES, "n_pixels": side}
    stream = galaxy_images(1, seed=SEED, first=index, bands=COLOR_BANDS, **options)
    _, images = next(stream)
    own = images.data, images.noise, images.pixel_scale, images.center
    return color_pictures(*own, generator)[0]


def plot_features(names, observed, mocks):
    """Draw the distributions of the features side by side."""
    figure, axes = plt.subplots(3, 4, figsize=(11, 7.5), layout="constrained")
    for axis, name, real, mock in zip(
        axes.flat, names, observed.T, mocks.T, strict=True
    ):
        edges = np.linspace(*np.nanpercentile(np.r_[real, mock], (0.5, 99.5)), 31)
        for values, label in ((real, "SDSS"), (mock, "mocks")):
            axis.hist(
                values, edges, density=True, histtype="step", label=label, linewidth=1.5
            )
        axis.set(xlabel=LABELS.get(name, name.replace("_", " ")), yticks=[])
    axes[0, 0].legend(frameon=False)
    return figure


def page_of(images):
    """Lay images out on one page."""
    side = images.shape[1] + 2
    page = np.zeros((ROWS * side, COLUMNS * side, 3), dtype=np.uint8)
    for place, image in enumerate(images[: ROWS * COLUMNS]):
        y, x = (side * at for at in divmod(place, COLUMNS))
        page[y : y + side - 2, x : x + side - 2] = image
    return Image.fromarray(page)


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--page")
    args = parser.parse_args()
    tool = image_features()
    images, known = observed_images()
    with ProcessPoolExecutor(2) as pool:
        mocks = np.concatenate(list(pool.map(mock_images, range(args.batches))))
    real, mock = tool.features(images), tool.features(mocks)
    figures = {"observed": int((~known).sum()), "mocks": len(mocks)}
    figures["c2st"] = float(tool.c2st(real[~known], mock))
    figures["c2st_development"] = float(tool.c2st(real[known], mock))
    # Two sets of observed galaxies, for the scatter of the measure.
    figures["c2st_observed"] = float(tool.c2st(real[known], real[~known]))
    figures["features"] = {
        name: {
            "observed": np.nanpercentile(real[~known, i], QUANTILES).round(3).tolist(),
            "mocks": np.nanpercentile(mock[:, i], QUANTILES).round(3).tolist(),
            "c2st": float(tool.c2st(real[~known][:, [i]], mock[:, [i]])),
        }
        for i, name in enumerate(tool.NAMES)
    }
    print({key: value for key, value in figures.items() if key != "features"})
    folder = ROOT / "docs" / "images"
    figure = plot_features(tool.NAMES, real[~known], mock)
    figure.savefig(folder / "image_features.png", dpi=80)
    choice = np.random.default_rng(SEED).permutation(len(mocks))
    page_of(mocks[choice]).save(folder / "mock_images.jpg", quality=85)
    write_figures("image_realism", figures)
    if args.page:
        generator = np.random.default_rng(SEED + 1)
        half = ROWS * COLUMNS // 2
        both = np.concatenate(
            [images[generator.permutation(len(images))[:half]], mocks[choice[-half:]]]
        )
        order = generator.permutation(2 * half)
        page_of(both[order]).save(args.page)
        print("mocks:", [int(i) + 1 for i in np.flatnonzero(order >= half)])


if __name__ == "__main__":
    main()
