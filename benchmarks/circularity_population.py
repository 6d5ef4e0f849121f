# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The population of mock galaxies: what it holds, and how well it can be known at best.

    python benchmarks/circularity_population.py

Draws the gas of the population without noise, plots it, and fits an oracle: gradient
boosting from the true parameters that maps can show, among which is neither kappa nor
anything measured on the particles but the inclination. Motions within the beam are
handed to it as the beam leaves them: each eddy by the Gaussian of its wave number, and
clumps by their size. One oracle knows what a velocity map shows: rotation after
asymmetric drift, and these motions in km/s. Another knows what a dispersion map shows,
too: the dispersion, with what the beam blurs. Neither knows the luck of the draw (where
clumps, eddies and satellites happen to be and to go), of which a map shows a part.
"""

import math

import numpy as np
import torch
from common import ROOT, write_figures
from matplotlib.figure import Figure
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.model_selection import cross_val_predict

from galml.gas_kinematics.metrics import balanced_accuracy, scatter68
from galml.gas_kinematics.plots import VELOCITY_COLORS
from galml.mocks import POPULATION, gas_maps
from galml.mocks.dynamics import with_drift
from galml.mocks.gas_map import FWHM
from galml.mocks.gas_recipe import N_MODES, circular_speed

SEED = 20_002
BATCHES = 120
LOWEST_INCLINATION = 30.0
BETWEEN = (0.35, 0.65)
CLEAR = 0.05
IMAGE = ROOT / "docs" / "images" / "population.png"

# Parameters of a galaxy that are single numbers and leave a trace in a velocity map.
SHOWN = (
    "radius", "scale_length", "hole", "ring", "arms", "arm_number", "arm_pitch", "bar",
    "bar_radius", "warp", "warp_start", "warp_twist", "clumps", "clump_number",
    "clump_size", "second", "second_fraction", "second_radius", "second_width",
    "second_arc", "second_tilt", "satellite_fraction", "satellite_size",
)  # fmt: skip
# Motions in units of the circular speed, and vectors of which the length counts.
MOTIONS = ("radial_flow", "second_flow", "satellite_flow")
ORBITS = ("satellite_orbit", "satellite_spin")
BEAMS = (3, 5, 9, 16, 28, 60)
RADII = torch.tensor([0.15, 0.4, 0.7, 1.0])


def rotation(p):
    """Rotation of the disk at four radii, in km/s."""
    radius = RADII.expand(len(p["speed"]), -1)
    shape = p["curve"], p["speed"], p["turnover"], p["sharpness"]
    decline = p["drift"] * (1 / p["scale_length"] + p["dispersion_fall"])
    sigma = p["dispersion"][:, None] * torch.exp(
        -p["dispersion_fall"][:, None] * radius
    )
    pressure = 2 * decline[:, None] * radius * sigma**2
    return with_drift(circular_speed(radius, *shape) ** 2, pressure)


def through_beam(p, across):
    """Amplitudes of eddies and clumps in km/s, seen and blurred, and eddies' length.

    ``across`` is the diameter of the gas in beams.
    """
    sigma = 2 / across / FWHM
    power = (p["wave_amplitude"] ** 2).sum(2)
    left = power * torch.exp(-((2 * math.pi / p["wave_length"] * sigma[:, None]) ** 2))
    strength = p["turbulence"] * p["speed"] / math.sqrt(3 * N_MODES)
    eddies = [strength * part.sum(1).sqrt() for part in (left, power - left)]
    length = (p["wave_length"].log10() * left).sum(1) / left.sum(1).clamp_min(1e-9)
    size2 = p["clump_size"] ** 2
    share = size2 / (size2 + sigma**2)
    motion = p["clumps"].sqrt() * p["clump_motion"] * p["speed"] / math.sqrt(2)
    clumps = [motion * part.sqrt() for part in (share, 1 - share)]
    return [*zip(eddies, clumps, strict=True)], length


def features(p, maps):
    """Columns of what a velocity map can show, and columns of what dispersion adds."""
    speed, seen = p["speed"], rotation(p)
    motions = [p[name] for name in MOTIONS]
    motions += [torch.linalg.vector_norm(p[name], dim=1) for name in ORBITS]
    typical = seen.mean(1) + 1
    (resolved, blurred), length = through_beam(p, maps.beams_across)
    reach = torch.isfinite(maps.velocity).sum((1, 2)).sqrt() / maps.beam
    columns = [p[name].float() for name in SHOWN] + list(seen.T)
    columns += [motion * speed / typical for motion in motions]
    columns += [amplitude / typical for amplitude in resolved]
    columns += [torch.linalg.vector_norm(p["satellite_place"], dim=1), length, reach]
    columns += [maps.truth.inclination, maps.beams_across]
    sigma = (p["dispersion"] ** 2 + sum(one**2 for one in blurred)).sqrt()
    added = [sigma, sigma / typical, p["dispersion_fall"], p["thickness"]]
    return torch.stack(columns, 1).numpy(), torch.stack(added, 1).numpy()


def draw():
    """Stream the population; keep numbers only."""
    rows = []
    stream = gas_maps(BATCHES, seed=SEED, noisy=False, tracer="gas")
    for parameters, maps in stream:
        seen = maps.truth.inclination >= LOWEST_INCLINATION
        truth = maps.truth.kappa, maps.truth.inclination, maps.beams_across
        truth = [column.numpy() for column in truth]
        columns = (*features(parameters, maps), *truth)
        rows.append([column[seen.numpy()] for column in columns])
    return map(np.concatenate, zip(*rows, strict=True))


def oracle(known, kappa, across):
    """Figures of gradient boosting, each galaxy predicted from the other folds."""
    options = {"max_iter": 400, "learning_rate": 0.06, "random_state": 0}
    predicted = cross_val_predict(
        HistGradientBoostingRegressor(**options), known, kappa, cv=5
    )
    ordered = kappa >= 0.5
    odds = cross_val_predict(
        HistGradientBoostingClassifier(class_weight="balanced", **options),
        known,
        ordered,
        cv=5,
        method="predict_proba",
    )[:, 1]

    def figures(rows):
        clear = rows & (np.abs(kappa - 0.5) >= CLEAR)
        return {
            "circularity_scatter": scatter68((predicted - kappa)[rows]),
            "balanced_accuracy": balanced_accuracy(odds[rows], kappa[rows]),
            "balanced_accuracy_clear": balanced_accuracy(odds[clear], kappa[clear]),
        }

    bins = zip(BEAMS[:-1], BEAMS[1:], strict=True)
    return figures(np.ones(len(kappa), dtype=bool)) | {
        "beams_across": {
            f"{a:g} - {b:g}": figures((across >= a) & (across < b)) for a, b in bins
        }
    }


def examples(count=9):
    """Pairs of a map without and with noise, spread over the range of kappa."""
    pairs = []
    for index in range(16):
        (first, clean), (second, noisy) = (
            next(
                gas_maps(
                    1,
                    batch_size=8,
                    seed=SEED + 1,
                    noisy=noisy,
                    tracer="gas",
                    first=index,
                )
            )
            for noisy in (False, True)
        )
        # The same galaxies, but the noise may have left too few pixels of some.
        for i, speed in enumerate(first["speed"]):
            twin = (second["speed"] == speed).nonzero()
            if clean.truth.inclination[i] >= LOWEST_INCLINATION and len(twin):
                pairs.append((clean[i : i + 1], noisy[twin[0]]))
    pairs.sort(key=lambda pair: float(pair[0].truth.kappa))
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, count).astype(int)]


def show_map(axes, maps):
    """One example in its own color scale."""
    velocity = maps.velocity[0].numpy()
    velocity = velocity - np.nanmedian(velocity)
    limit = np.nanpercentile(np.abs(velocity), 97)
    axes.imshow(velocity, origin="lower", cmap=VELOCITY_COLORS, vmin=-limit, vmax=limit)
    axes.set(xticks=[], yticks=[])
    snr = float(maps.snr[0])
    noise = "no noise" if np.isinf(snr) else f"S/N {snr:.1f}"
    axes.set_title(f"κ {float(maps.truth.kappa[0]):.2f}, {noise}", fontsize=8)


def plot(kappa, inclination, share):
    """Histogram of kappa, kappa against inclination, and examples."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(0.9, 2))
    left, right = upper.subplots(1, 2)
    left.hist(kappa, np.linspace(0, 1, 41), color="0.55")
    left.axvspan(*BETWEEN, color="tab:orange", alpha=0.25, lw=0)
    left.text(0.5, 0.95, f"{share:.0%}", transform=left.get_xaxis_transform(),
              ha="center", va="top")  # fmt: skip
    left.set(xlabel="circularity κ", ylabel="galaxies", xlim=(0, 1))
    left.set_title(f"population {POPULATION}, {len(kappa)} galaxies", fontsize=10)
    *_, image = right.hist2d(
        inclination, kappa, bins=(30, 40), range=((30, 90), (0, 1)), cmap="Grays"
    )
    upper.colorbar(image, ax=right, label="galaxies")
    right.axhline(0.5, color="tab:orange", lw=1)
    right.set(xlabel="inclination (°)", ylabel="circularity κ", ylim=(0, 1))
    panels = lower.subplots(3, 6).reshape(-1, 2)
    for (clean, noisy), (first, second) in zip(examples(), panels, strict=True):
        show_map(first, clean)
        show_map(second, noisy)
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE, dpi=110)
    print(f"written: {IMAGE.relative_to(ROOT)}")


def main():
    """Draw, plot, fit and print."""
    shown, added, kappa, inclination, across = draw()
    share = float(((kappa > BETWEEN[0]) & (kappa < BETWEEN[1])).mean())
    plot(kappa, inclination, share)
    figures = {
        "population": POPULATION,
        "galaxies": len(kappa),
        "share_0.35_to_0.65": share,
        "share_below_0.5": float((kappa < 0.5).mean()),
        "scatter_of_the_population": scatter68(kappa - np.median(kappa)),
        "oracle_velocity": oracle(shown, kappa, across),
        "oracle_velocity_and_dispersion": oracle(
            np.hstack([shown, added]), kappa, across
        ),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    write_figures("circularity_population", figures)


if __name__ == "__main__":
    main()
