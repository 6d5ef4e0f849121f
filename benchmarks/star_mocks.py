# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Galaxies with chemo-dynamical stars against published relations.

Run ``python benchmarks/star_mocks.py [GALAXIES] [STARS]``. All is measured on the stars
of the mocks alone: sizes, speeds, dispersions, metals, ages, and the stars around
R = 8 kpc in galaxies like the Milky Way, beside those of Bensby, Feltzing & Oey (2014).
"""

import sys
import time
import warnings

import numpy as np
import torch
from astropy.table import Table
from astropy.units import UnitsWarning
from common import ROOT, shared_data, write_figures
from matplotlib.figure import Figure

from galml.mocks import (
    COMPONENTS,
    STAR_TABLE_POPULATION,
    UNEXPLAINED_SCATTER,
    draw_star_galaxies,
    star_tensors,
)
from galml.mocks import scaling_relations as published
from galml.mocks.light import luminosity
from galml.physics import SOLAR_METALLICITY

THIN, THICK, SPHEROID = (
    COMPONENTS.index(name) for name in ("thin disk", "thick disk", "spheroid")
)
SEED = 0
SUN = 8.2
#: Galaxies like the Milky Way: how many, and how many stars of each.
ANALOGUES, ANALOGUE_STARS = 5, 200_000
#: Velocity dispersions of thin and thick disk near the Sun along R, phi, z in km/s
#: (Bensby, Feltzing & Lundstrom 2003, A&A 410, 527).
LOCAL = {"thin": (35, 20, 16), "thick": (67, 38, 35)}
IMAGE = ROOT / "docs" / "images" / "star_mocks.png"


def measure(made):
    """Properties of galaxies by their stars, each of shape (n,)."""
    stars, component = made["stars"], made["component"]
    place, velocity = stars[..., :3], stars[..., 3:6]
    metals, iron, age = stars[..., 6], stars[..., 7], stars[..., 9]
    radius = torch.hypot(place[..., 0], place[..., 1])
    spin = place[..., 0] * velocity[..., 1] - place[..., 1] * velocity[..., 0]
    spin = spin / radius
    outward = (place[..., :2] * velocity[..., :2]).sum(-1) / radius
    half, most = torch.quantile(radius, torch.tensor([0.5, 0.8]), dim=1)
    light = luminosity(age, metals, ("r",))[..., 0]

    def mean(values, weight):
        return (values * weight).sum(1) / weight.sum(1)

    young = (age < 2) & (component == THIN)
    ring = young & ((radius / most[:, None]).log().abs() < 0.3)
    inner = (radius < 2 * half[:, None]).float()
    rotation = mean(spin, inner)
    spread = (spin - rotation[:, None]) ** 2 + outward**2 + velocity[..., 2] ** 2
    spread = mean(spread, inner) / 3
    return {
        "mass": made["conditions"][:, 0].float(),
        "size": half.log10(),
        "speed": mean(spin, ring).log10(),
        "width": (rotation**2 / 2 + spread).sqrt().log10(),
        "order": rotation / spread.sqrt(),
        "iron": iron.mean(1),
        "metals": (metals / SOLAR_METALLICITY).log10().mean(1),
        "age": mean(age, light).log10(),
        "thick": ((component == THICK).sum(1) / (component == THIN).sum(1)).log10(),
        "bulge": (component == SPHEROID).float().mean(1),
    }


def compare(value, relation, rows, scatter):
    """Mean and scatter about a relation, in dex."""
    rest = (value - relation)[rows]
    return {
        "galaxies": int(rows.sum()),
        "offset": float(rest.mean()),
        "scatter": float(rest.std()),
        "published_scatter": scatter,
    }


def relations(found):
    """Every relation by its name."""
    mass, bulge = found["mass"], found["bulge"]
    late, giant = bulge < 0.4, mass > 9
    return {
        "size, disks (Shen 2003)": compare(
            found["size"], published.half_light_radius(mass), late, 0.2
        ),
        "size, bulges (Shen 2003)": compare(
            found["size"], published.half_light_radius(mass, early=True), ~late, 0.15
        ),
        "rotation (Reyes 2011)": compare(
            found["speed"], published.tully_fisher(mass), giant & late, 0.056
        ),
        "motions (Kassin 2007)": compare(
            found["width"], published.kinematic_width(mass), giant, 0.16
        ),
        "[Fe/H], dwarfs (Kirby 2013)": compare(
            found["iron"], published.iron_of_dwarfs(mass), ~giant, 0.17
        ),
        "[M/H] (Gallazzi 2005)": compare(
            found["metals"], published.metallicity(mass), giant, 0.1
        ),
        "age by light (Gallazzi 2005)": compare(
            found["age"], published.light_weighted_age(mass), giant, 0.25
        ),
    }


def unexplained(made, found):
    """Scatter of sizes that the conditions leave, by a Gaussian process, in dex."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    conditions = made["conditions"][:, :4].numpy()
    conditions = (conditions - conditions.mean(0)) / conditions.std(0)
    rest = (found["size"] - published.half_light_radius(found["mass"])).numpy()
    kernel = RBF([1.0] * 4, (0.1, 1e6)) + WhiteKernel(0.1)
    fit = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit.fit(conditions, rest)
    return float(rest.std() * np.sqrt(fit.kernel_.k2.noise_level))


def analogues():
    """Stars of galaxies like the Milky Way."""
    p = draw_star_galaxies(0, 4000, SEED)
    distance = (p["log_mass"] - 10.7).abs() / 0.1
    distance += (p["disk_length"] - 2.6).abs() / 0.3 + p["age_residual"].abs() / 0.5
    distance += p["iron"].abs() / 0.1
    chosen = distance.argsort()[:ANALOGUES].tolist()
    made = [star_tensors(1, ANALOGUE_STARS, seed=SEED, first=i) for i in chosen]
    columns = torch.cat([one["stars"][0] for one in made]).double().numpy().T
    component = torch.cat([one["component"][0] for one in made]).numpy()
    x, y, z, v_x, v_y, v_z, _, iron, oxygen, age = columns
    radius = np.hypot(x, y)
    return {
        "radius": radius,
        "z": z,
        "v": np.stack([(x * v_x + y * v_y), (x * v_y - y * v_x)]) / radius,
        "v_z": v_z,
        "iron": iron,
        "oxygen": oxygen,
        "age": age,
        "component": component,
    }


def near_sun(stars):
    """Those at the Sun's radius and near the plane."""
    rows = (np.abs(stars["radius"] - SUN) < 1) & (np.abs(stars["z"]) < 0.3)
    return {key: value[..., rows] for key, value in stars.items()}


def milky_way(stars, real):
    """Figures near the Sun, with those published."""
    near, figures = near_sun(stars), {}
    for i, name in enumerate(LOCAL):
        rows = near["component"] == i
        found = [*near["v"][:, rows], near["v_z"][rows]]
        for axis, one, known in zip(("R", "φ", "z"), found, LOCAL[name], strict=True):
            figures[f"σ_{axis} of the {name} disk, km/s"] = (one.std(), known)
    lag = [near["v"][1][near["component"] == i].mean() for i in (0, 1)]
    figures["lag of the thick disk, km/s"] = (lag[0] - lag[1], 46 - 15)
    cold = near["component"] == THIN
    edges = np.array([0.5, 1, 2, 3, 4.5, 6, 8, 10, 13])
    middle = np.sqrt(edges[1:] * edges[:-1]) + 0.1
    for name, speed, known in (
        ("R", near["v"][0], 0.251),
        ("z", near["v_z"], 0.441),
    ):
        bins = zip(edges[:-1], edges[1:], strict=True)
        spread = [
            speed[cold & (near["age"] >= low) & (near["age"] < high)].std()
            for low, high in bins
        ]
        power = np.polyfit(np.log(middle), np.log(spread), 1)[0]
        figures[f"power of age in σ_{name} (Sharma 2021)"] = (power, known)
    rows = (stars["component"] == THIN) & (stars["age"] < 4)
    rows &= (stars["radius"] > 4) & (stars["radius"] < 10)
    slope = np.polyfit(stars["radius"][rows], stars["iron"][rows], 1)[0]
    figures["gradient of [Fe/H], dex/kpc (Anders 2017)"] = (slope, -0.058)
    for name, thick in (("low", False), ("high", True)):
        for iron in (-0.5, 0.0):
            near_iron = np.abs(near["iron"] - iron) < 0.1
            own = near_iron & ((near["component"] == THICK) == thick)
            beside = (np.abs(real["iron"] - iron) < 0.1) & (real["thick"] == thick)
            figures[f"[O/Fe], {name} sequence at [Fe/H] = {iron:.1f}"] = (
                np.median(near["oxygen"][own]),
                np.median(real["oxygen"][beside]),
            )
    return {
        name: {"mock": float(mock), "published": float(known)}
        for name, (mock, known) in figures.items()
    }


def bensby():
    """Stars of Bensby et al. (2014), with the disk that they probably belong to."""
    path = shared_data("stars") / "Bensby2014_with_tSNEandBattistini.fits.gz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)
        table = Table.read(path)
    names = {"iron": "Fe_H", "oxygen": "O_Fe", "age": "Age", "ratio": "td_d"}
    columns = {
        key: np.ma.filled(table[name].astype(float), np.nan)
        for key, name in names.items()
    }
    ratio = columns.pop("ratio")
    rows = np.isfinite(list(columns.values())).all(0) & ((ratio > 2) | (ratio < 0.5))
    columns["thick"] = ratio > 2
    return {key: value[rows] for key, value in columns.items()}


def plot(found, stars, real):
    """Relations above, the neighborhood of the Sun below."""
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    above, below = figure.subplots(2, 4)
    mass = found["mass"]
    line = torch.linspace(7.5, 11.2, 100)
    panels = {
        "size": "log half-mass radius / kpc",
        "speed": "log rotation / km/s",
        "metals": "[M/H]",
        "age": "log age by light / Gyr",
    }
    for axes, (key, label) in zip(above, panels.items(), strict=True):
        points = axes.scatter(mass, found[key], c=found["bulge"], s=8)
        axes.set(xlabel="log stellar mass / Msun", ylabel=label)
    for axes, relation, rows in (
        (above[0], published.half_light_radius, line > 7.5),
        (above[1], published.tully_fisher, line > 9),
        (above[2], published.metallicity, line > 9),
        (above[2], published.iron_of_dwarfs, line < 9),
        (above[3], published.light_weighted_age, line > 9),
    ):
        axes.plot(line[rows], relation(line[rows]), color="k", lw=1)
    above[0].plot(
        line[line > 10],
        published.half_light_radius(line[line > 10], early=True),
        color="k", lw=1, ls="--",
    )  # fmt: skip
    figure.colorbar(points, ax=above[3], label="share of the bulge")
    near = near_sun(stars)
    generator = np.random.default_rng(0)
    rows = generator.permutation(len(near["age"]))[: 3 * len(real["age"])]
    some = {key: value[..., rows] for key, value in near.items()}
    for axes, sample, title in ((below[0], some, "mocks"), (below[1], real, "Bensby")):
        points = axes.scatter(
            sample["iron"], sample["oxygen"], c=sample["age"], s=4, vmin=0, vmax=13
        )
        axes.set(xlim=(-1.4, 0.6), ylim=(-0.35, 0.8), xlabel="[Fe/H]", ylabel="[O/Fe]")
        axes.set_title(f"{title}, R = 8 kpc", fontsize=9)
    figure.colorbar(points, ax=below[1], label="age / Gyr")
    below[2].scatter(some["age"], some["oxygen"], s=4, lw=0, label="mocks")
    below[2].scatter(real["age"], real["oxygen"], s=4, lw=0, label="Bensby")
    below[2].set(xlabel="age / Gyr", ylabel="[O/Fe]", ylim=(-0.35, 0.8))
    below[2].legend(fontsize=8)
    edges = np.arange(0, 13.1, 1)
    cold = near["component"] == THIN
    for speed, power, scale, name in (
        (near["v"][0], 0.251, 39.4, "R"),
        (near["v_z"], 0.441, 21.1, "z"),
    ):
        spread = [
            speed[cold & (near["age"] >= low) & (near["age"] < low + 1)].std()
            for low in edges[:-1]
        ]
        below[3].plot(edges[:-1] + 0.5, spread, "o", ms=4, label=f"mocks, σ_{name}")
        below[3].plot(edges, scale * ((edges + 0.1) / 10.1) ** power, "k", lw=1)
    below[3].set(xlabel="age / Gyr", ylabel="dispersion / km/s")
    below[3].legend(fontsize=8)
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE, dpi=110)
    print(f"written: {IMAGE.relative_to(ROOT)}")


def main():
    """Draw, measure, plot and print."""
    counts = [int(value) for value in sys.argv[1:]]
    n_galaxies, n_stars = counts + [200, 20_000][len(counts) :]
    torch.set_num_threads(1)
    start = time.perf_counter()
    made = star_tensors(n_galaxies, n_stars, seed=SEED)
    rate = n_galaxies * n_stars / (time.perf_counter() - start)
    found = measure(made)
    stars, real = analogues(), bensby()
    fast = found["speed"] > np.log10(120)
    figures = {
        "population": STAR_TABLE_POPULATION,
        "galaxies": n_galaxies,
        "stars": n_stars,
        "stars_per_second": rate,
        "relations": relations(found),
        "milky_way": milky_way(stars, real),
        "thick_to_thin": {
            "slow": float(10 ** found["thick"][~fast].median()),
            "fast": float(10 ** found["thick"][fast].median()),
        },
        "rotation_to_dispersion_dwarfs": float(
            found["order"][found["mass"] < 8.5].median()
        ),
        "unexplained_size": unexplained(made, found),
        "unexplained_size_of_the_recipe": UNEXPLAINED_SCATTER["size"],
    }
    for part in ("relations", "milky_way"):
        for name, row in figures[part].items():
            numbers = ", ".join(f"{key} {value:.3f}" for key, value in row.items())
            print(f"{name:42s} {numbers}")
    for name, value in figures.items():
        if name not in ("relations", "milky_way"):
            print(f"{name}: {value}")
    plot(found, stars, real)
    write_figures("star_mocks", figures)


if __name__ == "__main__":
    main()
