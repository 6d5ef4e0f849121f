# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the model of `galml.latents` on mocks, and on real pixels without labels.

    python benchmarks/train_morphology.py [--cache FOLDER] [--check]

Mock galaxies of many surveys and interacting ones of SDSS are seen as they are, and as
a poorer survey would have them; so are the galaxies of the Galaxy Zoo in the
development half, of which no label is used. From the morphology part of the latents the
network must draw the galaxy, tell the parameters of the mocks, and give the same
latents for both images. Latents of the surroundings have a network of their own, which
learns to tell the stages of interacting systems and what only looks like one. The cache
keeps what is prepared, so that a training that was stopped goes on; ``--check`` tells
whether the weights in the package have this recipe.
"""

import numpy as np
import torch
from astropy.table import QTable, vstack
from common import cached, describe, galaxy_zoo, half_of, train_or_check

from galml.core.fitting import fit_prepared, new_network
from galml.core.model import GalaxyModel
from galml.core.training import train as train_network
from galml.imaging import GalaxyImages, read_images
from galml.imaging.color_pictures import color_pictures
from galml.imaging.rgb import linear_images
from galml.imaging.stamps import measure_size
from galml.mergers.mock_data import KINDS, draw_systems, observe_near
from galml.mocks import MERGER_POPULATION, STAR_POPULATION
from galml.mocks.star_recipe import TYPES
from galml.morphology.fitting import (
    INSIDE,
    MorphologyRecipe,
    mirror,
    surroundings_loss,
)
from galml.morphology.network import MorphologyNet
from galml.morphology.preparation import (
    INPUT,
    SURROUNDED,
    degrade,
    prepare_pairs,
    prepare_surroundings,
)
from galml.physics import generator_for, pivot_wavelengths
from galml.stellar_spin.mock_data import mock_images

#: Batches that are made at a time.
CHUNK = 5
#: For each set and kind the number of batches; and the seeds of the sets.
STREAMS = {
    "training": {"stars": 480, "mergers": 150, "surroundings": 80},
    "validation": {"stars": 20, "mergers": 5, "surroundings": 5},
    "calibration": {"stars": 30, "mergers": 5, "surroundings": 5},
}
SEEDS = {"training": 5001, "validation": 5002, "calibration": 5003}
OPTIONS = {"stars": {"batch_size": 64, "n_particles": 12_000}, "mergers": 8000}
#: Pictures of the Galaxy Zoo in a batch, and how often the training sees each of them.
PICTURES, REPEATED = 128, 3
EPOCHS, RATE, SEED = 32, 2e-3, 1
TRAINING = {"batch_size": 256, "dtype": "bfloat16"}
#: Latents of the surroundings, and how their network is trained.
SURROUNDINGS = 24
AROUND = {"epochs": 3, "learning_rate": 2e-3, "weight_decay": 1e-2, "seed": 1}
#: Parameters of mocks that the latents must tell; behind them follow how much of the
#: arms is seen, shape and types, and what interacting systems are.
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
#: Whether systems merge, are projections, have not yet merged, or are two galaxies.
MET, PAIRS = 4, ("merger", "projection")
WIDTH = len(PARAMETERS) + 4 + len(TYPES) + MET
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
            surroundings=[SURROUNDINGS, AROUND],
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
        met = torch.zeros(len(kind), MET)
        parts = [torch.stack([*own, seen_arms], 1), shape, kind, met]
        yield seen, torch.cat([part.float() for part in parts], 1)


def merger_batches(count, seed, first):
    """Stream images of interacting systems and others, and what they are."""
    for index in range(first, first + count):
        generator = generator_for(seed, "latents of mergers", index)
        groups, truth, foreign = draw_systems("near", generator, OPTIONS["mergers"])
        for images, extra in observe_near(groups, truth, foreign, generator):
            seen = measured(images, bool(extra["colored"][0]), generator)
            merging, beside = (truth["kind"] == KINDS.index(k) for k in PAIRS)
            early = (truth["stage"] == 1) | (truth["stage"] == 2)
            met = torch.stack([merging, beside, early, early | beside], 1).float()
            rest = torch.full((len(met), WIDTH - MET), torch.nan)
            yield seen, torch.cat([rest, met], 1)


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
    for start in range(0, len(order), PICTURES):
        rows = order[start : start + PICTURES]
        for seen in read_images(pictures[rows][:, ::-1]).members:
            yield seen, torch.full((len(seen), WIDTH), torch.nan)


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


def around(name, first, count, cache):
    """Prepare what is around some interacting systems and others, or take it."""
    seed = SEEDS[name]

    def make():
        parts = []
        poorer = generator_for(seed, "poorer surroundings", first)
        for index in range(first, first + count):
            generator = generator_for(seed, "latents of mergers", index)
            groups, truth, foreign = draw_systems("near", generator, OPTIONS["mergers"])
            for images, extra in observe_near(groups, truth, foreign, generator):
                seen = measured(images, bool(extra["colored"][0]), generator)
                good = np.flatnonzero(np.isfinite(seen.r_eff) & (seen.r_eff > 0.7))
                row = {key: truth[key][good] for key in ("stage", "kind")}
                row["image"] = prepare_surroundings(seen[good]).half()
                poor = degrade(seen[good], poorer)
                parts.append(row | {"other_image": prepare_surroundings(poor).half()})
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    return cached(cache, f"surroundings-{name}-{seed}-{first}", make)


def surroundings(name, cache=None):
    """Prepare one set of surroundings."""
    count = STREAMS[name]["surroundings"]
    starts = range(0, count, CHUNK)
    parts = [around(name, f, min(CHUNK, count - f), cache) for f in starts]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def galaxies(name, cache=None):
    """Prepare one set."""
    parts = [
        chunk(name, kind, first, min(CHUNK, STREAMS[name][kind] - first), cache)
        for kind in ("stars", "mergers")
        for first in range(0, STREAMS[name][kind], CHUNK)
    ]
    if name == "training":
        parts += [chunk(name, "pictures", 0, 0, cache)] * REPEATED
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def standardize(sets):
    """Count properties from their means in the first set, in units of their scatter.

    What winds is how much of the arms is seen.
    """
    known = sets[0]["properties"].float()
    arms = known[:, len(PARAMETERS)].square().nanmean().sqrt()
    mean = known.nanmean(0)
    spread = (known - mean).square().nanmean(0).sqrt().clamp_min(1e-3)
    for data in sets:
        data["winding"] = data["properties"][:, len(PARAMETERS)] / arms
        data["properties"] = (data["properties"] - mean) / spread


def train(cards, cache=None):
    """Train both networks, and make one model of them."""
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
    yield NAME, joined(model, *[surroundings(name, cache) for name in SEEDS])


def joined(model, *sets):
    """Train latents of surroundings, and add them to a model without them."""
    options = model.options | {"surroundings": SURROUNDINGS}
    network = new_network(MorphologyNet, options, seed=AROUND["seed"])
    network.load_state_dict(network.state_dict() | model.network.state_dict())
    part = network.surroundings
    # Galaxies as they are, and as a poorer survey has them.
    both = [
        {
            "image": torch.cat([data["image"], data["other_image"]]),
            **{key: data[key].repeat(2) for key in ("stage", "kind")},
        }
        for data in sets[:2]
    ]
    found = train_network(
        part, surroundings_loss, *both, augment=mirror, **TRAINING, **AROUND
    )
    network.eval()
    first, other = (latents_around(part, sets[2][f"{k}image"]) for k in ("", "other_"))
    error = torch.quantile((first - other).abs() / 2**0.5, INSIDE, dim=0).tolist()
    config = model.config | {"scatter": [*model.config["scatter"], *error]}
    described = {"operation": model.operation, "architecture": model.architecture}
    result = GalaxyModel(
        network,
        **described,
        options=options,
        input_spec=SURROUNDED,
        config=config,
        card=model.card,
    )
    result.history = vstack([QTable(model.history), found.history])
    return result


def latents_around(network, image):
    """Give latents of surroundings as the model gives them, shape (n, k)."""
    with torch.no_grad():
        parts = [network.of_all_views(one.float()) for one in image.split(256)]
    return torch.cat(parts)


if __name__ == "__main__":
    train_or_check(__doc__, train, {NAME: card()}, {NAME: DOMAIN})
