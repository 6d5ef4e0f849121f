# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the model of `galml.latents` on mocks, and on real pixels without labels.

    python benchmarks/train_morphology.py [--cache FOLDER] [--check]

Mock galaxies of many surveys and interacting ones of SDSS are seen as they are, and as
a poorer survey would have them; so are the galaxies of the Galaxy Zoo in the
development half, of which no label is used. From the morphology part of the latents the
network must draw the galaxy, tell the parameters of the mocks, and give the same
latents for both images. Latents of the surroundings have networks of their own: some
learn to tell the stages of interacting mocks and what only looks like one; others learn
from the observed galaxies, beside which another one was pasted, in contact or not. The
cache keeps what is prepared, so that a training that was stopped goes on; ``--check``
tells whether the weights in the package have this recipe.
"""

import numpy as np
import torch
from astropy.stats import mad_std
from astropy.table import QTable, vstack
from common import cached, describe, galaxy_zoo, half_of, train_or_check
from scipy.ndimage import gaussian_filter, shift

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
#: Smallest effective radius in pixels.
SMALLEST = 0.7
#: Pictures of the Galaxy Zoo in a batch, and how often the training sees each of them.
PICTURES, REPEATED = 128, 3
EPOCHS, RATE, SEED = 32, 2e-3, 1
TRAINING = {"batch_size": 256, "dtype": "bfloat16"}
#: Latents of the surroundings, and how their networks are trained: on mocks for a short
#: time, as the longer they learn from these, the less they know observed galaxies.
SURROUNDINGS = 32
AROUND = {"learning_rate": 2e-3, "weight_decay": 1e-2, "seed": 1}
LEARNED = {"interacting": {"epochs": 3}, "pasted": {"epochs": 4}}
#: Radii of galaxies that are pasted beside others, over those of the others; logarithms
#: of the ratio of fluxes, if bright or faint; distances over the sum of both radii, if
#: in contact or apart; and the seed. One in so many chooses the best epoch.
RADII, BRIGHT, FAINT = (0.4, 1.6), np.log([0.25, 1.5]), np.log([0.01, 0.06])
CONTACT, APART, PASTING_SEED, CHOOSING = (0.6, 2.0), (3.2, 6.0), 5, 10
#: Of its own light: smoothing in pixels, significance at which nothing and all of it
#: counts, and where it fades and ends, in effective radii.
SMOOTHING, COUNTS, ENDS = 1.5, (1.0, 3.0), (3.0, 4.5)
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
            surroundings=[SURROUNDINGS, AROUND, LEARNED],
            pasting=[RADII, [*BRIGHT], [*FAINT], CONTACT, APART, PASTING_SEED],
            pasted=[SMOOTHING, COUNTS, ENDS, CHOOSING],
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
    return sized(data.numpy(), bands)


def sized(values, bands):
    """Give images in nJy, of which no more is known, with sizes that are measured."""
    n, place = len(values), bands.index("r")
    sizes = [measure_size(one[place], np.nan) for one in values]
    unknown = np.full((n, len(bands)), np.nan)
    return GalaxyImages(
        values=values,
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
            good = np.flatnonzero(np.isfinite(seen.r_eff) & (seen.r_eff > SMALLEST))
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
                good = np.flatnonzero(np.isfinite(seen.r_eff) & (seen.r_eff > SMALLEST))
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


class Pasting:
    """Observed galaxies, and others that are pasted beside them.

    Parameters
    ----------
    images : list of `~galml.imaging.GalaxyImages`
        Pictures of one shape.
    """

    def __init__(self, images):
        self.values, self.center, self.r_eff = (
            np.concatenate([getattr(part, key) for part in images])
            for key in ("values", "center", "r_eff")
        )
        self.values = self.values.astype(np.float32)
        self.place = images[0].bands.index("r")
        self.known = np.isfinite(self.r_eff) & (self.r_eff > SMALLEST)
        self.cells = np.indices(self.values.shape[2:])
        light = self.values[:, self.place]
        self.noise = mad_std(light, axis=(1, 2))
        rows = range(len(light))
        self.flux = np.array(
            [light[i][self._far(i) < 2 * self.r_eff[i]].sum() for i in rows]
        )
        self.rng = np.random.default_rng(PASTING_SEED)

    def pasted(self, row, contact):
        """Give a galaxy with another one in contact or not, or None outside."""
        rng, other = self.rng, self._other(row)
        bright = contact or rng.random() < 0.5
        ratio = np.exp(rng.uniform(*(BRIGHT if bright else FAINT)))
        near = contact or not bright
        distance = rng.uniform(*(CONTACT if near else APART))
        distance *= self.r_eff[row] + self.r_eff[other]
        light = self._own_light(other) * (ratio * self.flux[row] / self.flux[other])
        turns = int(rng.integers(4))
        light = np.rot90(light, turns, (1, 2))
        angle = rng.uniform(0, 2 * np.pi)
        target = self.center[row] + distance * np.array([np.cos(angle), np.sin(angle)])
        sides = np.array(light.shape[:0:-1])
        if contact and not ((target > 0) & (target < sides)).all():
            return None
        middle = (sides - 1) / 2
        place = self.center[other] - middle
        for _ in range(turns):
            place = place[[1, 0]] * (1, -1)
        step = (target - place - middle)[::-1]
        return self.values[row] + np.stack([shift(one, step, order=1) for one in light])

    def _other(self, row):
        """Draw another galaxy of a similar size."""
        low, high = RADII
        while True:
            other = int(self.rng.integers(len(self.values)))
            alike = low < self.r_eff[other] / self.r_eff[row] < high
            if self.known[other] and other != row and alike and self.flux[other] > 0:
                return other

    def _own_light(self, row):
        """Give the light of a galaxy without its sky and neighbors."""
        soft = gaussian_filter(self.values[row, self.place], SMOOTHING)
        (nothing, full), (fading, end) = COUNTS, ENDS
        significance = soft / max(self.noise[row], 1e-6)
        weight = np.clip((significance - nothing) / (full - nothing), 0, 1)
        place = self._far(row) / self.r_eff[row]
        weight *= np.clip((end - place) / (end - fading), 0, 1)
        return (self.values[row] * weight).astype(np.float32)

    def _far(self, row):
        """Give the distance of pixels from the center of a galaxy."""
        y, x = self.cells
        return np.hypot(x - self.center[row, 0], y - self.center[row, 1])


def pasted_pictures(cache):
    """Prepare surroundings of observed galaxies with and without another in contact."""

    def make():
        names, _, pictures = galaxy_zoo(range(6))
        order = [i for i in np.argsort(names) if half_of(names[i]) == "development"]
        parts = [
            member
            for start in range(0, len(order), PICTURES)
            for member in read_images(
                pictures[order[start : start + PICTURES]][:, ::-1]
            ).members
        ]
        pasting = Pasting(parts)
        rows, bands = np.flatnonzero(pasting.known), parts[0].bands
        poorer = generator_for(SEEDS["training"], "poorer pasted", 0)
        made = []
        for contact in (None, True, False):
            for start in range(0, len(rows), PICTURES):
                some = rows[start : start + PICTURES]
                values = [
                    pasting.values[row]
                    if contact is None
                    else pasting.pasted(row, contact)
                    for row in some
                ]
                seen = sized(np.stack([v for v in values if v is not None]), bands)
                good = np.flatnonzero(np.isfinite(seen.r_eff) & (seen.r_eff > SMALLEST))
                made.append(
                    {
                        "image": prepare_surroundings(seen[good]).half(),
                        "other_image": prepare_surroundings(
                            degrade(seen[good], poorer)
                        ).half(),
                        "pasted": torch.full((len(good),), float(contact is True)),
                    }
                )
        return {key: torch.cat([part[key] for part in made]) for key in made[0]}

    return cached(cache, f"pasted-{PASTING_SEED}", make)


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
    around = [surroundings(name, cache) for name in SEEDS]
    yield NAME, joined(model, pasted_pictures(cache), *around)


def joined(model, pasted, *sets):
    """Train latents of surroundings, and add them to a model without them."""
    options = model.options | {"surroundings": SURROUNDINGS}
    network = new_network(MorphologyNet, options, seed=AROUND["seed"])
    network.load_state_dict(network.state_dict() | model.network.state_dict())
    part, history = network.surroundings, [QTable(model.history)]
    choosing = torch.arange(len(pasted["pasted"])) % CHOOSING == 0
    observed = [
        {key: values[rows] for key, values in pasted.items()}
        for rows in (~choosing, choosing)
    ]
    for name, data in (("interacting", sets[:2]), ("pasted", observed)):
        found = train_network(
            getattr(part, name),
            surroundings_loss,
            *map(as_seen, data),
            augment=mirror,
            **TRAINING,
            **AROUND,
            **LEARNED[name],
        )
        history.append(found.history)
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
    result.history = vstack(history)
    return result


def as_seen(data):
    """Put galaxies as they are and as a poorer survey has them one after the other."""
    images = torch.cat([data["image"], data["other_image"]])
    known = {key: data[key].repeat(2) for key in data if not key.endswith("image")}
    return {"image": images} | known


def latents_around(network, image):
    """Give latents of surroundings as the model gives them, shape (n, k)."""
    with torch.no_grad():
        parts = [network.of_all_views(one.float()) for one in image.split(256)]
    return torch.cat(parts)


if __name__ == "__main__":
    train_or_check(__doc__, train, {NAME: card()}, {NAME: DOMAIN})
