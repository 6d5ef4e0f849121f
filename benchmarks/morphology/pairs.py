# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The same galaxies seen twice: how far latents are apart, and models that are adapted.

    python benchmarks/morphology/pairs.py [--report] [--skip-adaptation] [--cache DIR]

(1) Mock galaxies as DECaLS sees them, and with other noise, seeing, places, angles and
pixels. (2) Mock galaxies in DECaLS and in BASS/MzLS. (3) Observed galaxies of SDSS, and
the same pictures blurred, in larger pixels and with more noise. (4) Six galaxies of
GAMA in SDSS and in KiDS, in r. Distances are in units of the median distance of two
different galaxies, each latent in units of its scatter; ranks are those of the partner
among all galaxies. Of (2) and (3), a linear classifier learns kinds from the first
image of half of the galaxies, and tells those of the other half from their second one,
by the model and by one that was adapted on images of the first half. What a model draws
of (2) is compared with mocks without noise and other sources.

SDSS pictures are those of the development half; with ``--report``, of the other one,
and figures are written.
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.io import fits
from PIL import Image
from probing import SEED, balanced, encode, linear, partners, usable
from scipy.ndimage import gaussian_filter

import galml
from galml.core.weights import load_model
from galml.mocks import (
    IMAGING_SURVEYS,
    build_stars,
    draw_stars,
    half_light_ellipse,
    observe_light,
    random_orientation,
    rotation_matrix,
    starlight,
)
from galml.mocks.images import redshift_of
from galml.mocks.light import depth_before_stars
from galml.physics.bands import AB_ZERO
from galml.physics.seeds import generator_for

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import HALVES, cached, galaxy_zoo, half_of, shared_data, write_figures

BANDS = ("g", "r", "z")
FIRST, SECOND = "DECaLS", "BASS/MzLS"
SURVEYS = {survey.name: survey for survey in IMAGING_SURVEYS}
#: Pixels a side that cover the same sky to 0.2 %, so that the same sources lie in it;
#: half-light radii in arcsec that fit, and largest redshift.
PIXELS = {FIRST: 184, SECOND: 106}
RADII, FARTHEST = (2.5, 5.5), 0.25
#: Faintest galaxies, in r magnitudes.
FAINTEST = 19.0
BATCH, PARTICLES = 32, 20_000
#: Kinds by type: early types, early spirals, late spirals and dwarfs.
KINDS = np.array([0, 0, 0, 1, 2, 2])
#: What changes an image and not a galaxy: seeing and noise by factors, a place in
#: pixels, an angle in radians, brightness by a factor, pixels along a pixel.
SEEING, NOISE, SHIFT, TURN, BRIGHTER, BINNING = 1.4, 3.0, 3, 0.6, 10.0, 2
#: SDSS pictures made poorer: FWHM of a Gaussian in pixels, pixels a side, noise of 255.
BLUR, SIDE, GRAIN = 5.0, 120, 5.0
#: Kinds of the Galaxy Zoo by class: elliptical, spiral, edge-on.
CLASSES = np.array([0, 1, 1, 2])
#: Pixels in arcsec of the images of GAMA.
GAMA = {"sdss": 0.339, "kids": 0.2}


def galaxies(index):
    """Build a batch of galaxies, with their light and kind.

    Parameters
    ----------
    index : int
        Number of the batch.

    Returns
    -------
    galaxy : `~galml.mocks.Galaxy`
        As it is seen.
    redshift : `torch.Tensor`
        Shape (n,).
    light : `torch.Tensor`
        Shape (n, particles, bands).
    kinds : `torch.Tensor`
        Shape (n,).
    """
    generator = generator_for(SEED, "galaxies in pairs", index)
    drawn = draw_stars(BATCH, generator)
    galaxy = build_stars(drawn, PARTICLES, generator, n_gas=0)
    galaxy = galaxy.rotated(random_orientation(BATCH, generator))
    depth = depth_before_stars(galaxy)
    red = starlight(galaxy, ("r",), depth=depth)[..., 0]
    radius = half_light_ellipse(galaxy, red).r_eff
    low, high = RADII
    angle = low * (high / low) ** torch.rand(BATCH, generator=generator)
    redshift = redshift_of(radius / angle).clamp(max=FARTHEST)
    light = starlight(galaxy, BANDS, redshift, depth)
    return galaxy, redshift, light, torch.from_numpy(KINDS)[drawn["type"]]


def seen(galaxy, survey, *, light, redshift, index, sky="sky", **options):
    """Take images, in the same night and field where the stream is the same."""
    generator = generator_for(SEED, sky, index)
    pixels = PIXELS[survey.name]
    return observe_light(
        galaxy, light, survey, redshift, pixels, generator, bands=BANDS, **options
    )


def joined(parts, shown):
    """Put batches together, without galaxies that are too faint in some image."""
    data = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    light = data[shown][:, BANDS.index("r")].sum((1, 2))
    bright = light > AB_ZERO * 10 ** (-0.4 * FAINTEST)
    return {key: values[bright] for key, values in data.items()}


def two_surveys(count, cache):
    """Mock galaxies in both surveys, and without noise in the second one."""

    def make():
        parts = []
        for index in range(count // BATCH):
            galaxy, redshift, light, kinds = galaxies(index)

            see = partial(seen, galaxy, light=light, redshift=redshift, index=index)
            parts.append(
                {
                    "first": see(SURVEYS[FIRST]).data,
                    "second": see(SURVEYS[SECOND]).data,
                    "truth": see(SURVEYS[SECOND], noisy=False).data,
                    "kinds": kinds,
                }
            )
        return joined(parts, "truth")

    return cached(cache, f"two_surveys_{count}", make)


def blurred(images):
    """Blur images by a Gaussian that makes stars wider by a factor."""
    widths = images.psf_fwhm * math.sqrt(SEEING**2 - 1) / math.sqrt(8 * math.log(2))
    data = images.data.numpy().copy()
    for i, k in np.ndindex(*data.shape[:2]):
        data[i, k] = gaussian_filter(data[i, k], widths[i, k].item())
    return torch.from_numpy(data)


def changed(count, cache):
    """Mock galaxies in one survey, and the same with something else about the image."""

    def make():
        parts = []
        for index in range(count // BATCH):
            # Not those of the two surveys.
            galaxy, redshift, light, _ = galaxies(1000 + index)
            axis = torch.tensor([0.0, 0.0, 1.0]).expand(BATCH, 3)
            turn = rotation_matrix(axis, torch.full((BATCH,), TURN))
            see = partial(
                seen, survey=SURVEYS[FIRST], light=light, redshift=redshift, index=index
            )
            generator = generator_for(SEED, "noise of changed images", index)
            other = see(galaxy, sky="other sky")
            alone = see(galaxy, noisy=False)

            def noisy(data, factor=1.0, other=other, generator=generator):
                grain = torch.randn(data.shape, generator=generator)
                return data + factor * other.noise[..., None, None] * grain

            first = noisy(alone.data)
            half = PIXELS[FIRST] // BINNING
            cells = first.unflatten(3, (half, BINNING)).unflatten(2, (half, BINNING))
            parts.append(
                {
                    "first": first,
                    "other noise": noisy(alone.data),
                    "more noise": noisy(alone.data, NOISE),
                    "blurred": noisy(blurred(alone)),
                    "another night, other sources": other.data,
                    "shifted": first.roll((SHIFT, -SHIFT), (2, 3)),
                    "turned": noisy(see(galaxy.rotated(turn), noisy=False).data),
                    "brighter": BRIGHTER * first,
                    "larger pixels": cells.sum((3, 5)),
                }
            )
        return joined(parts, "first")

    return cached(cache, f"changed_{count}", make)


def mock_options(name, binning=1):
    """Keywords of the operation for mocks of a survey."""
    survey = SURVEYS[name]
    seeing = [survey.seeing[survey.bands.index(band)] for band in BANDS]
    return {
        "bands": BANDS,
        "pixel_scale": binning * survey.pixel_scale * u.arcsec,
        "psf_fwhm": seeing * u.arcsec,
    }


def robustness(model, count, cache):
    """How far images apart are that show the same mock galaxies."""
    images = changed(count, cache)
    options = mock_options(FIRST)
    special = {
        "blurred": options | {"psf_fwhm": SEEING * options["psf_fwhm"]},
        "larger pixels": mock_options(FIRST, BINNING),
    }
    latents = {
        key: encode(values.numpy() * u.nJy, model, **special.get(key, options))
        for key, values in images.items()
    }
    first = latents.pop("first")
    return {key: partners(first, second) for key, second in latents.items()}


def poorer(pictures):
    """Blur SDSS pictures, bring them to larger pixels and add noise."""
    generator = np.random.default_rng(SEED)
    sigma = BLUR / math.sqrt(8 * math.log(2))
    found = []
    for picture in pictures:
        smooth = gaussian_filter(picture.astype(float), (sigma, sigma, 0))
        small = [
            Image.fromarray(smooth[..., k].astype(np.float32)).resize(
                (SIDE, SIDE), Image.Resampling.BOX
            )
            for k in range(3)
        ]
        noisy = np.stack(small, -1) + GRAIN * generator.normal(size=(SIDE, SIDE, 3))
        found.append(noisy.round().clip(0, 255).astype(np.uint8))
    return np.stack(found)


def across(model, source, target, kinds, options, adapting, truth=None):
    """Figures of pairs before and after a model is adapted.

    Parameters
    ----------
    model : `~galml.core.GalaxyModel`
        The model.
    source, target : `~numpy.ndarray` or `~astropy.units.Quantity`
        Images of the same galaxies.
    kinds : `~numpy.ndarray`
        Shape (n,).
    options : list of dict
        Keywords of the operation for source and target.
    adapting : bool
        Whether to adapt.
    truth : `~numpy.ndarray`, optional
        The target without noise and other sources.

    Returns
    -------
    dict
        By model: figures of `partners`, and balanced ``accuracy`` on the target, of a
        classifier that has learned from the source.
    """
    first = encode(source, model, **options[0])
    good = usable(first) & usable(encode(target, model, **options[1]))
    first, source, target, kinds = (
        each[good] for each in (first, source, target, kinds)
    )
    learning = np.arange(len(kinds)) % 2 == 0
    judged = ~learning
    learned = linear().fit(first["latent"][learning], kinds[learning])

    def tell(table):
        return balanced(kinds[judged], learned.predict_proba(table["latent"]))

    models = {"before": model}
    for name, pairs in {"with pairs": True, "without pairs": False}.items():
        if adapting:
            print(f"adapting {name}", flush=True)
            models[name] = galml.adapt(
                model,
                source[learning],
                target[learning],
                pairs=pairs,
                source_options=options[0],
                target_options=options[1],
                seed=SEED,
            )
    figures = {"on the source": {"accuracy": tell(first[judged])}}
    for name, one in models.items():
        second = encode(target[judged], one, **options[1])
        figures[name] = partners(first[judged], second) | {"accuracy": tell(second)}
        if truth is not None:
            figures[name]["denoised"] = denoised(
                one, target[judged], truth[good][judged], options[1]
            )
    return figures


def denoised(model, images, truth, options):
    """Median error of what a model draws over that of the images themselves."""
    again = galml.reconstruct(images, model=model, **options)
    ratios = []
    for one, image, true in zip(again, images.value, truth, strict=True):
        error = np.square(one.data - true).mean()
        ratios.append(np.sqrt(error / np.square(image - true).mean()))
    return float(np.median(ratios))


def gama(survey):
    """Images of GAMA's galaxies in one survey, and the keywords for each."""
    images, widths = [], []
    for path in sorted(shared_data("survey_pairs").glob(f"*_{survey}.fits.gz")):
        with fits.open(path) as file:
            image = file["IMAGE"].data.astype(float) * AB_ZERO
            image[file["MASK"].data > 0] = np.nan
            psf = file["PSF"].data
        images.append(image * u.nJy)
        widths.append(2 * np.sqrt((psf > psf.max() / 2).sum() / np.pi))
    scale = GAMA[survey] * u.arcsec
    options = {"bands": ("r",), "pixel_scale": scale}
    return images, options | {"psf_fwhm": np.median(widths) * scale}


def real_pairs(model):
    """How far apart six galaxies are in SDSS and KiDS."""
    tables = []
    for survey in GAMA:
        images, options = gama(survey)
        tables.append(encode(images, model, **options))
    return {
        "SDSS to KiDS": partners(*tables),
        "KiDS to SDSS": partners(*tables[::-1]),
    }


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--galaxies", type=int, default=1024)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--skip-adaptation", action="store_true")
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    model = load_model(args.model, "latents")
    adapting = not args.skip_adaptation
    figures = {"galaxies in KiDS and SDSS": real_pairs(model)}
    print(figures, flush=True)
    figures["changed images"] = robustness(model, args.galaxies // 2, args.cache)
    for key, row in figures["changed images"].items():
        print(f"{key}: {row}", flush=True)

    mocks = two_surveys(args.galaxies, args.cache)
    first, second, truth = (
        mocks[key].numpy() * u.nJy for key in ("first", "second", "truth")
    )
    options = [mock_options(name) for name in (FIRST, SECOND)]
    figures["two surveys"] = across(
        model, first, second, mocks["kinds"].numpy(), options, adapting, truth.value
    )
    for key, row in figures["two surveys"].items():
        print(f"{FIRST} to {SECOND}, {key}: {row}", flush=True)

    half = HALVES[int(args.report)]
    names, classes, pictures = galaxy_zoo(range(len(CLASSES)))
    rows = np.flatnonzero([half_of(name) == half for name in names])
    pictures, kinds = pictures[rows], CLASSES[classes[rows]]
    target = poorer(pictures)
    figures["SDSS"] = across(model, pictures, target, kinds, [{}, {}], adapting)
    for key, row in figures["SDSS"].items():
        print(f"SDSS, {half} half, {key}: {row}", flush=True)
    if args.report and args.model == "default" and adapting:
        write_figures("morphology/pairs", figures | {"model": model.sha256})


if __name__ == "__main__":
    main()
