# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the model of `galml.latents` on mocks, and on real pixels without labels.

    python benchmarks/train_morphology.py [--cache FOLDER] [--check]

Mock galaxies of many surveys and interacting ones of SDSS are seen as they are, and as
a poorer survey would have them; so are the galaxies of the Galaxy Zoo in the
development half, of which no label is used. From the morphology part of the latents the
network must draw the galaxy, tell the parameters of the mocks, and give the same
latents for both images. The cache keeps what is prepared, so that a training that was
stopped goes on; ``--check`` tells whether the weights in the package have this recipe.
"""

import numpy as np
import torch
from common import cached, describe, galaxy_zoo, half_of, train_or_check

from galml.core.fitting import fit_prepared
from galml.imaging import GalaxyImages, read_images
from galml.imaging.color_pictures import color_pictures
from galml.imaging.rgb import linear_images
from galml.imaging.stamps import measure_size
from galml.mergers.mock_data import KINDS, draw_systems, observe_near
from galml.mocks import MERGER_POPULATION, STAR_POPULATION
from galml.mocks.star_recipe import TYPES
from galml.morphology.fitting import MorphologyRecipe
from galml.morphology.preparation import INPUT, prepare_pairs
from galml.physics import generator_for, pivot_wavelengths
from galml.stellar_spin.mock_data import mock_images

#: Batches that are made at a time.
CHUNK = 10
#: For each set and kind the number of batches; and the seeds of the sets.
STREAMS = {
    "training": {"stars": 240, "mergers": 50},
    "validation": {"stars": 16, "mergers": 4},
    "calibration": {"stars": 30, "mergers": 6},
}
SEEDS = {"training": 5001, "validation": 5002, "calibration": 5003}
OPTIONS = {"stars": {"batch_size": 64, "n_particles": 12_000}, "mergers": 8000}
#: Pictures of the Galaxy Zoo in a batch, and how often the training sees each of them.
PICTURES, REPEATED = 128, 3
EPOCHS, RATE, SEED = 11, 2e-3, 1
TRAINING = {"batch_size": 128, "dtype": "bfloat16"}
#: Parameters of mocks that the latents must tell; behind them follow the types, and
#: kinds of interacting systems.
PARAMETERS = (
    "bulge_fraction",
    "arm_strength",
    "bar_fraction",
    "ring_fraction",
    "clump_fraction",
    "lopsidedness",
    "shell_fraction",
    "dust_depth",
    "young_fraction",
)
#: What the mocks and the training depend on.
CODE = (
    "mocks/crowded.py",
    "mocks/dynamics.py",
    "mocks/galaxy.py",
    "mocks/images.py",
    "mocks/light.py",
    "mocks/lookalikes.py",
    "mocks/merger_dynamics.py",
    "mocks/merger_recipe.py",
    "mocks/profiles.py",
    "mocks/star_recipe.py",
    "mocks/streams.py:galaxy_images",
    "mocks/surveys.py",
    "data/stellar_light.ecsv",
    "imaging/aligned.py",
    "imaging/color_pictures.py",
    "mergers/mock_data.py",
    "morphology/fitting.py",
    "morphology/network.py",
    "morphology/preparation.py",
    "stellar_spin/disturbance.py",
    "stellar_spin/mock_data.py",
)
NAME = "morphology-1"
DOMAIN = "galaxies in one or several optical bands"


def card():
    """Describe the model before it is trained."""
    populations = f"{STAR_POPULATION} and {MERGER_POPULATION}"
    return {
        "title": "Latents of galaxies from images",
        "training": f"mocks of populations {populations}; pixels of Galaxy Zoo 1 "
        "(SDSS, Lintott et al. 2008), without labels",
        "population": populations,
        "license": "BSD-3-Clause",
        **describe(
            CODE,
            population=populations,
            streams=STREAMS,
            seeds=SEEDS,
            mocks=OPTIONS,
            pictures=[PICTURES, REPEATED],
            properties=PARAMETERS,
            epochs=[EPOCHS, RATE, SEED],
            training=TRAINING,
        ),
    }


def star_batches(count, seed, first):
    """Stream images of the population of stars, and what the latents must tell."""
    stream = mock_images(count, seed=seed, first=first, **OPTIONS["stars"])
    for p, mocks, _, seen in stream:
        kind = torch.nn.functional.one_hot(p["type"].long(), len(TYPES)).float()
        cosine = mocks.truth.inclination.deg2rad().cos()
        shape = torch.stack(
            [mocks.truth.ellipticity, cosine, cosine * kind[:, 2:].sum(1)], 1
        )
        own = [p[key] for key in PARAMETERS]
        seen_arms = p["arm_strength"] * cosine
        met = torch.zeros(len(kind), len(KINDS) + 1)
        parts = [torch.stack([*own, seen_arms], 1), shape, kind, met]
        yield seen, torch.cat([part.float() for part in parts], 1)


def merger_batches(count, seed, first):
    """Stream images of interacting systems and others, and what they are."""
    for index in range(first, first + count):
        generator = generator_for(seed, "latents of mergers", index)
        groups, truth, foreign = draw_systems("near", generator, OPTIONS["mergers"])
        for images, extra in observe_near(groups, truth, foreign, generator):
            seen = measured(images, bool(extra["colored"][0]), generator)
            kind = torch.nn.functional.one_hot(truth["kind"], len(KINDS)).float()
            together = ((truth["stage"] == 1) | (truth["stage"] == 2)).float()
            rest = torch.full((len(kind), len(PARAMETERS) + 4 + len(TYPES)), torch.nan)
            yield seen, torch.cat([rest, kind, together[:, None]], 1)


def measured(images, colored, generator):
    """Give images whose sizes and centers are measured, at times as color images."""
    data, bands = images.data, images.bands
    if colored:
        pictures, _, _ = color_pictures(
            data, images.noise, images.pixel_scale, images.center.double(), generator
        )
        data = torch.from_numpy(linear_images(np.moveaxis(pictures, 3, 1) / 255.0))
        data = data.float()
    n, place = len(data), bands.index("r")
    sizes = [measure_size(one[place].numpy(), np.nan) for one in data]
    unknown = np.full((n, len(bands)), np.nan)
    return GalaxyImages(
        values=data.numpy(),
        bands=bands,
        wavelengths=pivot_wavelengths(bands),
        calibrated=True,
        r_eff=np.array([radius for radius, _ in sizes], dtype=float),
        noise=unknown,
        psf_fwhm=unknown.copy(),
        center=np.array([place for _, place in sizes], dtype=float),
        pixel_scale=np.full(n, np.nan),
        flags=np.zeros(n, dtype=int),
        names=[None] * n,
    )


def picture_batches(count, seed, first):
    """Stream the pictures of the development half; of these nothing is known."""
    names, _, pictures = galaxy_zoo(range(6))
    order = np.argsort(names)
    order = [i for i in order if half_of(names[i]) == "development"]
    width = len(PARAMETERS) + 4 + len(TYPES) + len(KINDS) + 1
    for start in range(0, len(order), PICTURES):
        rows = order[start : start + PICTURES]
        for seen in read_images(pictures[rows][:, ::-1]).members:
            yield seen, torch.full((len(seen), width), torch.nan)


BATCHES = {
    "stars": star_batches,
    "mergers": merger_batches,
    "pictures": picture_batches,
}


def chunk(name, kind, first, count, cache):
    """Prepare some batches of a set, or take them from the cache."""
    seed = SEEDS[name]

    def make():
        parts = []
        generator = generator_for(seed, f"poorer {kind}", first)
        for seen, properties in BATCHES[kind](count, seed, first):
            good = np.flatnonzero(np.isfinite(seen.r_eff) & (seen.r_eff > 0.7))
            pairs = prepare_pairs(seen[good], INPUT, generator)
            row = {
                key: value.half() if key.endswith("image") else value
                for key, value in pairs.inputs.items()
            }
            parts.append(row | {"properties": properties[good]})
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    return cached(cache, f"{name}-{kind}-{seed}-{first}", make)


def galaxies(name, cache=None):
    """Prepare one set."""
    parts = [
        chunk(name, kind, first, min(CHUNK, count - first), cache)
        for kind, count in STREAMS[name].items()
        for first in range(0, count, CHUNK)
    ]
    if name == "training":
        parts += [chunk(name, "pictures", 0, 0, cache)] * REPEATED
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def standardize(sets):
    """Count properties from their means in the first set, in units of their scatter."""
    known = sets[0]["properties"].float()
    mean = known.nanmean(0)
    spread = (known - mean).square().nanmean(0).sqrt().clamp_min(1e-3)
    for data in sets:
        data["properties"] = (data["properties"] - mean) / spread


def train(cards, cache=None):
    """Train the network."""
    sets = [galaxies(name, cache) for name in SEEDS]
    standardize(sets)
    model = fit_prepared(
        MorphologyRecipe(),
        *sets,
        settings={"properties": sets[0]["properties"].shape[1]},
        epochs=EPOCHS,
        learning_rate=RATE,
        seed=SEED,
        card=cards[NAME],
        checkpoint=cache and cache / "morphology.checkpoint",
        progress=True,
        **TRAINING,
    )
    yield NAME, model


if __name__ == "__main__":
    train_or_check(__doc__, train, {NAME: card()}, {NAME: DOMAIN})
