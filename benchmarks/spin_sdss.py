# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Spins of galaxies on observed SDSS images, beside those of SAMI and ATLAS3D.

    python benchmarks/spin_sdss.py [--half development]

There are no measured spins of these galaxies, but types by Galaxy Zoo. What can be
tested is whether their spins are distributed as measured ones, by class and by
ellipticity, and whether they tell spirals from E and S0 as well as measured spins do,
and no better: a predictor that does has learned types. Measured spins are corrected
for seeing by `galml.stellar_kinematics.correct_seeing`. Half of the galaxies, by a hash
of their names, are for development; the other half is reported.
"""

import argparse

import numpy as np
from common import ROOT, galaxy_zoo, half_of, write_figures
from matplotlib.figure import Figure
from spin_population import SEEING, atlas3d, sami

import galml
from galml.core.metrics import area_under_curve
from galml.core.weights import load_model
from galml.stellar_kinematics import correct_seeing
from galml.stellar_spin.plots import plot_gallery

TYPES = {0: "early type", 1: "spiral", 2: "spiral", 3: "edge-on"}
#: Sersic indices by class of SAMI's galaxies (E, S0, early and late spirals): their
#: table has none.
SERSIC = np.array([4.0, 3.0, 2.0, 1.5])
#: Ellipticity from which measured spirals stand for edge-on disks, and largest distance
#: of the ellipticities of a pair.
EDGE_ON, NEAR = 0.65, 0.01
#: SAMI's type of S0/Sa.
UNDECIDED = 1.5
#: r magnitude of the brighter galaxies of SAMI.
BRIGHT = 15.5
ELLIPTICITIES = (0, 0.2, 0.4, 0.6, 0.95)
FEWEST = 15
EXTREMES = 12
IMAGE = ROOT / "docs" / "images" / "spin_sdss.png"


def load(half):
    """Images with y upwards, their types and their names."""
    names, classes, pictures = galaxy_zoo(TYPES)
    rows = np.array([half_of(name) == half for name in names])
    kinds = np.array([TYPES[each] for each in classes[rows]])
    return list(pictures[rows, ::-1].copy()), kinds, names[rows].tolist()


def measured():
    """Spin, ellipticity and class of SAMI's galaxies, without seeing; of ATLAS3D's."""
    table = sami()
    spin, _, _ = correct_seeing(
        table["spin"],
        psf_fwhm=SEEING,
        r_eff=table["r_eff"],
        sersic_index=SERSIC[table["class"]],
    )
    kind = np.where(table["class"] < 2, "early type", "spiral")
    first = {"spin": spin, "ellipticity": table["ellipticity"], "kind": kind}
    first["bright"] = table["magnitude"] < BRIGHT
    # S0/Sa are neither.
    known = np.isfinite(spin) & (table["type"] != UNDECIDED)
    table = atlas3d()
    second = {key: table[key] for key in ("spin", "ellipticity")}
    second["kind"] = np.full(len(table["spin"]), "early type")
    return {key: value[known] for key, value in first.items()}, second


def spread(values):
    """Give number of values, and their quantiles."""
    levels = (0.16, 0.5, 0.84)
    return {
        "count": len(values),
        "quantiles": [round(float(q), 3) for q in np.quantile(values, levels)],
    }


def distributions(sample, key="spin"):
    """Quantiles of the spin by class, and by class and ellipticity."""
    edge_on = (sample["kind"] == "spiral") & (sample["ellipticity"] > EDGE_ON)
    classes = {
        "early type": sample["kind"] == "early type",
        "spiral": sample["kind"] == "spiral",
        "edge-on": (sample["kind"] == "edge-on") if "name" in sample else edge_on,
    }
    figures = {}
    for kind, rows in classes.items():
        if not rows.any():
            continue
        figures[kind] = spread(sample[key][rows])
        bins = zip(ELLIPTICITIES[:-1], ELLIPTICITIES[1:], strict=True)
        for low, high in bins if kind != "edge-on" else ():
            part = (
                rows & (sample["ellipticity"] >= low) & (sample["ellipticity"] < high)
            )
            if part.sum() >= FEWEST:
                figures[f"{kind}, {low:g} - {high:g}"] = spread(sample[key][part])
    return figures


def areas(sample):
    """How often disks turn faster than early types: all, and at equal ellipticity."""
    disks = sample["kind"] != "early type"
    spin, shape = sample["spin"], sample["ellipticity"]
    first, second = np.flatnonzero(disks), np.flatnonzero(~disks)
    alike = np.abs(shape[first, None] - shape[second]) < NEAR
    wins = spin[first, None] > spin[second]
    return {
        "area": area_under_curve(spin, disks),
        "area_equal_ellipticity": float(wins[alike].mean()),
        "galaxies": [int(disks.sum()), int((~disks).sum())],
    }


def plot(images, table, kinds):
    """Fastest and slowest of each type."""
    rows = []
    for kind in dict.fromkeys(TYPES.values()):
        members = np.flatnonzero((kinds == kind) & np.isfinite(table["spin"]))
        order = members[np.argsort(table["spin"][members])]
        rows += [*order[: EXTREMES // 2], *order[-EXTREMES // 2 :]]
    chosen = [images[i] for i in rows]
    figure = plot_gallery(chosen, table[rows], columns=EXTREMES, figure=Figure())
    figure.suptitle("slowest and fastest early types, spirals and edge-on disks")
    figure.savefig(IMAGE, dpi=80)
    print(f"written: {IMAGE.relative_to(ROOT)}")


def predicted(images, kinds, names, **options):
    """Spins of the images, with one draw from each distribution."""
    table = galml.spin(images, n_samples=1, seed=0, progress=True, **options)
    known = np.isfinite(table["spin"])
    sample = {key: np.asarray(table[key])[known] for key in ("spin", "ellipticity")}
    sample["drawn"] = np.asarray(table["spin_samples"])[known, 0]
    sample["kind"] = kinds[known]
    sample["name"] = np.array(names)[known]
    return table, sample


def summary(sample):
    """Figures of a sample of predictions."""
    return {
        **areas(sample),
        "distributions": distributions(sample),
        "distributions_drawn": distributions(sample, "drawn"),
    }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--half", default="reporting")
    args = parser.parse_args()
    model = load_model(args.model, "spin")
    images, kinds, names = load(args.half)
    table, sample = predicted(images, kinds, names, model=model)
    first, second = measured()
    bright = {key: value[first["bright"]] for key, value in first.items()}
    # Shares of this sample; of early types, those of ellipticals among SAMI's.
    early = float(np.mean(kinds == "early type"))
    elliptical = early * float(np.mean(sami()["class"][sami()["class"] < 2] == 0))
    prior = {
        "elliptical": elliptical,
        "lenticular": early - elliptical,
        "spiral": 1 - early,
        "dwarf": 0.0,
    }
    _, weighted = predicted(images, kinds, names, model=model, prior=prior)
    figures = {
        "half": args.half,
        "galaxies": len(sample["spin"]),
        "predicted": summary(sample),
        "predicted_with_prior": {"prior": prior, **summary(weighted)},
        "sami": {**areas(first), "distributions": distributions(first)},
        "sami_bright": areas(bright),
        "atlas3d": distributions(second),
        "error": float(np.nanmedian(table["spin_err"])),
        "novelty": spread(np.asarray(table["novelty"])[np.isfinite(table["novelty"])]),
        "model": model.sha256,
    }
    for key, value in figures.items():
        print(f"{key}: {value}")
    if args.half == "reporting":
        plot(images, table, kinds)
        write_figures("spin_sdss", figures)


if __name__ == "__main__":
    main()
