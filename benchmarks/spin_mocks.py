# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Spins and their errors on mocks that training has not seen.

    python benchmarks/spin_mocks.py [--batches 150] [--beside FOLDER]

Beside the default model stands an oracle, a gradient-boosted regressor that knows what
a perfect image could show: bulge fraction, Sersic index, inclination, ellipticity,
flattening of the bulge, height of the disk, colors, bar and arms. From the FOLDER that
``duckworth_mocks.py`` writes come the published network and ours, both trained on the
same galaxies until they no longer improve.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable
from common import ROOT, in_bins, write_figures
from sklearn.ensemble import HistGradientBoostingRegressor
from torch.utils.flop_counter import FlopCounterMode

from galml.core.fitting import evaluate
from galml.core.model import GalaxyModel
from galml.core.weights import load_model
from galml.imaging import MIRRORS
from galml.mocks import (
    IMAGING_SURVEYS,
    build_stars,
    draw_stars,
    manga_beam,
    observe_light,
    random_orientation,
    spin_truth,
    starlight,
)
from galml.mocks.images import redshift_of
from galml.stellar_spin import metrics
from galml.stellar_spin.fitting import forget
from galml.stellar_spin.mock_data import as_galaxy_images, mock_data_set
from galml.stellar_spin.plots import plot_table
from galml.stellar_spin.posterior import fast_rotators, posterior
from galml.stellar_spin.preparation import INPUT, prepare
from galml.stellar_spin.published import Duckworth2020

BANDS = ("g", "r", "i")
TEST, ORACLE, AGREEMENT, COLOR_IMAGES = 1040, 1041, 1042, 1043
#: What a perfect image could show.
VISIBLE = (
    "bulge_fraction",
    "sersic_index",
    "inclination",
    "ellipticity",
    "galaxy_flattening",
    "galaxy_disk_height",
    "galaxy_thick_fraction",
    "galaxy_bar_fraction",
    "galaxy_arm_strength",
)
COLORS = ("blue_color", "red_color")
EDGES = {
    "log_snr": (0, 1.5, 2, 2.5, 3, 4.1),
    "log_psf": (-1.5, -0.6, -0.4, -0.25, 0.3),
    "log_pixels": (0.4, 0.7, 0.85, 1.0, 1.2, 2),
    "inclination": (0, 30, 50, 65, 80, 91),
}
#: Half-light radius (arcsec) with which galaxies are seen in all surveys.
RADIUS = 3.0
SURVEYS = ("SDSS", "DECaLS", "LSST")


def answer(model, data):
    """Answer as the operation does."""
    outputs = evaluate(model.network, data, MIRRORS)
    result = posterior(outputs, model.config["calibration"])
    low, _, high = result["spin_quantiles"].numpy().T
    return QTable(
        {
            "spin": result["spin_mean"].numpy(),
            "spin_err": (high - low) / 2,
            "spin_lo": low,
            "spin_hi": high,
            "fast_rotator_probability": fast_rotators(result).numpy(),
            "ellipticity": result["ellipticity"].numpy(),
            "ellipticity_err": result["ellipticity_error"].numpy(),
            "novelty": outputs["distance"].numpy() / model.config["domain"]["distance"],
        }
    )


def withhold(data, *groups):
    """Take colors or the PSF away from prepared images."""
    image, scalars = data["image"].clone(), data["scalars"].clone()
    for group in groups:
        forget(image, scalars, slice(None), group)
    return data | {"image": image, "scalars": scalars}


def scalar(data, name):
    """Give a number that the network is shown."""
    return data["scalars"][:, INPUT.scalars.index(name)]


def judge(table, data, rows=slice(None)):
    """Figures of some rows."""
    truth = {key: data[key].numpy()[rows] for key in ("spin", "ellipticity")}
    return metrics.summarize(table[rows], truth)


def visible(data):
    """Give what the oracle knows."""
    colors = [scalar(data, name) for name in COLORS]
    return torch.stack([*(data[name] for name in VISIBLE), *colors], 1).numpy()


def oracle(train, test):
    """Spins from what a perfect image could show."""
    model = HistGradientBoostingRegressor(
        max_iter=1000, learning_rate=0.04, early_stopping=True, random_state=0
    )
    model.fit(visible(train), train["spin"].numpy())
    return model.predict(visible(test))


def agreement_of_surveys(model, count=512):
    """Scatter between surveys of the same galaxies, in units of the quoted error."""
    generator = torch.Generator().manual_seed(AGREEMENT)
    tables, truths = {name: [] for name in SURVEYS}, []
    for _ in range(0, count, 64):
        p = draw_stars(64, generator)
        galaxy = build_stars(p, 20_000, generator, n_gas=0)
        galaxy = galaxy.rotated(random_orientation(64, generator))
        light = starlight(galaxy, BANDS)
        truth = spin_truth(galaxy, light[..., 1], manga_beam(64, generator))
        truths.append(truth.spin)
        # All are brought to one angular size; redshifts follow from it.
        redshift = redshift_of(truth.r_eff / RADIUS)
        light = starlight(galaxy, BANDS, redshift)
        for name in SURVEYS:
            survey = next(s for s in IMAGING_SURVEYS if s.name == name)
            pixels = 2 * int(np.ceil(4.3 * RADIUS / survey.pixel_scale))
            images = observe_light(
                galaxy, light, survey, redshift, pixels, generator, bands=BANDS
            )
            seen = as_galaxy_images(
                images,
                RADIUS / images.pixel_scale,
                images.center,
                noise=images.noise,
                psf_fwhm=images.psf_fwhm,
            )
            prepared = prepare(seen)
            tables[name].append(answer(model, prepared.inputs))
    truth, result = torch.cat(truths).numpy(), {}
    spin, error = (
        {n: np.concatenate([t[key] for t in parts]) for n, parts in tables.items()}
        for key in ("spin", "spin_err")
    )
    for first, second in (("SDSS", "DECaLS"), ("SDSS", "LSST"), ("DECaLS", "LSST")):
        scatter = metrics.scatter68(spin[first] - spin[second])
        quoted = np.median(np.hypot(error[first], error[second]) / np.sqrt(2))
        result[f"{first} - {second}"] = {"scatter": scatter, "quoted": float(quoted)}
    for name in SURVEYS:
        result[name] = metrics.agreement(spin[name], truth)
    return result


def cost(network, inputs, views):
    """Operations and seconds of a galaxy, views included."""
    network, count = network.eval(), len(next(iter(inputs.values())))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(inputs)
    flops = views * counter.get_total_flops() / count
    best = np.inf
    with torch.no_grad():
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(views):
                network(inputs)
            best = min(best, time.perf_counter() - start)
    return {"flops": flops, "seconds": best / count}


def costs(model):
    """Forward passes of both networks beside each other."""
    own = {
        "image": torch.rand(64, len(INPUT.channels), 48, 48),
        "scalars": torch.rand(64, len(INPUT.scalars)),
    }
    return {
        "default": cost(model.network, own, len(MIRRORS)),
        "published": cost(Duckworth2020(), {"image": torch.rand(64, 3, 80, 80)}, 1),
    }


def show(title, rows):
    """Print a table of figures."""
    table = QTable({title: list(rows)})
    for name in ("count", "pearson", "spearman", "mean_square", "scatter", "coverage"):
        table[name] = [row.get(name, np.nan) for row in rows.values()]
        table[name].info.format = ".0f" if name == "count" else ".4f"
    print()
    table.pprint(max_lines=-1, max_width=-1)


def main():
    """Draw the mocks, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--model", default="default")
    parser.add_argument("--beside", type=Path)
    args = parser.parse_args()
    model = load_model(args.model, "spin")
    beside = args.beside is not None
    test = mock_data_set(args.batches, seed=TEST, bands=BANDS, published_images=beside)
    train = mock_data_set(2 * args.batches, seed=ORACLE, bands=BANDS)
    colored = mock_data_set(args.batches // 3, seed=COLOR_IMAGES, color_images=1.0)
    table = answer(model, test)
    truth = {key: test[key].numpy() for key in ("spin", "ellipticity")}
    figures = {
        "default": judge(table, test),
        "default, one band": judge(answer(model, withhold(test, "blue", "red")), test),
        "default, PSF unknown": judge(answer(model, withhold(test, "psf")), test),
        "default, color images": judge(answer(model, colored), colored),
        "oracle": metrics.agreement(oracle(train, test), truth["spin"]),
    }
    if beside:
        small = GalaxyModel.load(args.beside / "default.safetensors")
        figures["default, retrained"] = judge(answer(small, test), test)
        published = GalaxyModel.load(args.beside / "published.safetensors")
        guess = evaluate(published.network, {"image": test["colors"]})["spin"].numpy()
        figures["published, retrained"] = metrics.agreement(guess, truth["spin"])
    show("g, r, i", figures)
    bins = {}
    for name, edges in EDGES.items():
        known = name in INPUT.scalars
        values = scalar(test, name) if known else test[name]
        bins[name] = in_bins(
            partial(judge, table, test), values.numpy(), edges, fewest=51
        )
        show(name, bins[name])
    bins["survey"] = {
        survey.name: judge(table, test, test["survey"].numpy() == index)
        for index, survey in enumerate(IMAGING_SURVEYS)
        if (test["survey"] == index).sum() > 50
    }
    show("survey", bins["survey"])
    surveys, forward = agreement_of_surveys(model), costs(model)
    for title, values in (("surveys", surveys), ("forward pass", forward)):
        print(title, values)
    plot_table(table, truth).savefig(
        ROOT / "docs" / "images" / "spin_mocks.png", dpi=80
    )
    ratio = figures["default"]["pearson"] / figures["oracle"]["pearson"]
    print(f"Pearson over that of the oracle: {ratio:.3f}")
    write_figures(
        "spin_mocks",
        {
            "figures": figures,
            "bins": bins,
            "surveys": surveys,
            "forward": forward,
            "model": model.sha256,
            "galaxies": len(table),
        },
    )


if __name__ == "__main__":
    main()
