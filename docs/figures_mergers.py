# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The pictures of the guide to mergers; see ``make_figures.py``."""

from importlib import resources

import astropy.units as u
import numpy as np
import torch
from astropy.cosmology import Planck18
from matplotlib.figure import Figure

import galml
from galml.core.plots import draw_scale
from galml.mergers import STAGES
from galml.mergers.mock_data import stage_of
from galml.mergers.plots import plot_galaxy
from galml.mocks import (
    build_projections,
    build_stars,
    deep_starlight,
    draw_clumpy,
    draw_stars,
    merger_galaxies,
    observe_deep,
    random_orientation,
)
from galml.physics import generator_for
from galml.physics.bands import AB_ZERO

EXAMPLES = resources.files("galml") / "data" / "examples"
SEED, SHOWN, N_STARS = 22, 3, 8000
#: Filter, field, pixels and their side in arcsec; redshift and magnitude of all mocks.
FILTER, FIELD, N_PIXELS, SCALE = "F814W", "GOODS-S", 128, 0.03
REDSHIFT, MAGNITUDE = 0.9, 22.0
#: Stages of which mocks are shown, each in a column.
COLUMNS = ((1, 2), (3,), (4,))
#: Of an image, what is shown as linear and what as white, in errors of a pixel.
LINEAR, WHITE = 3.0, -0.7


def draw_systems(generator):
    """Draw galaxies that do not merge, and some that do; with what they are."""
    kinds = {"clumpy disk": draw_clumpy, "other galaxy": draw_stars}
    for name, draw in kinds.items():
        galaxy = build_stars(draw(SHOWN, generator), N_STARS, generator, n_gas=0)
        galaxy = galaxy.rotated(random_orientation(SHOWN, generator))
        yield galaxy, None, [name] * SHOWN
    galaxy = build_projections(draw_clumpy(2 * SHOWN, generator), N_STARS, generator)
    foreign = torch.arange(galaxy.n_stars) >= galaxy.n_stars // 2
    yield galaxy, foreign.expand(SHOWN, -1), ["projection"] * SHOWN
    stream = merger_galaxies(
        1,
        batch_size=36,
        snapshots=6,
        views=1,
        n_particles=N_STARS,
        clumpy=0.5,
        triples=0.0,
        seed=SEED,
    )
    galaxy, known, encounter = next(stream)
    stage = stage_of(known)
    for wanted in COLUMNS:
        places = torch.isin(stage, torch.tensor(wanted)).nonzero()[:, 0]
        # One of each encounter, as far as there are enough.
        first = {int(encounter[place]): int(place) for place in places}
        rows = [*first.values(), *places.tolist()][:SHOWN]
        times = known.time_since_coalescence[rows]
        names = [
            STAGES[int(stage[row])] + (f", {time:.2f} Gyr" if time > 0 else "")
            for row, time in zip(rows, times.tolist(), strict=True)
        ]
        yield galaxy[rows], None, names


def observe():
    """Take images: fluxes in nJy, errors of a pixel, and what galaxies are."""
    generator = generator_for(SEED, "gallery of mergers", 0)
    z = torch.full((SHOWN,), REDSHIFT)
    flux = AB_ZERO * 10 ** (-0.4 * (MAGNITUDE - Planck18.distmod(REDSHIFT).value))
    parts, noise, names = [], [], []
    for galaxy, foreign, kinds in draw_systems(generator):
        light = deep_starlight(galaxy, (FILTER,), z)
        light = light * (flux / light.sum((1, 2), keepdim=True))
        images = observe_deep(
            galaxy,
            light,
            FIELD,
            z,
            N_PIXELS,
            generator,
            bands=(FILTER,),
            foreign=foreign,
        )
        parts.append(images.data.numpy())
        noise.append(images.noise[:, 0].numpy())
        names += kinds
    return np.concatenate(parts), np.concatenate(noise), names


def draw_gallery():
    """Draw mocks with what is found, and what they are."""
    data, noise, names = observe()
    known = {"filter": FILTER, "field": FIELD, "pixel_scale": SCALE * u.arcsec}
    table = galml.merger(data * u.nJy, seed=SEED, **known)
    columns = len(data) // SHOWN
    figure = Figure(figsize=(1.8 * columns, 2.35 * SHOWN), layout="constrained")
    panels = figure.subplots(SHOWN, columns).T.flat
    for panel, image, error, row, name in zip(
        panels, data[:, 0], noise, table, names, strict=True
    ):
        shown = np.arcsinh(image / (LINEAR * error))
        panel.imshow(shown, origin="lower", cmap="gray_r", vmin=np.arcsinh(WHITE))
        panel.set_axis_off()
        draw_scale(panel, SCALE, "black")
        chance, scatter = row["merger_probability"], row["merger_probability_err"]
        found = STAGES[np.argmax(row["stage_probability"])]
        text = f"P = {chance:.2f} ± {scatter:.2f}\n{found}\ntrue: {name}"
        panel.set_title(text, fontsize=8)
    return figure


def draw_galaxy():
    """Draw the post-merger of the examples, and what was found."""
    path = EXAMPLES / "merger-01.fits"
    return plot_galaxy(path, galml.merger(path, seed=SEED)[0])
