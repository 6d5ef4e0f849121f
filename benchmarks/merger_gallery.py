# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The gallery of mergers in the guide to the mocks: encounters as they go on.

    python benchmarks/merger_gallery.py

draws ``docs/images/merger_gallery.jpg``: a row for each encounter, as LSST would see
it at redshift 0.03 without noise, and a row of nearer galaxies that only look like
mergers.
"""

import matplotlib.pyplot as plt
import torch
from astropy.visualization import make_lupton_rgb
from common import ROOT

from galml.mocks import (
    IMAGING_SURVEYS,
    build_mergers,
    build_projections,
    build_stars,
    draw_clumpy,
    draw_mergers,
    draw_stars,
    observe_light,
    random_orientation,
    starlight,
)
from galml.physics import generator_for

BANDS, N_PARTICLES, N_PIXELS, BINNING = ("g", "r", "i"), 30_000, 128, 6
#: Of the encounters, of clumpy disks, and of chance projections.
REDSHIFTS = (0.03, 0.008, 0.025)
SURVEY = next(survey for survey in IMAGING_SURVEYS if survey.name == "LSST")
#: Fractions of the time from first passage to coalescence, and Gyr after that.
BEFORE, AFTER = (0.02, 0.25, 0.6, 0.95), (0.05, 0.3, 0.8, 1.4)
#: What the rows are: galaxies, mass ratio, inclinations of the first two disks, and the
#: type of the first galaxy.
ROWS = {
    "1:1, both prograde": (2, 1.0, 15, 25, 4),
    "1:1, prograde and retrograde": (2, 1.0, 30, 160, 3),
    "1:3, inclined": (2, 0.33, 60, 70, 4),
    "1:8 onto an elliptical": (2, 0.125, 90, 40, 0),
    "three galaxies": (3, 0.6, 40, 75, 3),
}


def encounter(name, index):
    """Build the snapshots of one row."""
    n_galaxies, ratio, first, second, kind = ROWS[name]
    generator = generator_for(7, "merger gallery", index)
    # Of many, one that is like what the row shows.
    p = draw_mergers(16, generator, n_galaxies=n_galaxies)
    away = (p["mass_ratio"][:, 1] / ratio).log().abs()
    for i, angle in enumerate((first, second)):
        away = away + (p["inclination"][:, i] - angle).abs() / 90
    away = away + (p["type"][:, 0] != kind) + (p["stellar_mass"][:, 0] < 2e10)
    away = away + 2 * (p["coalescence"] - p["first_passage"] < 0.6)
    p = {key: value[away.argmin()][None] for key, value in p.items()}
    first, last = p["first_passage"], p["coalescence"]
    times = [first + part * (last - first) for part in BEFORE]
    p["time"] = torch.stack(times + [last + after for after in AFTER], 1)
    galaxy, truth = build_mergers(p, N_PARTICLES, generator)
    turn = random_orientation(1, generator).expand(len(galaxy), 3, 3)
    # Nearly face-on to the orbit, where most is seen.
    tilt = turn if index % 2 else torch.eye(3).expand(len(galaxy), 3, 3)
    return galaxy.rotated(tilt), truth


def lookalikes():
    """Build what is no merger: clumpy disks, chance projections, a spiral."""
    generator = generator_for(7, "merger gallery", len(ROWS))
    clumpy = build_stars(draw_clumpy(4, generator), N_PARTICLES, generator, n_gas=0)
    clumpy = clumpy.rotated(random_orientation(4, generator))
    pairs = build_projections(draw_stars(8, generator), N_PARTICLES, generator)
    return clumpy, pairs


def pictures(galaxy, generator, redshift):
    """Take color pictures."""
    redshift = torch.full((len(galaxy),), redshift)
    light = starlight(galaxy, BANDS, redshift)
    images = observe_light(
        galaxy,
        light,
        SURVEY,
        redshift,
        N_PIXELS,
        generator,
        bands=BANDS,
        binning=BINNING,
        noisy=False,
    )
    data = images.data.numpy() / BINNING**2
    return [
        make_lupton_rgb(i, r, 1.3 * g, stretch=30, Q=12, minimum=0)[::-1]
        for g, r, i in data
    ]


def main():
    """Draw the gallery."""
    generator = generator_for(7, "merger gallery images", 0)
    rows = []
    for index, name in enumerate(ROWS):
        galaxy, truth = encounter(name, index)
        since = truth.time_since_coalescence.tolist()
        labels = [f"{time:+.2f} Gyr" for time in since]
        labels[0] = f"{name}\n{labels[0]}"
        rows.append((pictures(galaxy, generator, REDSHIFTS[0]), labels))
    clumpy, pairs = lookalikes()
    shown = pictures(clumpy, generator, REDSHIFTS[1])
    shown += pictures(pairs, generator, REDSHIFTS[2])
    names = ["no mergers:\nclumpy disk"] + 3 * ["clumpy disk"] + 4 * ["chance"]
    rows.append((shown, names))
    figure, axes = plt.subplots(len(rows), 8, figsize=(10, 1.28 * len(rows)))
    for line, (images, labels) in zip(axes, rows, strict=True):
        for axis, image, label in zip(line, images, labels, strict=True):
            axis.imshow(image, interpolation="bilinear")
            axis.text(3, 4, label, color="white", fontsize=5, va="top")
            axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    path = ROOT / "docs" / "images" / "merger_gallery.jpg"
    figure.savefig(path, dpi=130, pil_kwargs={"quality": 82})
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
