# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Spin and ellipticity of the mock galaxies against ATLAS3D and SAMI.

Run ``python benchmarks/spin_population.py [GALAXIES]``. Each survey is compared in its
own way of measuring. ATLAS3D (Emsellem et al. 2011, MNRAS 414, 888): early types, R is
the distance from the center, hardly any beam, and where the field is smaller than the
half-light ellipse, only the field. SAMI (van de Sande et al. 2017, ApJ 835, 104; third
data release, Croom et al. 2021, MNRAS 505, 991): all types, R is the semi-major axis
of the ellipse through a spaxel, seen through the seeing. Each mock has the class,
the radius on the sky and the field of a galaxy of the table, in SAMI also about its
dispersion, since those whose dispersion is too low were not measured; and noise.
"""

import sys

import numpy as np
import torch
from astropy.table import Table
from common import ROOT, shared_data, write_figures
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score

from galml.mocks import (
    STAR_POPULATION,
    build_stars,
    draw_stars,
    half_light_ellipse,
    random_orientation,
)
from galml.mocks.dynamics import GRAVITY
from galml.mocks.ifu import aperture_maps
from galml.mocks.light import luminosity
from galml.mocks.star_recipe import SHARES
from galml.physics import generator_for, lambda_sums

SEED = 30_001
BATCH = 50
PARTICLES = 16_384
#: Kinds of mocks that stand for E, S0, early and late spirals of the tables.
CLASSES = ((0, 1), (2,), (3,), (4, 5))
#: Mean FWHM of SAMI's seeing, in arcsec.
SEEING = 2.06
#: Typical errors of velocity and dispersion of a spaxel or bin, in km/s.
ERRORS = {"ATLAS3D": (5.0, 5.0), "SAMI": (10.0, 15.0)}
#: SAMI uses spaxels with dispersions above half the instrument's FWHM, in km/s. It
#: needs half of the ellipse.
LOWEST_DISPERSION, FILLED = 35.0, 0.5
#: Galaxies of which that is taken whose dispersion is nearest to a given one.
CANDIDATES = 8
IMAGE = ROOT / "docs" / "images" / "spin_population.png"


def atlas3d():
    """Ellipticity, spin, field in half-light radii and class of ATLAS3D's galaxies."""
    folder = shared_data("ifu_spin_tables")
    path = folder / "Emsellem2011_Atlas3D_Paper3_TableB1.txt"
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    lines = [line for line in lines if not line[0].startswith("#")]
    names = [line[0] for line in lines]
    field, ellipticity, spin = (
        np.array([float(line[column]) for line in lines]) for column in (1, 2, 7)
    )
    path = folder / "Cappellari2011a_Atlas3D_Paper1_Table3.txt"
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    stage = {row[0].strip(): float(row[10]) for row in rows if len(row) > 10}
    kind = np.array([stage[name] >= -3.5 for name in names]).astype(int)
    return {"ellipticity": ellipticity, "spin": spin, "field": field, "class": kind}


def sami():
    """Measurements of SAMI's galaxies: half-light radii in arcsec, magnitudes in r."""
    path = shared_data("ifu_spin_tables") / "sami_dr3_stellar_kinematics.csv"
    table = Table.read(path).filled(np.nan)
    table = table[(table["type"] >= 0) & np.isfinite(table["lambdar_re_mge"])]
    # Types 0 and 0.5 are E and E/S0, 1 and 1.5 S0 and S0/Sa, 2 is Sa to Sb.
    kind = np.digitize(table["type"], (0.75, 1.75, 2.25))
    return {
        "ellipticity": np.array(table["epsmge_re"]),
        "spin": np.array(table["lambdar_re_mge"]),
        "r_eff": np.array(table["remge"]),
        "dispersion": np.array(table["sigma_re"]),
        "magnitude": np.array(table["mmge"]),
        "type": np.array(table["type"]),
        "class": kind,
    }


def mocks(table, n, generator):
    """Yield batches of mocks of a table's classes, turned, with their light in r.

    Each mock comes with the row of a galaxy in the table, of the same class.
    """
    for _ in range(n // BATCH):
        rows = torch.randint(len(table["spin"]), (BATCH,), generator=generator).numpy()
        odds = torch.zeros(len(CLASSES), len(SHARES))
        for kind, types in enumerate(CLASSES):
            odds[kind, list(types)] = torch.tensor(SHARES)[list(types)]
        odds = odds[table["class"][rows]]
        types = torch.multinomial(odds, 1, generator=generator)[:, 0]
        parameters = drawn_alike(table, rows, types, generator)
        galaxy = build_stars(parameters, PARTICLES, generator, n_gas=0)
        galaxy = galaxy.rotated(random_orientation(BATCH, generator))
        light = luminosity(galaxy.age, galaxy.metallicity, ("r",))[..., 0]
        yield rows, types, galaxy, light * galaxy.mass


def drawn_alike(table, rows, types, generator):
    """Draw galaxies of given types, with about the dispersions that a table has.

    Their mass of stars and halo and half-mass radius give the dispersion (Cappellari
    et al. 2006, MNRAS 366, 1126).
    """
    if "dispersion" not in table:
        return draw_stars(BATCH, generator, types)
    many = draw_stars(
        CANDIDATES * BATCH, generator, types.repeat_interleave(CANDIDATES)
    )
    mass = many["stellar_mass"] / (1 - many["dark_fraction"])
    squared = GRAVITY * mass / (5 * many["size"])
    wanted = torch.from_numpy(table["dispersion"][rows]).float()
    wanted = torch.where(wanted > 0, wanted, wanted.nanmedian())
    distance = (squared.reshape(BATCH, -1).log() - 2 * wanted.log()[:, None]).abs()
    chosen = CANDIDATES * torch.arange(BATCH) + distance.argmin(1)
    return {key: value[chosen] for key, value in many.items()}


def observe(name, table, n, generator):
    """Measure mocks as a survey does."""
    columns = []
    for rows, types, galaxy, light in mocks(table, n, generator):
        shape = half_light_ellipse(galaxy, light)
        limit, beam = shape.r_eff, None
        if name == "SAMI":
            beam = SEEING / torch.from_numpy(table["r_eff"][rows]).float()
        else:
            limit = limit * torch.from_numpy(table["field"][rows]).float().clamp(max=1)
        flux, velocity, dispersion, x, y = aperture_maps(galaxy, light, shape, beam)
        noise = torch.randn(2, *velocity.shape, generator=generator)
        velocity = velocity + ERRORS[name][0] * noise[0]
        dispersion = (dispersion + ERRORS[name][1] * noise[1]).clamp_min(0)
        radius = shape.radius(x, y)
        inside = (radius <= limit[:, None, None]) & torch.isfinite(velocity)
        whole = inside.sum((1, 2))
        if name == "SAMI":
            inside &= dispersion > LOWEST_DISPERSION
        measured = inside.sum((1, 2)) >= FILLED * whole
        weight = radius if name == "SAMI" else torch.hypot(x, y)
        spin, _ = lambda_sums(flux, velocity, dispersion, weight, inside, (1, 2))
        kind = torch.from_numpy(table["class"][rows])
        column = torch.stack([shape.ellipticity, spin, kind, types])
        columns.append(column[:, measured])
    names = ("ellipticity", "spin", "class", "type")
    sample = dict(zip(names, torch.cat(columns, 1).numpy(), strict=True))
    return balance(sample, table)


def balance(sample, table):
    """Leave mocks out, so that the classes have the shares they have in a table."""
    kinds, counts = np.unique(table["class"], return_counts=True)
    found = np.array([(sample["class"] == kind).sum() for kind in kinds])
    keep = (counts * (found / counts).min()).astype(int)
    rows = [
        np.flatnonzero(sample["class"] == kind)[:count]
        for kind, count in zip(kinds, keep, strict=True)
    ]
    rows = np.concatenate(rows)
    return {key: value[rows] for key, value in sample.items()}


def part(sample, *classes):
    """Galaxies of some classes."""
    rows = np.isin(sample["class"], classes)
    return {key: value[rows] for key, value in sample.items()}


def compare(real, mock):
    """Two-sample statistics of real and mock galaxies."""
    pairs = [np.stack([s["ellipticity"], s["spin"]], 1) for s in (real, mock)]
    generator = np.random.default_rng(0)
    least = min(map(len, pairs))
    pairs = [s[generator.permutation(len(s))[:least]] for s in pairs]
    across, within, among = (
        cdist(pairs[i], pairs[j]).mean() for i, j in ((0, 1), (0, 0), (1, 1))
    )
    score = cross_val_score(
        HistGradientBoostingClassifier(max_depth=3, max_iter=60, random_state=0),
        np.concatenate(pairs),
        np.repeat([0, 1], least),
        cv=5,
    )
    figures = {"galaxies": len(real["spin"]), "mocks": len(mock["spin"])}
    for name in ("spin", "ellipticity"):
        figures[f"ks_{name}"] = float(ks_2samp(real[name], mock[name]).statistic)
        for label, sample in (("real", real), ("mock", mock)):
            quantiles = np.quantile(sample[name], (0.1, 0.5, 0.9))
            figures[f"quantiles_{name}_{label}"] = [
                round(float(q), 3) for q in quantiles
            ]
    figures["energy_distance"] = float(np.sqrt(max(2 * across - within - among, 0)))
    figures["c2st"] = float(score.mean())
    return figures


def plot(samples):
    """Plane of spin and ellipticity of each sample, real above mock."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, len(samples), sharex=True, sharey=True)
    curve = np.linspace(0, 0.95, 100)
    for column, (name, (real, mock)) in zip(panels.T, samples.items(), strict=True):
        generator = np.random.default_rng(0)
        rows = generator.permutation(len(mock["spin"]))[: len(real["spin"])]
        shown = {key: value[rows] for key, value in mock.items()}
        for axes, sample, label in zip(
            column, (real, shown), (name, f"mocks {STAR_POPULATION}"), strict=True
        ):
            axes.scatter(
                sample["ellipticity"], sample["spin"], s=7, lw=0, alpha=0.5,
                color="0.2" if sample is real else "tab:orange",
            )  # fmt: skip
            axes.plot(curve, 0.31 * np.sqrt(curve), color="tab:blue", lw=1)
            axes.set_title(f"{label}: {len(sample['spin'])}", fontsize=9)
            axes.set(xlim=(0, 0.95), ylim=(0, 0.95))
        column[1].set_xlabel("ellipticity")
    for axes in panels[:, 0]:
        axes.set_ylabel("λ_R inside 1 R_e")
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE, dpi=110)
    print(f"written: {IMAGE.relative_to(ROOT)}")


def main():
    """Draw, compare, plot and print."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    torch.set_num_threads(1)
    generator = generator_for(SEED, "spin population")
    pairs = {
        name: (table, observe(name, table, n, generator))
        for name, table in (("ATLAS3D", atlas3d()), ("SAMI", sami()))
    }
    samples = {
        "ATLAS3D": pairs["ATLAS3D"],
        "SAMI": pairs["SAMI"],
        "SAMI early types": tuple(part(s, 0, 1) for s in pairs["SAMI"]),
        "SAMI spirals": tuple(part(s, 2, 3) for s in pairs["SAMI"]),
    }
    plot(samples)
    figures = {name: compare(*pair) for name, pair in samples.items()}
    figures["population"] = STAR_POPULATION
    for name, value in figures.items():
        print(f"{name}: {value}")
    write_figures("spin_population", figures)


if __name__ == "__main__":
    main()
