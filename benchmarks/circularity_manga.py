# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Observed MaNGA maps of stars and gas, against what experts said of them.

Run ``python benchmarks/circularity_manga.py``. Quality and position angles are those
of the catalog of Duckworth et al. (2020, MNRAS 492, 1869), which no training has
seen. Beside the default model stand a plane fitted by least squares, the classical ring
fit alone, and the published weights.
"""

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable, Table
from common import ROOT, shared_data, write_figures
from matplotlib.figure import Figure
from scipy.stats import circmean
from sklearn.metrics import roc_auc_score

import galml
from galml.core.domain import find_domain
from galml.core.weights import load_model
from galml.gas_kinematics import published
from galml.gas_kinematics.metrics import angle_error, coverage, scatter68

TRACERS = {
    "stellar": ("stellar_pa", "stel_qual"),
    "H alpha": ("halpha_pa", "halpha_qual"),
}
UNUSABLE, MESSY, CLEAN = 0, 1, 2
#: What is known of the maps of each tracer: their center, the PSF of 2.5 arcsec in
#: pixels of half an arcsec, and what is seen.
KNOWN = {
    tracer: {"center": (40, 40), "beam": 5 * u.pix, "tracer": seen}
    for tracer, seen in (("stellar", "stars"), ("H alpha", "gas"))
}
MISALIGNED = 30.0
IMAGE = ROOT / "docs" / "images" / "manga.png"


def load():
    """Give the maps (2, n, y, x) in km/s, and the labels of the same galaxies."""
    folder = shared_data("manga_kinematics")
    labels = Table.read(folder / "labels.csv")
    with np.load(folder / "velocity_maps.npz") as file:
        rows = {str(name): row for row, name in enumerate(file["plateifu"])}
        velocity = file["vel"]
    labels = labels[[str(name) in rows for name in labels["plateifu"]]]
    velocity = velocity[[rows[str(name)] for name in labels["plateifu"]]]
    return velocity.swapaxes(0, 1).astype(np.float32), labels


def truths(labels, tracer):
    """Position angles, counter-clockwise from +y, and quality; NaN, -99 if missing."""
    angle, quality = (np.ma.filled(labels[name], -99) for name in TRACERS[tracer])
    return np.where(angle < 0, np.nan, -angle % 360), np.asarray(quality, dtype=int)


def ring_fit(velocity):
    """Share of the variance explained, and position angle, of the classical fit."""
    domain = find_domain(load_model("default", "circularity"))
    members = list(domain.read(velocity * u.km / u.s, **KNOWN["H alpha"]).members)
    prepared = domain.prepare(members)
    unexplained = domain.spec.scalars.index("log_unexplained")
    return -prepared.scalars[:, unexplained].numpy(), prepared.angle.numpy()


def plane(velocity):
    """R squared, and the direction of the gradient, of a plane."""
    y, x = np.indices(velocity.shape[1:]) - 40.0
    score, angle = np.zeros((2, len(velocity)))
    for row, values in enumerate(velocity.astype(float)):
        seen = np.isfinite(values)
        if seen.sum() < 4:
            continue
        terms = np.stack([np.ones(seen.sum()), x[seen], y[seen]], axis=1)
        fit, *_ = np.linalg.lstsq(terms, values[seen], rcond=None)
        residual = np.var(values[seen] - terms @ fit)
        score[row] = 1 - residual / max(np.var(values[seen]), 1e-9)
        angle[row] = np.degrees(np.arctan2(-fit[1], fit[2])) % 360
    return score, angle


def latents(velocity, truth, clean):
    """Latent radius and angle of the published weights, turned as suits the labels."""
    file = shared_data("merlin_alma") / "CAE_Epoch_300.pt"
    model = galml.import_weights(file, "merlin")
    images = published.prepare(crop(values) for values in velocity).image
    with torch.inference_mode():
        parts = images.split(256)
        found = torch.cat([model.network.encode(part) for part in parts]).numpy()
    angle = published.latent_angle(found)
    tried = []
    for turned in (angle, -angle):
        turned = turned + circmean(angle_error(truth, turned)[clean], high=360)
        # The mean follows outliers, the median does not.
        tried.append(turned + np.median(angle_error(truth, turned)[clean]))
    best = min(tried, key=lambda angle: scatter68(angle_error(angle, truth)[clean]))
    return published.rho(found), best


def crop(values):
    """Cut a square around the footprint."""
    y, x = np.nonzero(np.isfinite(values))
    if not len(x):
        return values
    side = max(np.ptp(x), np.ptp(y)) + 1
    low = [int(c.min() + c.max() + 1 - side) // 2 for c in (y, x)]
    low = [min(max(start, 0), values.shape[0] - side) for start in low]
    return values[low[0] : low[0] + side, low[1] : low[1] + side]


def judge(score, angle, truth, quality, shown):
    """Figures of one method on one tracer."""
    # Some maps of the catalog show nothing; they are not judged by any method.
    judged = ((quality == UNUSABLE) | (quality == CLEAN)) & shown
    # A map without an answer counts as unusable.
    ranked = np.nan_to_num(score[judged], nan=-np.inf)
    ranked = np.maximum(ranked, np.finfo(np.float32).min)
    error = np.abs(angle_error(angle, truth))
    clean = error[(quality == CLEAN) & np.isfinite(error)]
    return {
        "auc": float(roc_auc_score(quality[judged] == CLEAN, ranked)),
        "clean_68": scatter68(clean),
        "clean_95": float(np.quantile(clean, 0.95)),
        "messy_68": scatter68(error[quality == MESSY]),
    }


def misalignment(tables, labels, clean):
    """Angle between gas and stars against that of the catalog."""
    turn = angle_error(*(table["position_angle"] for table in tables))
    turn, known = np.abs(turn)[clean], np.asarray(labels["pa_offset"])[clean]
    found, real = turn > MISALIGNED, known > MISALIGNED
    return {
        "galaxies": int(clean.sum()),
        "misaligned": int(real.sum()),
        "scatter_68": scatter68(turn - known),
        "recall": float(found[real].mean()),
        "precision": float(real[found].mean()),
    }


def plot(panels, tracer, truth, quality, angles, score):
    """Position angles of clean maps, and map quality by class."""
    clean = quality == CLEAN
    for name, angle in angles.items():
        error = angle_error(angle, truth)[clean]
        panels[0].hist(error, np.linspace(-12, 12, 97), histtype="step", label=name)
    panels[0].set(xlabel="position angle - catalog (°)", ylabel=f"clean, {tracer}")
    panels[0].legend(fontsize=8)
    for value, name in ((UNUSABLE, "unusable"), (MESSY, "messy"), (CLEAN, "clean")):
        shown = np.nan_to_num(score[quality == value])
        panels[1].hist(shown, np.linspace(0, 1, 41), histtype="step", label=name)
    panels[1].set(xlabel="map_quality", ylabel=f"maps, {tracer}", yscale="log")
    panels[1].margins(y=0.3)
    panels[1].legend(fontsize=8, loc="upper center", ncols=3)


def main():
    """Measure, print, plot."""
    velocity, labels = load()
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    rows, figures, tables = [], {"maps": len(labels)}, []
    both = np.ones(len(labels), dtype=bool)
    axes = figure.subplots(2, 2)
    for maps, tracer, panels in zip(velocity, TRACERS, axes, strict=True):
        truth, quality = truths(labels, tracer)
        clean = (quality == CLEAN) & np.isfinite(truth)
        both &= clean
        table = galml.circularity(maps * u.km / u.s, **KNOWN[tracer])
        score, angle = table["map_quality"], table["position_angle"].value
        answers = {
            "galml": (score, angle),
            "ring fit": ring_fit(maps),
            "plane": plane(maps),
            "published": latents(maps, truth, clean),
        }
        seen = np.isfinite(maps).sum((1, 2)) >= 6
        own = {k: judge(*a, truth, quality, seen) for k, a in answers.items()}
        rows += [(tracer, name, *row.values()) for name, row in own.items()]
        error = angle_error(angle, truth)[clean]
        sigma = table["position_angle_err"].value[clean]
        own["galml"]["position_angle_coverage"] = coverage(error, -sigma, sigma)
        own["galml"]["position_angle_err"] = float(np.nanmedian(sigma))
        print(f"{tracer}, galml: {own['galml']}")
        figures[tracer] = own
        tables.append(table)
        shown = {name: answers[name][1] for name in ("galml", "plane", "published")}
        plot(panels, tracer, truth, quality, shown, score)
    names = ("tracer", "method", "auc", "clean 68%", "clean 95%", "messy 68%")
    table = QTable(rows=rows, names=names)
    for name in names[2:]:
        table[name].info.format = ".3f"
    table.pprint(max_lines=-1, max_width=-1)
    figures["misalignment"] = misalignment(tables[::-1], labels, both)
    print(f"gas and stars: {figures['misalignment']}")
    figure.savefig(IMAGE, dpi=80)
    write_figures("circularity_manga", figures)


if __name__ == "__main__":
    main()
