# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Mergers and other galaxies on the real sky, which no training has seen.

    python benchmarks/mergers/real_sky.py [--skip-fit] [--page page.png]

(1) Interacting systems against galaxies that the Galaxy Zoo took for ellipticals,
spirals and edge-on disks (Lintott et al. 2011, MNRAS 410, 166), in one rendering, so
that neither scale, sharpness nor compression tells them apart. (2) Its mergers against
those, by the model as it is; beside it random forests on principal components, and the
model fine-tuned, both by what they were not trained on. (3) Galaxies by which the
Galaxy Zoo taught what a merger is. (4) Galaxies of Hubble and Webb, from their files.

Each set is divided by a hash of its names, and both halves are reported. The rendering
was chosen by the pictures of one half, as was the center of (1), whose other choice is
reported for that half. How (2) is fine-tuned is the best of seven trainings by the
development half.
"""

import argparse
import io
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.io import fits
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import QTable, vstack
from astropy.visualization import simple_norm
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter, label
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold

import galml
from galml.core.flags import decode_flags
from galml.core.metrics import area_under_curve
from galml.core.weights import load_model
from galml.cutouts.colors import SDSS_PIXEL
from galml.imaging.color_pictures import SIDE, petrosian_radius
from galml.imaging.rgb import linear_images
from galml.mergers.metrics import recall_at
from galml.physics.bands import AB_ZERO
from galml.physics.seeds import generator_for

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import (
    HALVES,
    galaxy_zoo,
    half_of,
    opened,
    shared_data,
    write_figures,
)

#: Classes of the Galaxy Zoo that are no mergers, and the one of mergers.
OTHERS, MERGERS = (0, 1, 2, 3), 5
#: Galaxies are in contact when both nuclei lie in one area brighter than this, in r
#: magnitudes per square arcsec, as the pictures show it.
ISOPHOTE = 24.5
#: FWHM in arcsec of what SDSS and Hubble see of a star.
SEEING, HUBBLE = 1.3, 0.1
#: Of the development half of the Galaxy Zoo's pictures: Petrosian radius (median) and
#: FWHM of stars (median of compact sources) in pixels, quality of the compression,
#: standard deviation of the dark sky (of 255), and the width in pixels, as a standard
#: deviation, of a Gaussian that makes noise as coarse as theirs.
RADIUS, SHARPNESS, QUALITY = 31.8, 7.0, 87
NOISE, GRAIN = 3.3, 2.0
#: Where pictures of galaxies in contact may have their middle, and where they have it.
CENTERS = ("pair", "primary")
CENTER = "pair"
DRAWS, PASSES, FOLDS, SEED = 1000, 50, 5, 1
COMPONENTS, TREES, BINNING = 40, 500, 3
#: How the model is fine-tuned: what people take for a merger is one at its first
#: passage, as most are.
TUNING = {"epochs": 8, "learning_rate": 5e-4, "calibration": 0.05}
#: Answers about mergers among the examples; and what is no galaxy.
ANSWERS = ("Merging", "Tidal debris", "Both")
ARTIFACT = "Star or artifact"
#: Most, and least, probable mergers on the page.
SHOWN = 8


def light_of(picture):
    """Light in the middle one of three bands, r for SDSS, in nJy per SDSS pixel."""
    return linear_images(np.moveaxis(picture, 2, 0)[None] / 255.0)[0, 1]


def system(picture, nuclei, fwhm, center=CENTER):
    """Find center and Petrosian radius of a galaxy, or of two in contact.

    Parameters
    ----------
    picture : `~numpy.ndarray`
        Bytes, shape (ny, nx, 3).
    nuclei : `~numpy.ndarray`
        Shape (k, 2): x and y of one or two galaxies, in pixels.
    fwhm : float
        Of a star, in pixels.
    center : {"pair", "primary"}
        Where the middle of two in contact is.

    Returns
    -------
    place : `~numpy.ndarray`
        Shape (2,), in pixels.
    radius : float
        In pixels, of what is joined to the first galaxy.
    contact : bool
        Whether the other one is.
    """
    light = light_of(picture)
    limit = AB_ZERO * 10 ** (-0.4 * ISOPHOTE) * SDSS_PIXEL.to_value(u.arcsec) ** 2
    areas = label(gaussian_filter(light, fwhm * gaussian_fwhm_to_sigma) > limit)[0]
    number = areas[tuple(nuclei.astype(int)[:, ::-1].T)]
    contact = len(nuclei) > 1 and 0 < number[0] == number[-1]
    joined = nuclei if contact and center == "pair" else nuclei[:1]
    place = joined.mean(0)
    if number[0]:
        light = np.where(areas == number[0], light, 0.0)
    images, centers = torch.from_numpy(light)[None], torch.from_numpy(place)[None]
    return place, float(petrosian_radius(images, centers)), contact


def rendered(picture, corner, width, blur=0.0, noise=0.0):
    """Cut a square out, bring it to 192 pixels, blur and compress it.

    Parameters
    ----------
    picture : `~numpy.ndarray`
        Bytes, shape (ny, nx, 3).
    corner : sequence of float
        x and y where the square begins, from the corner of the picture.
    width : float
        Of the square, in pixels.
    blur : float
        FWHM of a Gaussian, in new pixels.
    noise : float or `~numpy.ndarray`
        To be added, of 255.

    Returns
    -------
    `~numpy.ndarray`
        Bytes, shape (192, 192, 3).
    """
    x, y = corner
    image = Image.fromarray(picture).resize(
        (SIDE, SIDE), Image.Resampling.BILINEAR, box=(x, y, x + width, y + width)
    )
    sigma = blur * gaussian_fwhm_to_sigma
    values = gaussian_filter(np.asarray(image, dtype=float), (sigma, sigma, 0))
    values = np.round(values + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=QUALITY)
    return opened(file)


def sky_noise(index):
    """Noise as the Galaxy Zoo's pictures have it, shape (192, 192, 3)."""
    generator = generator_for(SEED, "real sky noise", index)
    white = torch.randn(SIDE, SIDE, 3, generator=generator).numpy()
    smooth = gaussian_filter(white, (GRAIN, GRAIN, 0), mode="wrap")
    return NOISE * smooth / smooth.std()


def interacting(center=CENTER):
    """Names, pictures and contact of interacting systems, as the Galaxy Zoo's are."""
    folder = shared_data("interacting")
    names, pictures, contacts = [], [], []
    for row in QTable.read(folder / "systems.csv", format="ascii.csv"):
        picture = opened(folder / "images" / row["file"])
        nuclei = np.array([(row["px"], row["py"]), (row["sx"], row["sy"])], float)
        seeing = HUBBLE if row["file"].startswith("hst") else SEEING
        place, radius, contact = system(picture, nuclei, SEEING / row["scale"], center)
        # As servers of pictures do, no further than the frame reaches.
        size = np.array(picture.shape[1::-1])
        width = min(radius * SIDE / RADIUS, *size)
        corner = (place + 0.5 - width / 2).clip(0, size - width)
        fwhm = seeing / row["scale"] * SIDE / width
        blur = np.sqrt(max(SHARPNESS**2 - fwhm**2, 0))
        names.append(Path(row["file"]).stem)
        noise = sky_noise(len(pictures))
        pictures.append(rendered(picture, corner, width, blur, noise))
        contacts.append(contact)
    return np.array(names), np.stack(pictures), np.array(contacts)


def same_rendering(pictures):
    """Resample and compress the Galaxy Zoo's pictures once more."""
    # Half a pixel aside, where interpolation blurs most.
    return np.stack([rendered(p, (0.5, 0.5), SIDE - 1) for p in pictures])


def ask(cutouts, model, **options):
    """Classify, with the same random passes each time."""
    return galml.merger(cutouts, model=model, n_samples=PASSES, seed=SEED, **options)


def scores_of(table):
    """Numbers that are larger for what merges: before or after, and after it."""
    return {
        "not a non-merger": 1 - np.asarray(table["stage_probability"])[:, 0],
        "post-merger": np.asarray(table["merger_probability"]),
    }


def with_interval(figure, score, outcome, index=0):
    """Give a figure with its 68 % interval, by drawing galaxies again.

    Parameters
    ----------
    figure : callable
        Takes scores and outcomes.
    score, outcome : `~numpy.ndarray`
        Shape (n,).
    index : int
        Number of the random stream.

    Returns
    -------
    dict
        ``value``, ``interval`` and numbers of ``galaxies`` with and without.
    """
    outcome = np.asarray(outcome, dtype=bool)
    generator = generator_for(SEED, "real sky bootstrap", index)
    parts = [np.flatnonzero(outcome), np.flatnonzero(~outcome)]
    values = []
    for _ in range(DRAWS):
        drawn = [torch.rand(len(part), generator=generator).numpy() for part in parts]
        rows = [
            part[(len(part) * draw).astype(int)]
            for part, draw in zip(parts, drawn, strict=True)
        ]
        rows = np.concatenate(rows)
        values.append(figure(score[rows], outcome[rows]))
    return {
        "value": float(figure(score, outcome)),
        "interval": [float(q) for q in np.quantile(values, (0.16, 0.84))],
        "galaxies": [len(part) for part in parts],
    }


def by_half(names, judge):
    """Judge the halves of a set; ``judge`` takes a mask of its rows."""
    halves = np.array([half_of(name) for name in names])
    return {half: judge(halves == half) for half in HALVES}


def contact_test(names, others, model, center=CENTER):
    """Recall of interacting systems at 5 % false positives.

    Parameters
    ----------
    names : `~numpy.ndarray`
        Of the Galaxy Zoo's galaxies that do not merge.
    others : dict of str to `~numpy.ndarray`
        Their scores, in the same rendering.
    model : `~galml.core.model.GalaxyModel`
        The model.
    center : {"pair", "primary"}
        Where the middle of galaxies in contact is.

    Returns
    -------
    dict
        Figures of each half.
    """
    systems, pictures, contact = interacting(center)
    found = scores_of(ask(pictures, model))
    found = {key: np.append(found[key], others[key]) for key in others}
    outcome = np.arange(len(systems) + len(names)) < len(systems)
    kept = np.append(contact, np.ones(len(names), dtype=bool))

    def judge(half):
        return {
            key: {
                "in contact": with_interval(
                    recall_at, score[half & kept], outcome[half & kept]
                ),
                "all": with_interval(recall_at, score[half], outcome[half]),
                "area, all": with_interval(
                    area_under_curve, score[half], outcome[half]
                ),
            }
            for key, score in found.items()
        }

    return by_half([*systems, *names], judge)


def zoo_test(zoo, model, fit):
    """Areas under the curve of the Galaxy Zoo's mergers against others."""
    names, classes, pictures = zoo
    merger = classes == MERGERS
    found = scores_of(ask(pictures, model))
    found["random forest, 40 components"] = crossed(forest, pictures, merger)
    if fit:
        found["fine-tuned"] = crossed(
            lambda *data: tuned(model, *data), pictures, merger
        )

    def judge(half):
        return {
            key: with_interval(area_under_curve, score[half], merger[half])
            for key, score in found.items()
        }

    return by_half(names, judge) | {"all": judge(np.ones(len(names), dtype=bool))}


def crossed(learn, pictures, outcome):
    """Score each picture by what was learned from other ones.

    What was learned from others has a scale of its own, so that a score is the place
    among the pictures of its fold.
    """
    score = np.zeros(len(outcome))
    folder = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    for train, test in folder.split(pictures, outcome):
        found = learn(pictures[train], outcome[train], pictures[test])
        score[test] = rankdata(found) / len(test)
    return score


def forest(pictures, outcome, others):
    """Learn from principal components of the pixels, and score other pictures."""

    def pixels(images):
        side = SIDE // BINNING
        cells = images.reshape(-1, side, BINNING, side, BINNING, 3)
        return cells.mean((2, 4), dtype=np.float32).reshape(len(images), -1)

    components = PCA(COMPONENTS, svd_solver="randomized", random_state=SEED)
    trees = RandomForestClassifier(TREES, class_weight="balanced", random_state=SEED)
    trees.fit(components.fit_transform(pixels(pictures)), outcome)
    return trees.predict_proba(components.transform(pixels(others)))[:, 1]


def tuned(model, pictures, outcome, others):
    """Fine-tune the model, and score other pictures."""
    truth = {"stage": outcome.astype(float)}
    own = galml.mergers.fit(pictures, truth, model=model, seed=SEED, **TUNING)
    return 1 - np.asarray(ask(others, own)["stage_probability"])[:, 0]


def examples(model):
    """Rank the examples of mergers and tidal debris among the others, per survey."""
    folder = shared_data("galaxy_zoo_examples")
    table = QTable.read(folder / "labels.csv", format="ascii.csv")
    answers = {}
    for row in table:
        # A name begins with the survey whose image it is.
        answers.setdefault(str(row["file"]), []).append(str(row["answer"]))
    files = sorted(f for f, given in answers.items() if ARTIFACT not in given)
    merger = np.array([bool(set(answers[f]) & set(ANSWERS)) for f in files])
    survey = np.array([f.partition("-")[0] for f in files])
    names = [Path(f).stem for f in files]
    found = scores_of(ask([str(folder / "images" / f) for f in files], model))
    figures = {}
    for each in np.unique(survey):
        rows = np.flatnonzero(survey == each)

        def judge(half, rows=rows):
            chosen = rows[half]
            if len(set(merger[chosen])) < 2:
                return {"galaxies": len(chosen)}
            return {
                key: with_interval(area_under_curve, score[chosen], merger[chosen])
                for key, score in found.items()
            }

        figures[str(each)] = by_half([names[i] for i in rows], judge)
        score = found["not a non-merger"]
        order = rows[np.argsort(-score[rows])]
        figures[str(each)]["ranking"] = [
            {
                "name": names[i],
                "answers": answers[files[i]],
                "half": half_of(names[i]),
                **{key: round(float(values[i]), 4) for key, values in found.items()},
            }
            for i in order
        ]
    return figures


def space(model):
    """Classify galaxies of Hubble and Webb from their files.

    Webb's tell their pixel scale but no filter; Hubble's tell nothing, and have a
    catalog.

    Returns
    -------
    table : `~astropy.table.QTable`
        The results of all, with names and bands.
    images : list of `~numpy.ndarray`
        What the files hold.
    """
    tables, images = [], []
    folder = shared_data("jwst_ceers")
    for band in ("F115W", "F200W", "F444W"):
        files = sorted(folder.glob(f"*_{band.lower()}.fits.fz"))
        found = ask([str(path) for path in files], model, filter=band, field="EGS")
        found["band"] = band
        tables.append(found)
        images += [fits.getdata(path, 1) for path in files]
    folder = shared_data("hst_psf")
    for path in sorted(folder.glob("AEGIS_*_catalog.fits.gz")):
        for row in QTable.read(path, hdu=1):
            file = folder / f"{row['GAL_FILENAME'].strip()}.gz"
            hdu, band = int(row["GAL_HDU"]), row["BAND"].strip()
            scale = row["PIXEL_SCALE"] * u.arcsec
            found = ask(
                str(file), model, filter=band, field="EGS", pixel_scale=scale, hdu=hdu
            )
            found["name"], found["band"] = f"AEGIS {row['IDENT']}", band
            tables.append(found)
            images.append(fits.getdata(file, hdu))
    return vstack(tables, metadata_conflicts="silent"), images


def listed(table):
    """Give the results of each galaxy, the most probable first."""
    probability = np.asarray(table["merger_probability"])
    return [
        {
            "name": str(row["name"]),
            "band": str(row["band"]),
            "filter": str(row["filter"]),
            "post-merger": round(float(row["merger_probability"]), 4),
            "error": round(float(row["merger_probability_err"]), 4),
            "stages": [round(float(p), 4) for p in row["stage_probability"]],
            "flags": decode_flags(row["flags"]),
        }
        for row in table[np.argsort(-probability)]
    ]


def draw_page(path, table, images):
    """Show the most and the least probable galaxies, in bands of the training."""
    order = np.argsort(-np.asarray(table["merger_probability"]))
    order = order[np.isin(table["band"][order], ("F200W", "F814W"))]
    chosen = [*order[:SHOWN], *order[-SHOWN:]]
    figure = Figure(figsize=(SHOWN * 1.6, 4.2), layout="constrained")
    for axis, i in zip(figure.subplots(2, SHOWN).flat, chosen, strict=True):
        axis.imshow(images[i], norm=simple_norm(images[i], "asinh", percent=99.7))
        row = table[i]
        chance = (
            f"{row['merger_probability']:.2f} ± {row['merger_probability_err']:.2f}"
        )
        axis.set_title(f"{row['name']}\n{row['band']}: {chance}", size=6)
        axis.set_axis_off()
        axis.invert_yaxis()
    figure.savefig(path, dpi=150)


def show(figures):
    """Print figures of a test, as soon as they are there."""
    for name, rows in figures.items():
        print(f"{name}:")
        for key, row in rows.items():
            if key != "ranking":
                print(f"    {key}: {row}", flush=True)


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--skip-fit", action="store_true")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    model = load_model(args.model, "merger")
    names, classes, pictures = zoo = galaxy_zoo((*OTHERS, MERGERS))
    alone = classes != MERGERS
    others = scores_of(ask(same_rendering(pictures[alone]), model))
    figures = {"model": model.sha256, "interacting": {}}
    for center in CENTERS:
        found = contact_test(names[alone], others, model, center)
        if center != CENTER:
            found = {f"development, {center} in the middle": found["development"]}
        figures["interacting"] |= found
    show(figures["interacting"])
    figures["examples"] = examples(model)
    show(figures["examples"])
    table, images = space(model)
    if args.page:
        draw_page(args.page, table, images)
    probability = np.asarray(table["merger_probability"])
    figures["space"] = {
        "images": len(table),
        "without_result": int(np.isnan(probability).sum()),
        "results": listed(table),
    }
    show({"space": figures["space"] | {"results": "in the file"}})
    figures["galaxy_zoo"] = zoo_test(zoo, model, not args.skip_fit)
    show(figures["galaxy_zoo"])
    if args.model == "default" and not args.skip_fit:
        write_figures("mergers/real_sky", figures)


if __name__ == "__main__":
    main()
