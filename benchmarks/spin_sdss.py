# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Spins of galaxies on observed SDSS images, beside their types from Galaxy Zoo.

    python benchmarks/spin_sdss.py

There are no measured spins of these galaxies. What can be tested is whether spirals and
edge-on disks turn faster than ellipticals, also in pairs of the same color and
ellipticity, better than color and ellipticity alone could tell; and whether the
ellipticals have spins as those of ATLAS3D have.
"""

import argparse
import io
import tarfile

import numpy as np
from astropy.table import QTable
from common import ROOT, shared_data, write_figures
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import KDTree
from scipy.stats import ks_2samp
from spin_population import atlas3d

import galml
from galml.core.inputs import Failure
from galml.core.weights import load_model
from galml.imaging import find_problems, read_images
from galml.stellar_spin.metrics import area_under_curve
from galml.stellar_spin.plots import plot_gallery
from galml.stellar_spin.preparation import INPUT, prepare

TYPES = {0: "elliptical", 1: "spiral", 2: "spiral", 3: "edge-on"}
#: How far the members of a pair may be apart, in standard deviations.
NEAR = 0.15
EXTREMES = 12
IMAGE = ROOT / "docs" / "images" / "spin_sdss.png"


def load(count=None):
    """Images with y upwards, their types and their names."""
    folder = shared_data("gz1_sdss")
    labels = QTable.read(folder / "labels.csv", format="ascii.csv")
    labels = labels[[int(kind) in TYPES for kind in labels["class"]]][:count]
    wanted = {f"{row['objid']}": int(row["class"]) for row in labels}
    images, kinds, names = [], [], []
    with tarfile.open(folder / "images.tar") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2].removesuffix(".jpg")
            if name in wanted:
                with Image.open(
                    io.BytesIO(archive.extractfile(member).read())
                ) as image:
                    images.append(np.asarray(image.convert("RGB"))[::-1].copy())
                kinds.append(TYPES[wanted[name]])
                names.append(name)
    return images, np.array(kinds), names


def blueness_and_ellipticity(images):
    """Color g - r inside the half-light radius, and ellipticity, without learning."""
    colors, shapes = np.full((2, len(images)), np.nan)
    places = [INPUT.scalars.index(name) for name in ("blue_color", "axis_ratio")]
    for row, member in enumerate(read_images(images).members):
        if not isinstance(member, Failure) and find_problems(member)[0] is None:
            color, ratio = prepare(member).scalars[0, places].tolist()
            colors[row], shapes[row] = color, 1 - ratio
    return colors, shapes


def standard(values):
    """Values in standard deviations from their mean."""
    return (values - np.nanmean(values)) / np.nanstd(values)


def matched_pairs(features, disks):
    """Disk and elliptical of each pair that is close in all features."""
    known = np.isfinite(features).all(1)
    first, second = np.flatnonzero(disks & known), np.flatnonzero(~disks & known)
    near, place = KDTree(features[second]).query(features[first])
    return first[near < NEAR], second[place[near < NEAR]]


def paired_area(spin, first, second):
    """Share of pairs in which the disk turns faster."""
    difference = spin[first] - spin[second]
    return float(np.mean(difference > 0) + np.mean(difference == 0) / 2)


def plot(images, table, kinds):
    """Fastest and slowest of each type."""
    rows = []
    for kind in dict.fromkeys(TYPES.values()):
        members = np.flatnonzero((kinds == kind) & np.isfinite(table["spin"]))
        order = members[np.argsort(table["spin"][members])]
        rows += [*order[: EXTREMES // 2], *order[-EXTREMES // 2 :]]
    chosen = [images[i] for i in rows]
    figure = plot_gallery(chosen, table[rows], columns=EXTREMES, figure=Figure())
    figure.suptitle("slowest and fastest ellipticals, spirals and edge-on disks")
    figure.savefig(IMAGE, dpi=80)
    print(f"written: {IMAGE.relative_to(ROOT)}")


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--count", type=int)
    args = parser.parse_args()
    model = load_model(args.model, "spin")
    images, kinds, names = load(args.count)
    table = galml.spin(images, model=model, progress=True)
    table["name"], spin = names, np.asarray(table["spin"])
    disks = kinds != "elliptical"
    color, shape = blueness_and_ellipticity(images)
    index = standard(shape) - standard(color)
    known = np.isfinite(index) & np.isfinite(spin)
    features = np.stack([standard(color), standard(shape)], 1)
    features[~known] = np.nan
    first, second = matched_pairs(features, disks)
    ellipticals = spin[known & ~disks]
    observed = atlas3d()
    figures = {
        "galaxies": int(known.sum()),
        "auc_spin": area_under_curve(spin[known], disks[known]),
        "auc_index": area_under_curve(index[known], disks[known]),
        "auc_matched_pairs": paired_area(spin, first, second),
        "pairs": len(first),
        "median": {k: float(np.nanmedian(spin[kinds == k])) for k in np.unique(kinds)},
        "error": float(np.nanmedian(table["spin_err"])),
        "model": model.sha256,
    }
    own = observed["spin"][observed["class"] == 0]
    test = ks_2samp(ellipticals, own)
    figures["ellipticals_and_atlas3d"] = {
        "quartiles": np.quantile(ellipticals, (0.25, 0.5, 0.75)).tolist(),
        "quartiles_atlas3d": np.quantile(own, (0.25, 0.5, 0.75)).tolist(),
        "ks": float(test.statistic),
    }
    for key, value in figures.items():
        print(f"{key}: {value}")
    plot(images, table, kinds)
    write_figures("spin_sdss", figures)


if __name__ == "__main__":
    main()
