# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How poor data may be: answers on mocks that are made noisier, coarser and more blurred.

    python benchmarks/limits.py [ANSWER ...]

ANSWER is circularity, spin, lambda_r, latents, merger or contamination; all by default.
What has been measured of others is kept.

Images and maps of stars are made poorer in one way at a time, and asked about as a user
would. Maps of gas are those of the population, in bins. Signal to noise of images is
that inside the circle with half of the light, and their resolution and size are the
diameter of it in FWHM of the PSF and in pixels; of maps of gas, that of the velocities,
and beams across the map; of maps of stars, dispersions over their errors, as large as
those of velocities, and the diameter along the major axis in FWHM and in spaxels.

The limit is the poorest step down to which, without a break,

- the error of circularity, spin and contamination, of 68 %, is below 1.25 times that of
  the best step, and 68 % intervals hold 60 % or more of the truths;
- the error of lambda_R, which is none on perfect maps, is below 0.05;
- the area under the curve of post-mergers against others is above a half by more than
  0.8 times that of the best step;
- latents are apart from those of the same galaxy's best image by less than half of what
  two galaxies are apart, in the median.
"""

import argparse
import json
import math

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import NDData, StdDevUncertainty, block_reduce
from common import RESULTS, in_bins, show, write_figures
from mock_answers import answer
from scipy.spatial.distance import cdist

import galml
from galml.core.metrics import area_under_curve, coverage, scatter68
from galml.core.weights import load_model
from galml.gas_kinematics import mock_data
from galml.mergers.mock_data import DEEP_BANDS, draw_systems
from galml.mergers.posterior import STAGES
from galml.mocks import (
    IMAGING_SURVEYS,
    build_stars,
    deep_starlight,
    draw_stars,
    observe_deep,
    observe_ifu,
    observe_light,
    random_orientation,
    spin_truth,
    starlight,
)
from galml.mocks.images import distance, redshift_of
from galml.physics import AB_ZERO, generator_for

SEED = 50_001
#: Steps from good to poor; of images, of maps of stars, and edges of bins of maps of
#: gas, where the other property is at least good.
SNR = (300, 150, 80, 40, 20, 10, 5)
WIDTHS = (7, 5, 3.5, 2.5, 1.8, 1.3, 0.9)
PIXELS = (24, 16, 12, 8, 6, 4)
IFU = {
    "signal to noise": (30, 15, 8, 4, 2, 1),
    "resolution": (16, 8, 5.6, 4, 2.8, 2, 1.4),
    "size": (60, 30, 20, 14, 10, 7, 5),
}
GAS = {
    "signal to noise": (0.5, 1, 2, 3, 5, 10, 20, 1000),
    "resolution": (3, 5, 7, 9, 12, 16, 28, 60),
}
GOOD = {"signal to noise": 10.0, "resolution": 9.0}
#: Batches of maps of gas, of galaxies in images and maps, and of systems.
GAS_BATCHES, BATCHES, SYSTEMS = 100, 6, 2
#: Galaxies in images: bands, and half-light radius in arcsec; deep ones: band, field,
#: magnitude and redshift.
BANDS, RADIUS, NUMBER = ("g", "r", "i"), 4.0, 64
BAND, FIELD, MAGNITUDE, REDSHIFT = "F814W", "GOODS-S", 21.0, 0.7
#: What is good enough, see above.
WORSE, COVERED, WORST_SPIN, SEPARATED, MOVED = 1.25, 0.6, 0.05, 0.8, 0.5
#: Half the width of maps of stars, in half-light radii.
REACH = 2.0


# What is asked about


def drawn(index):
    """Galaxies of stars as they are seen, their light in r, and their spin."""
    generator = generator_for(SEED, "limits of images", index)
    galaxy = build_stars(draw_stars(NUMBER, generator), 20_000, generator, n_gas=0)
    galaxy = galaxy.rotated(random_orientation(NUMBER, generator))
    red = starlight(galaxy, ("r",))[..., 0]
    return galaxy, red, spin_truth(galaxy, red, torch.full((NUMBER,), 0.5)), generator


def near_images(index):
    """Images without noise as LSST takes them; half-light radii, and truths."""
    galaxy, _, truth, generator = drawn(index)
    redshift = redshift_of(truth.r_eff / RADIUS)
    survey = next(one for one in IMAGING_SURVEYS if one.name == "LSST")
    pixels = 2 * math.ceil(4.3 * RADIUS / survey.pixel_scale)
    light = starlight(galaxy, BANDS, redshift)
    images = observe_light(
        galaxy, light, survey, redshift, pixels, generator, bands=BANDS, noisy=False
    )
    r_eff = RADIUS / images.pixel_scale.numpy()
    yield images, images.data, {"r_eff": r_eff}, {"spin": truth.spin.numpy()}


def deep_images(index):
    """Images of a deep field, and truths of the systems in them."""
    generator = generator_for(SEED, "limits of deep images", index)
    groups, truth, foreign = draw_systems("deep", generator, 8000)
    start = 0
    for galaxy, aside in zip(groups, foreign, strict=True):
        number = len(galaxy)
        redshift = torch.full((number,), REDSHIFT)
        light = deep_starlight(galaxy, (BAND,), redshift)
        flux = AB_ZERO * 10 ** (-0.4 * (MAGNITUDE - distance(redshift)[0]))
        light = light * (flux[:, None] / light.sum(1))[:, None]
        pixels = DEEP_BANDS[BAND][1]
        images = observe_deep(
            galaxy,
            light,
            FIELD,
            redshift,
            pixels,
            generator,
            bands=(BAND,),
            foreign=aside,
        )
        field = torch.full((number,), 1.92 / float(images.pixel_scale[0]))
        known = {
            "stage": truth["stage"][start : start + number].numpy(),
            "contamination": images.contamination(images.center, field)[:, 0].numpy(),
        }
        start += number
        yield images, images.galaxy, {}, known


# Poorer images


def half_light(light, center):
    """Radius of the circle with half of the light, in pixels, and all of it."""
    y, x = np.indices(light.shape[1:])
    radii = []
    for image, (x0, y0) in zip(light, center, strict=True):
        distances = np.hypot(x - x0, y - y0).ravel()
        order = distances.argsort()
        grown = np.cumsum(image.ravel()[order])
        radii.append(distances[order][np.searchsorted(grown, grown[-1] / 2)])
    return np.array(radii), light.sum((1, 2))


def steps_of(images, light, generator):
    """Make images poorer, in one way at a time.

    Parameters
    ----------
    images : `~galml.mocks.LightImages`
        The best ones.
    light : `torch.Tensor`
        Shape (n, bands, ny, nx): that of the galaxies alone.
    generator : `torch.Generator`
        Of the noise.

    Yields
    ------
    key : tuple
        Property and step.
    values : list of `~numpy.ndarray`
        Images of the galaxies that can be shown at the best of all steps.
    fwhm : `~numpy.ndarray`
        Shape (n, bands): of the PSF, in pixels.
    factor : int or `~numpy.ndarray`
        Pixels along a side of a pixel.
    rows : `~numpy.ndarray`
        Which galaxies these are.
    """
    band = images.bands.index("r") if "r" in images.bands else 0
    radius, flux = half_light(light[:, band].numpy(), images.center.numpy())
    before, fwhm = images.noise[:, band].numpy(), images.psf_fwhm.numpy()
    wide = 2 * radius / fwhm.max(1) >= WIDTHS[0]
    noise = flux / 2 / (np.sqrt(np.pi) * radius)
    rows = np.flatnonzero(wide & (2 * radius >= PIXELS[0]) & (noise / SNR[0] > before))
    radius, noise, before, fwhm = radius[rows], noise[rows], before[rows], fwhm[rows]
    data = images.data[rows].numpy().astype(float)

    def noisy(values, snr):
        added = np.sqrt((noise / snr) ** 2 - before**2)[:, None, None, None]
        return values + added * torch.randn(values.shape, generator=generator).numpy()

    for snr in SNR:
        yield ("signal to noise", snr), list(noisy(data, snr)), fwhm, 1, rows
    for width in WIDTHS:
        wanted = np.maximum(fwhm, (2 * radius / width)[:, None])
        sigma = np.sqrt(wanted**2 - fwhm**2) / math.sqrt(8 * math.log(2))
        values = noisy(blurred(data, sigma), SNR[0])
        yield ("resolution", width), list(values), wanted, 1, rows
    sharp = noisy(data, SNR[0])
    for pixels in PIXELS:
        factor = np.maximum(1, np.round(2 * radius / pixels)).astype(int)
        values = [summed(*pair) for pair in zip(sharp, factor, strict=True)]
        yield ("size", pixels), values, fwhm / factor[:, None], factor, rows


def blurred(data, sigma):
    """Convolve images with Gaussians of their own, sigma (n, bands) in pixels."""
    ny, nx = data.shape[-2:]
    k2 = np.fft.fftfreq(ny)[:, None] ** 2 + np.fft.rfftfreq(nx) ** 2
    transfer = np.exp(-2 * np.pi**2 * k2 * sigma[..., None, None] ** 2)
    return np.fft.irfft2(np.fft.rfft2(data) * transfer, s=(ny, nx))


def summed(image, factor):
    """Put pixels of an image together, about its middle."""
    y, x = ((n - n // factor * factor) // 2 for n in image.shape[1:])
    return block_reduce(image[:, y:, x:], (1, factor, factor), np.sum)


def ask(source, batches, operations):
    """Ask operations about images of all steps.

    Parameters
    ----------
    source : callable
        Gives the best images of a batch.
    batches : int
        How many.
    operations : dict of str to callable
        What is asked.

    Returns
    -------
    dict
        By operation, property and step: columns of its table and, with names that
        begin with "true ", what is known.
    """
    found = {name: {} for name in operations}
    for index in range(batches):
        for images, light, options, known in source(index):
            generator = generator_for(SEED, "noise of limits", index)
            scale = float(images.pixel_scale[0]) * u.arcsec
            for key, values, fwhm, factor, rows in steps_of(images, light, generator):
                if not len(rows):
                    continue
                own = {n: value[rows] / factor * u.pix for n, value in options.items()}
                for name, operation in operations.items():
                    table = operation(
                        [one * u.nJy for one in values],
                        bands=images.bands,
                        pixel_scale=scale * np.broadcast_to(factor, len(rows)),
                        psf_fwhm=fwhm * u.pix,
                        **own,
                    )
                    part = {f"true {n}": value[rows] for n, value in known.items()}
                    part |= {n: np.asarray(table[n]) for n in table.colnames}
                    found[name].setdefault(key, []).append(part)
        print(f"{', '.join(operations)}: batch {index + 1} of {batches}", flush=True)
    return {
        name: {
            key: {n: np.concatenate([one[n] for one in parts]) for n in parts[0]}
            for key, parts in steps.items()
        }
        for name, steps in found.items()
    }


# How good the answers are


def by_property(rows, judge):
    """Judge all steps, by property."""
    result = {}
    for (name, step), row in rows.items():
        result.setdefault(name, {})[f"{step:g}"] = judge(row)
    return result


def with_interval(name):
    """Judge an answer by its error, and by its 68 % interval."""

    def judge(row):
        truth, low, high = row[f"true {name}"], row[f"{name}_lo"], row[f"{name}_hi"]
        return {
            "error": scatter68(row[name] - truth),
            "coverage": coverage(truth, low, high),
            "number": len(truth),
        }

    return judge


def moved(rows):
    """Tell how far latents are from those of the same galaxy's best image.

    It is the median, over that of the distances between galaxies, each latent by its
    scatter. The best image is one of another property, so that its noise is another.
    """
    best = {
        name: rows[other, step]["latent"]
        for name, other, step in (
            ("signal to noise", "resolution", WIDTHS[0]),
            ("resolution", "signal to noise", SNR[0]),
            ("size", "resolution", WIDTHS[0]),
        )
    }

    def judge(row, name):
        reference = best[name] / best[name].std(0)
        distance = cdist(row["latent"] / best[name].std(0), reference)
        between = np.median(distance[~np.eye(len(reference), dtype=bool)])
        own = np.median(distance.diagonal())
        return {"moved": float(own / between), "number": len(reference)}

    return {
        name: {
            f"{step:g}": judge(row, name)
            for (n, step), row in rows.items()
            if n == name
        }
        for name in best
    }


def separated(row):
    """Area under the curve of post-mergers against galaxies that do not merge."""
    stage = row["true stage"]
    merged, single = (stage == STAGES.index(n) for n in ("post-merger", "non-merger"))
    some = merged | single
    area = area_under_curve(row["merger_probability"][some], merged[some])
    return {"separation": area - 0.5, "number": int(some.sum())}


def circularity():
    """Judge maps of gas of the population, in bins."""
    data = mock_data.mock_data_set(GAS_BATCHES, seed=SEED, noisy=True, tracer="gas")
    data["image"] = data["image"].float()
    tilted = data["inclination"] >= 30
    data = {key: value[tilted] for key, value in data.items()}
    model = load_model("default", "circularity")
    table = answer(model, data)
    seen = {"signal to noise": data["snr"], "resolution": data["beams_across"]}
    seen = {name: value.numpy() for name, value in seen.items()}
    row = {name: np.asarray(table[name]) for name in table.colnames}
    row["true circularity"] = data["kappa"].numpy()
    judge, result = with_interval("circularity"), {}
    for name, other in (tuple(seen), tuple(seen)[::-1]):
        good = seen[other] >= GOOD[other]
        some = {key: value[good] for key, value in row.items()}

        def of(rows, some=some):
            return judge({key: value[rows] for key, value in some.items()})

        bins = in_bins(of, seen[name][good], GAS[name], fewest=100)
        result[name] = {edges.split(" - ")[0]: one for edges, one in bins.items()}
    return result


def lambda_r():
    """Judge maps of stars."""
    rows = {}
    for index in range(BATCHES // 2):
        galaxy, red, truth, generator = drawn(index)
        for name, steps in IFU.items():
            for step in steps:
                table = ask_about_stars(galaxy, red, truth, generator, name, step)
                part = {"error": np.asarray(table["lambda_r"]) - truth.spin.numpy()}
                rows.setdefault((name, step), []).append(part["error"])
        print(f"lambda_r: batch {index + 1} of {BATCHES // 2}", flush=True)

    def judge(errors):
        # What cannot be measured is as wrong as can be.
        errors = np.nan_to_num(np.abs(np.concatenate(errors)), nan=1.0)
        return {"error": float(np.quantile(errors, 0.68)), "number": len(errors)}

    return by_property(rows, judge)


def ask_about_stars(galaxy, red, truth, generator, name, step):
    """Measure maps of stars at one step of one property."""
    pixels, beam, snr = IFU["size"][0], IFU["resolution"][0], IFU["signal to noise"][0]
    pixels = step if name == "size" else pixels
    beam = step if name == "resolution" else beam
    snr = step if name == "signal to noise" else snr
    r_eff, side = truth.r_eff, round(REACH * pixels)
    maps = observe_ifu(galaxy, red, REACH * r_eff, side, 2 * r_eff / beam)
    flux, velocity, dispersion = (one.double().numpy() for one in maps)
    noise = torch.randn((2, *velocity.shape), generator=generator).double().numpy()
    error = dispersion / snr
    velocity, seen = velocity + error * noise[0], np.abs(dispersion + error * noise[1])
    kms = u.km / u.s

    def maps_of(values):
        return [
            NDData(
                one, unit=kms, uncertainty=StdDevUncertainty(std), mask=np.isnan(one)
            )
            for one, std in zip(values, error, strict=True)
        ]

    return galml.lambda_r(
        list(np.nan_to_num(flux)),
        maps_of(velocity),
        maps_of(seen),
        r_eff=np.full(len(flux), pixels / 2) * u.pix,
        ellipticity=truth.ellipticity.numpy(),
        position_angle=truth.position_angle.numpy() * u.deg,
        center=[((side - 1) / 2,) * 2] * len(flux),
        radius="elliptical",
        n_samples=0,
    )


def good_enough(name):
    """Tell what the steps of an answer are held to."""

    def judge(row, best):
        if "separation" in row:
            return row["separation"] >= SEPARATED * best["separation"]
        if "moved" in row:
            return row["moved"] <= MOVED
        if name == "lambda_r":
            return row["error"] < WORST_SPIN
        return row["error"] <= WORSE * best["error"] and row["coverage"] >= COVERED

    return judge


def limits(name, steps):
    """Find the poorest step of each property that is good enough."""
    judge, result = good_enough(name), {}
    for key, rows in steps.items():
        ordered = sorted(rows, key=float, reverse=True)
        good = [judge(rows[step], rows[ordered[0]]) for step in ordered]
        last = good.index(False) if False in good else len(good)
        result[key] = float(ordered[max(last - 1, 0)])
    return result


def measure(names):
    """Yield the answers that are wanted, with their steps."""
    if "circularity" in names:
        yield "circularity", circularity()
    if "lambda_r" in names:
        yield "lambda_r", lambda_r()
    for source, batches, operations in (
        (near_images, BATCHES, (galml.spin, galml.latents)),
        (deep_images, SYSTEMS, (galml.merger, galml.contamination)),
    ):
        wanted = {one.__name__: one for one in operations if one.__name__ in names}
        for name, rows in (ask(source, batches, wanted) if wanted else {}).items():
            if name == "latents":
                yield name, moved(rows)
            else:
                judge = separated if name == "merger" else with_interval(name)
                yield name, by_property(rows, judge)


def main():
    """Measure, and put it beside what is known of other answers."""
    names = ("circularity", "lambda_r", "spin", "latents", "merger", "contamination")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", nargs="*", metavar="ANSWER", choices=[[], *names])
    wanted = parser.parse_args().answers or names
    path = RESULTS / "limits.json"
    for name, steps in measure(wanted):
        for key, rows in steps.items():
            show(f"{name}: {key}", rows)
        figures = json.loads(path.read_text()) if path.exists() else {}
        figures[name] = {"steps": steps, "limits": limits(name, steps)}
        print(figures[name]["limits"])
        write_figures("limits", figures)


if __name__ == "__main__":
    main()
