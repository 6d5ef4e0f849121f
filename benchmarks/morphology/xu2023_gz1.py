# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How well the published autoencoder draws observed galaxies, beside the default model.

    python benchmarks/morphology/xu2023_gz1.py train FILE [--epochs N] [--rate R]
        [--batch N] [--dtype float32] [--cache DIR] [--limit N]
    python benchmarks/morphology/xu2023_gz1.py compare FILE [--model NAME] [--report]
        [--gallery FILE] [--limit N]

The network of Xu et al. (2023, MNRAS 526, 6391) is trained on the pictures of the
Galaxy Zoo in the development half, without their labels. Its published training took
many more pictures; by default the rate of learning is larger here and batches are
smaller, so that fewer steps do. The cache keeps the prepared pictures and the state of
the training, which goes on after it was stopped.

Models of the same number of latents are then compared on pictures that neither has
seen: `galml.reconstruct` gives fluxes on the pixels of the picture, and these are
averaged over cells and stretched by the numbers of the original, in two ways. Beside
them stand as many principal components of the published stretch, undone alike. What
counts is the square that all of them see. The development half is what is printed;
``--report`` gives the other half and writes the figures.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

import galml
from galml.core.domain import find_domain
from galml.core.fitting import fit_prepared, select, split_rows, untrained_model
from galml.core.weights import load_model
from galml.imaging import GalaxyImages
from galml.imaging.stamps import regrid
from galml.imaging.stretch import asinh_stretch
from galml.morphology.metrics import root_mean_square, structural_similarity
from galml.morphology.preparation import pixel_noise
from galml.morphology.published import XuRecipe, stretch, toned

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import HALVES, cached, galaxy_zoo, half_of, write_figures

CLASSES, SEED = range(6), 1
#: Pictures that are prepared or compared at a time, and shares that choose the epoch
#: and that are judged.
BLOCK, SHARES = 64, (0.1, 0.05)
#: Cells a side in which pictures are compared, and those of principal components.
CELLS, COARSE, COMPONENTS = (64, 128), 64, 40
SHOWN = 8


def pictures_of(half, limit):
    """Pictures of a half, as bytes of shape (n, 192, 192, 3)."""
    names, _, pictures = galaxy_zoo(CLASSES)
    return pictures[[half_of(name) == half for name in names]][:limit]


def prepared_blocks(pictures, model):
    """Prepare pictures block by block, as a model sees them.

    Parameters
    ----------
    pictures : `~numpy.ndarray`
        Bytes, shape (n, ny, nx, 3).
    model : `~galml.core.model.GalaxyModel`
        The model.

    Yields
    ------
    `~galml.imaging.GalaxyImages`, object
        Those that can be used, and what the domain of the model makes of them.
    """
    domain = find_domain(model)
    for start in range(0, len(pictures), BLOCK):
        members = domain.read(pictures[start : start + BLOCK]).members
        images = GalaxyImages.concatenate(list(members))
        rows = [i for i, one in enumerate(domain.problem(images)) if one is None]
        yield images[rows], domain.prepare([images[rows]])


def stretched(limit):
    """Pictures of the development half, as the published network sees them."""
    model = untrained_model(XuRecipe())
    blocks = prepared_blocks(pictures_of(HALVES[0], limit), model)
    return {"image": torch.cat([one.image.half() for _, one in blocks])}


def train(args):
    """Train the published network and save it."""
    data = cached(args.cache, f"xu2023_{args.limit}", lambda: stretched(args.limit))
    parts = [select(data, r) for r in split_rows(len(data["image"]), SEED, *SHARES)]
    model = fit_prepared(
        XuRecipe(),
        *parts,
        name="xu2023-gz1",
        seed=SEED,
        card={"epochs": args.epochs, "learning_rate": args.rate, "batch": args.batch},
        epochs=args.epochs,
        learning_rate=args.rate,
        batch_size=args.batch,
        schedule="cycle",
        dtype=args.dtype,
        checkpoint=args.cache and args.cache / "xu2023_training.safetensors",
        progress=True,
    )
    model.save(args.file, overwrite=True)
    history = model.history
    history.pprint(max_lines=-1, max_width=-1)
    print(f"seconds an epoch: {np.median(history['seconds']):.1f}")
    print(f"{args.file}: {model.card}")


def components(limit):
    """Find principal components of what the published network was trained on.

    Parameters
    ----------
    limit : int or None
        Most pictures.

    Returns
    -------
    `~sklearn.decomposition.PCA`
        Of cells that are averages of pixels.
    """
    model = untrained_model(XuRecipe())
    blocks = prepared_blocks(pictures_of(HALVES[0], limit), model)
    image = torch.cat([coarse(one.image) for _, one in blocks])
    (rows, *_) = split_rows(len(image), SEED, *SHARES)
    count = min(COMPONENTS, len(rows))
    found = PCA(count, svd_solver="randomized", random_state=SEED)
    return found.fit(image[rows].flatten(1).numpy())


def coarse(image):
    """Average images, shape (n, 3, y, x), over cells."""
    return torch.nn.functional.adaptive_avg_pool2d(image, COARSE)


def drawn_by_components(found, model, images, prepared):
    """Draw images from their principal components, with the stretch undone."""
    image = coarse(prepared.image)
    latent = found.transform(image.flatten(1).numpy())
    planes = torch.from_numpy(found.inverse_transform(latent)).float()
    return find_domain(model).draw(planes.view(image.shape), prepared, [images])


def square(frame, shape):
    """Tell which pixels lie in the squares that a network sees, shape (n, 1, y, x)."""
    y, x = (torch.arange(size, dtype=torch.float64) for size in shape)
    x, y = x - frame[:, :1], y - frame[:, 1:2]
    cosine, sine = (f(frame[:, 3])[:, None, None] for f in (torch.cos, torch.sin))
    x, y = x[:, None, :], y[:, :, None]
    far = torch.maximum((x * cosine + y * sine).abs(), (y * cosine - x * sine).abs())
    return (far <= frame[:, 2, None, None])[:, None]


def averaged(values, cells):
    """Average images over a square of cells."""
    n, _, ny, nx = values.shape
    center = torch.tensor([(nx - 1) / 2, (ny - 1) / 2]).expand(n, 2)
    half = torch.full((n,), max(ny, nx) / 2)
    return regrid(values, center, half, cells).mean


def pictures_shown(original, others):
    """Show images as the original is shown, in two ways.

    Parameters
    ----------
    original : `torch.Tensor`
        Fluxes, shape (n, 3, y, x).
    others : dict of str to `torch.Tensor`
        The same of what was drawn.

    Returns
    -------
    dict of str to dict of str to `torch.Tensor`
        For each way original and others by name, between about 0 and 1.
    """
    low, high = original.amin((2, 3), True), original.amax((2, 3), True)
    everything = {"original": original} | others
    unit = {key: (one - low) / (high - low) for key, one in everything.items()}
    _, tone = stretch(unit["original"])
    sky = original.flatten(2).median(2).values[..., None, None]
    noise = pixel_noise(original)[..., None, None]
    top = asinh_stretch(high - sky, noise)
    return {
        "published stretch": {key: toned(one, tone) for key, one in unit.items()},
        "asinh of signal to noise": {
            key: asinh_stretch(one - sky, noise) / top
            for key, one in everything.items()
        },
    }


def figures_of(shown, known):
    """Similarity and mean square of differences of what is shown, for each galaxy."""
    original = shown["original"].float()
    result = {}
    for name, one in shown.items():
        if name != "original":
            pair = (one.float(), original, known)
            similar = structural_similarity(*pair, brightest=1.0)
            error = root_mean_square(*pair).square()
            result[name] = torch.stack([similar, error], 1)
    return result


def compare(args):
    """Compare the two models and principal components."""
    models = {
        "xu2023": load_model(args.file),
        "ours": load_model(args.model, "latents"),
    }
    found = components(args.limit)
    pictures = pictures_of(HALVES[args.report], args.limit)
    figures, examples = {}, []
    for start in range(0, len(pictures), BLOCK):
        block = pictures[start : start + BLOCK]
        drawn, seen = {}, []
        for name, model in models.items():
            ((images, prepared),) = prepared_blocks(block, model)
            if len(images) < len(block):
                sys.exit(f"{name}: pictures that cannot be used")
            drawn[name] = galml.reconstruct(block, model=model)
            seen.append(square(prepared.frame, block.shape[1:3]))
            if name == "xu2023":
                drawn["components"] = drawn_by_components(
                    found, model, images, prepared
                )
        drawn = {
            name: torch.from_numpy(np.stack([one.data for one in some])).float()
            for name, some in drawn.items()
        }
        original = torch.from_numpy(images.values)
        region = torch.stack(seen).all(0).float()
        for cells in CELLS:
            coarser = {key: averaged(one, cells) for key, one in drawn.items()}
            known = averaged(region, cells)
            ways = pictures_shown(averaged(original, cells), coarser)
            for way, shown in ways.items():
                for name, values in figures_of(shown, known).items():
                    key = (f"{way}, {cells} cells", name)
                    figures.setdefault(key, []).append(values)
        examples += [ways["published stretch"]] * (start == 0)
        print(f"{min(start + BLOCK, len(pictures))} of {len(pictures)}", flush=True)
    figures = {key: torch.cat(some).numpy() for key, some in figures.items()}
    table = {}
    for (way, name), values in figures.items():
        other = figures[way, "ours"][:, 0]
        mean, error = values.mean(0), values.std(0) / np.sqrt(len(values))
        table.setdefault(way, {})[name] = {
            "ssim": float(mean[0]),
            "ssim_error": float(error[0]),
            "mse": float(mean[1]),
            "mse_error": float(error[1]),
            "ours_more_similar": float(np.mean(other > values[:, 0])),
        }
        print(f"{way:40s} {name:12s} SSIM {mean[0]:.4f} MSE {mean[1]:.6f}")
    if args.gallery:
        gallery(examples[0], args.gallery)
    if args.report:
        write_figures(
            "morphology/xu2023_gz1",
            {
                "galaxies": len(pictures),
                "figures": table,
                "models": {
                    name: {
                        "sha256": model.sha256,
                        "latents": sum(model.network.widths),
                        "card": model.card,
                    }
                    for name, model in models.items()
                },
            },
        )


def gallery(shown, path):
    """Draw some galaxies, and what is drawn of them, side by side."""
    names = list(shown)
    figure = Figure((2 * len(names), 2 * SHOWN), layout="constrained")
    count = min(SHOWN, len(shown["original"]))
    axes = figure.subplots(count, len(names), squeeze=False)
    for row in range(count):
        for place, name in enumerate(names):
            picture = shown[name][row].clamp(0, 1).permute(1, 2, 0)
            axes[row, place].imshow(picture, origin="upper")
            axes[row, place].set_axis_off()
            if row == 0:
                axes[row, place].set_title(name)
    figure.savefig(path, dpi=80)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train")
    one.set_defaults(work=train)
    one.add_argument("file", type=Path)
    one.add_argument("--epochs", type=int, default=20)
    one.add_argument("--rate", type=float, default=1e-3)
    one.add_argument("--batch", type=int, default=64)
    one.add_argument("--dtype", default="bfloat16")
    one.add_argument("--cache", type=Path)
    one.add_argument("--limit", type=int)
    one = commands.add_parser("compare")
    one.set_defaults(work=compare)
    one.add_argument("file", type=Path)
    one.add_argument("--model", default="default")
    one.add_argument("--report", action="store_true")
    one.add_argument("--gallery", type=Path)
    one.add_argument("--limit", type=int)
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    main()
