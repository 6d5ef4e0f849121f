# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Galaxies with chemo-dynamical stars against published relations.

Run ``python benchmarks/star_mocks.py [GALAXIES] [STARS]``. All is measured on the stars
of the mocks: sizes, speeds, dispersions, orbits, metals, ages, and the stars around
R = 8 kpc in galaxies like the Milky Way, beside those of Bensby, Feltzing & Oey (2014).
Each relation is either an input, which the recipe was given, or a prediction, which
follows from others by gravity.
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
    draw_star_galaxies,
    star_tensors,
)
from galml.mocks import scaling_relations as published
from galml.mocks.chemo_recipe import escape_speed, gravity
from galml.mocks.dynamics import escape_speed2
from galml.mocks.light import luminosity
from galml.physics import SOLAR_METALLICITY

THIN, THICK, SPHEROID = (
    COMPONENTS.index(name) for name in ("thin disk", "thick disk", "spheroid")
)
SEED = 0
SUN = 8.2
#: Galaxies like the Milky Way: how many, and how many stars of each.
ANALOGUES, ANALOGUE_STARS = 5, 200_000
#: Velocity dispersions of thin and thick disk near the Sun along R, phi, z in km/s:
#: Bensby, Feltzing & Lundstrom (2003, A&A 410, 527) and Anguiano et al. (2018, MNRAS
#: 474, 854).
LOCAL = {
    "thin": {"Bensby 2003": (35, 20, 16), "Anguiano 2018": (33, 28, 23)},
    "thick": {"Bensby 2003": (67, 38, 35), "Anguiano 2018": (57, 38, 37)},
}
INPUT, PREDICTION = "input", "prediction"
#: Stars of a circularity above this are on cold orbits, below that on hot ones, in
#: either sense of rotation (Zhu et al. 2018, MNRAS 479, 945).
COLD, HOT = 0.8, 0.25
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


def compare(kind, value, relation, rows, scatter):
    """Mean and scatter about a relation, in dex."""
    rest = (value - relation)[rows]
    return {
        "kind": kind,
        "galaxies": int(rows.sum()),
        "offset": float(rest.mean()),
        "scatter": float(rest.std()),
        "published_scatter": scatter,
    }


def relations(found):
    """Every relation by its name."""
    mass, bulge = found["mass"], found["bulge"]
    late, giant = bulge < 0.5, mass > 9
    scatter = published.size_scatter(mass)
    return {
        "size, disks (Shen 2003)": compare(
            INPUT,
            found["size"],
            published.half_light_radius(mass),
            late,
            float(scatter[late].square().mean().sqrt()),
        ),
        "size, spheroids (Shen 2003)": compare(
            INPUT,
            found["size"],
            published.half_light_radius(mass, early=True),
            ~late,
            float(scatter[~late].square().mean().sqrt()),
        ),
        "[Fe/H], dwarfs (Kirby 2013)": compare(
            INPUT, found["iron"], published.iron_of_dwarfs(mass), ~giant, 0.17
        ),
        "[M/H] (Gallazzi 2005)": compare(
            INPUT, found["metals"], published.metallicity(mass), giant, 0.1
        ),
        "age by light (Gallazzi 2005)": compare(
            INPUT, found["age"], published.light_weighted_age(mass), giant, 0.25
        ),
        "rotation (Reyes 2011)": compare(
            PREDICTION,
            found["speed"],
            published.tully_fisher(mass),
            giant & late,
            0.056,
        ),
        "motions (Kassin 2007)": compare(
            PREDICTION, found["width"], published.kinematic_width(mass), giant, 0.16
        ),
    }


def circularity(made):
    """Angular momentum of stars over that of circular orbits of their energy.

    The potential is that of the plane, as a function of the distance from the center.
    """
    radius, total, _ = gravity(made["truth"])
    potential = -escape_speed2(total) / 2
    energy, turn = potential + total / 2, radius * total.sqrt()
    result = []
    for i, stars in enumerate(made["stars"]):
        x, y, z, v_x, v_y, v_z = stars[:, :6].double().numpy().T
        own = np.interp(
            np.log(np.sqrt(x**2 + y**2 + z**2)),
            radius[i].log().numpy(),
            potential[i].numpy(),
        )
        own = own + (v_x**2 + v_y**2 + v_z**2) / 2
        most = np.interp(own, energy[i].numpy(), turn[i].log().numpy())
        result.append((x * v_y - y * v_x) / np.exp(most))
    return torch.from_numpy(np.stack(result))


def structure(made, found):
    """Shares of components and of orbits, and what rotation depends on."""
    mass, bulge = found["mass"], found["bulge"]
    orbits = circularity(made)
    radius = torch.hypot(made["stars"][..., 0], made["stars"][..., 1])
    inside = (radius < 10 ** found["size"][:, None]).double()
    cold, hot = (
        (rows * inside).sum(1) / inside.sum(1)
        for rows in (orbits > COLD, orbits.abs() <= HOT)
    )
    rows = {}
    near = (mass - 11).abs() < 0.2
    rows["share of spheroids at 1e11 M☉ (Moffett 2016)"] = (
        INPUT,
        bulge[near].mean(),
        0.5,
    )
    seen = (mass > 8.7) & (mass <= 10.5)
    for name, chosen in (("8.7 to 10.5", seen), ("above 10.5", mass > 10.5)):
        share = bulge[chosen].mean()
        rows[f"cold orbits, log M {name} (Zhu 2018)"] = (
            PREDICTION,
            cold[chosen].mean(),
            0.14 + 0.23 * (1 - share),
        )
        rows[f"hot orbits, log M {name} (Zhu 2018)"] = (
            PREDICTION,
            hot[chosen].mean(),
            0.19 + 0.31 * share,
        )
    disks = (mass > 9) & (bulge < 0.5)
    speed = (found["speed"] - published.tully_fisher(mass))[disks]
    size = (found["size"] - published.half_light_radius(mass))[disks]
    slope = np.polyfit(size.numpy(), speed.numpy(), 1)[0]
    rows["slope of rotation with size at a mass (Courteau 2007)"] = (
        PREDICTION,
        slope,
        0.0,
    )
    return _rows(rows)


def _rows(figures):
    """Rows of a table, by tuples of kind, mocks and published value."""
    return {
        name: {"kind": kind, "mock": float(mock), "published": float(known)}
        for name, (kind, mock, known) in figures.items()
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
    # Young stars near the Sun have its iron.
    iron = p["iron"] + p["iron_gradient"] * (SUN / p["disk_length"] - 2)
    distance += iron.abs() / 0.1 + (p["fraction"][:, 2] - 0.3).abs() / 0.1
    chosen = distance.argsort()[:ANALOGUES].tolist()
    made = [star_tensors(1, ANALOGUE_STARS, seed=SEED, first=i) for i in chosen]
    own = {key: value[chosen] for key, value in p.items()}
    columns = torch.cat([one["stars"][0] for one in made]).double().numpy().T
    component = torch.cat([one["component"][0] for one in made]).numpy()
    x, y, z, v_x, v_y, v_z, _, iron, oxygen, age = columns
    radius = np.hypot(x, y)
    grid, total, _ = gravity(own)
    circular = [
        np.interp(SUN, place, speed2) ** 0.5
        for place, speed2 in zip(grid.numpy(), total.numpy(), strict=True)
    ]
    escape = escape_speed(own, torch.full((ANALOGUES, 1), SUN))
    speeds = {"circular": np.mean(circular), "escape": float(escape.mean())}
    return speeds, {
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


def milky_way(speeds, stars, real):
    """Figures near the Sun, with those published."""
    near, figures = near_sun(stars), {}
    cold = near["component"] == THIN
    for i, name in enumerate(LOCAL):
        rows = near["component"] == i
        found = [*near["v"][:, rows], near["v_z"][rows]]
        for source, values in LOCAL[name].items():
            for axis, one, known in zip(("R", "φ", "z"), found, values, strict=True):
                figures[f"σ_{axis} of the {name} disk, km/s ({source})"] = (
                    PREDICTION,
                    one.std(),
                    known,
                )
    old = cold & (np.abs(near["age"] - 10) < 1)
    for axis, speed, known in (("R", near["v"][0], 39.4), ("z", near["v_z"], 21.1)):
        figures[f"σ_{axis} of thin disk stars of 10 Gyr, km/s (Sharma 2021)"] = (
            PREDICTION,
            speed[old].std(),
            known,
        )
    lag = [near["v"][1][near["component"] == i].mean() for i in (0, 1)]
    figures["lag of the thick disk, km/s (Bensby 2003)"] = (
        PREDICTION,
        lag[0] - lag[1],
        46 - 15,
    )
    figures["circular speed, km/s (Eilers 2019)"] = PREDICTION, speeds["circular"], 229
    figures["escape speed, km/s (Deason 2019)"] = PREDICTION, speeds["escape"], 528
    figures["scale length of σ_z, kpc (Bovy 2012)"] = (
        PREDICTION,
        _scale_of_dispersion(stars),
        7,
    )
    edges = np.array([0.5, 1, 2, 3, 4.5, 6, 8, 10, 13])
    middle = np.sqrt(edges[1:] * edges[:-1]) + 0.1
    pairs = list(zip(edges[:-1], edges[1:], strict=True))
    ages = [cold & (near["age"] >= low) & (near["age"] < high) for low, high in pairs]
    # The speed of stars of no dispersion falls by its square over this.
    drift = np.polyfit(
        [near["v"][0][rows].var() for rows in ages],
        [near["v"][1][rows].mean() for rows in ages],
        1,
    )[0]
    figures["σ_R² over asymmetric drift, km/s (Dehnen & Binney 1998)"] = (
        PREDICTION,
        -1 / drift,
        80,
    )
    for name, speed, known in (
        ("R", near["v"][0], 0.251),
        ("z", near["v_z"], 0.441),
    ):
        spread = [speed[rows].std() for rows in ages]
        power = np.polyfit(np.log(middle), np.log(spread), 1)[0]
        figures[f"power of age in σ_{name} (Sharma 2021)"] = INPUT, power, known
    rows = (stars["component"] == THIN) & (stars["age"] < 4)
    rows &= (stars["radius"] > 4) & (stars["radius"] < 10)
    slope = np.polyfit(stars["radius"][rows], stars["iron"][rows], 1)[0]
    figures["gradient of [Fe/H], dex/kpc (Anders 2017)"] = INPUT, slope, -0.058
    for name, thick in (("low", False), ("high", True)):
        for iron in (-0.5, 0.0):
            near_iron = np.abs(near["iron"] - iron) < 0.1
            own = near_iron & ((near["component"] == THICK) == thick)
            beside = (np.abs(real["iron"] - iron) < 0.1) & (real["thick"] == thick)
            figures[f"[O/Fe], {name} sequence at [Fe/H] = {iron:.1f} (Bensby 2014)"] = (
                INPUT,
                np.median(near["oxygen"][own]),
                np.median(real["oxygen"][beside]),
            )
    return _rows(figures)


def _scale_of_dispersion(stars):
    """Scale length over which the vertical dispersion of thin disk stars falls."""
    rows = (stars["component"] == THIN) & (np.abs(stars["age"] - 5) < 1.5)
    edges = np.arange(5, 12.1, 1)
    spread = [
        stars["v_z"][
            rows & (stars["radius"] >= low) & (stars["radius"] < low + 1)
        ].std()
        for low in edges[:-1]
    ]
    return -1 / np.polyfit(edges[:-1] + 0.5, np.log(spread), 1)[0]


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
    n_galaxies, n_stars = counts + [400, 20_000][len(counts) :]
    torch.set_num_threads(1)
    # Of one processor, whatever else the machine does.
    start = time.process_time()
    made = star_tensors(n_galaxies, n_stars, seed=SEED)
    rate = n_galaxies * n_stars / (time.process_time() - start)
    found = measure(made)
    (speeds, stars), real = analogues(), bensby()
    far, fastest = (
        torch.linalg.vector_norm(made["stars"][..., i : i + 3], dim=-1) for i in (0, 3)
    )
    fast = found["speed"] > np.log10(120)
    figures = {
        "population": STAR_TABLE_POPULATION,
        "galaxies": n_galaxies,
        "stars": n_stars,
        "stars_per_second": rate,
        "relations": relations(found),
        "structure": structure(made, found),
        "milky_way": milky_way(speeds, stars, real),
        "fastest_over_escape_speed": float(
            (fastest / escape_speed(made["truth"], far)).max()
        ),
        "furthest_over_extent": float((far / made["truth"]["extent"][:, None]).max()),
        "thick_to_thin": {
            "slow": float(10 ** found["thick"][~fast].median()),
            "fast": float(10 ** found["thick"][fast].median()),
        },
        "rotation_to_dispersion_dwarfs": float(
            found["order"][found["mass"] < 8.5].median()
        ),
        "unexplained_size": unexplained(made, found),
    }
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")
            continue
        for key, row in value.items():
            print(f"{key:58s} {row}")
    plot(found, stars, real)
    write_figures("star_mocks", figures)


if __name__ == "__main__":
    main()
