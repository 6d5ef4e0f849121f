# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How well `galml.merger` knows mergers of another simulator than that of its training.

    python benchmarks/mergers/transfer.py [--cache FOLDER] [--model FILE]
    python benchmarks/mergers/transfer.py --page page.png

One set of mocks is the recipe's, of other seeds than the training's. The other has the
orbits, the masses, the sizes and the disks' planes that Holincheck et al. (2016), MNRAS
459, 720, fitted to images of real systems, and the potential of their simulations, with
another halo and a bulge and a disk that are the same in all galaxies: see
``merger_orbits.py``. These orbits go on after the moment of the images until the
galaxies are one, as the recipe defines it. The law of the friction is published, too,
but with its strength none of the systems would merge: the Coulomb logarithm is that of
equal masses here, ln 2, as the recipe has it for these. Systems that take longer than
`LONGEST` are left out.

Stars are of the recipe's population, with motions that are scaled, place by place, by
the ratio of the circular speeds; gas that flows in, the burst and the dust are the
recipe's, too. Galaxies that do not merge are the same disks that never met, after as
long a time, alone and as chance projections. Both sets are observed alike; of the
recipe's, each third image is taken, so that encounters are seen from one side at each
moment.

Told are the shares of mergers that are found at thresholds that 5 % of the galaxies of
the same set that do not merge reach, and what the threshold of one set does to the
other; with 68 % intervals by drawing systems with replacement.
"""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from galml.core.weights import load_model
from galml.mergers.mock_data import (
    CLUMPY,
    MOMENTS,
    VIEWS,
    _columns,
    _observe_deep,
    _stars_of,
    observe_near,
    stage_of,
)
from galml.mergers.posterior import LATEST_POSITIVE, MAJOR
from galml.mergers.preparation import FILTERS, INPUT
from galml.mocks import build_mergers, merger_recipe, random_orientation
from galml.mocks.lookalikes import LENGTHS
from galml.mocks.merger_dynamics import (
    KPC_PER_GYR,
    STEP,
    Orbit,
    grid_place,
)
from galml.mocks.merger_recipe import FAST, PARTICLES, REACH
from galml.physics.seeds import generator_for

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import cached, shared_data, show, write_figures
from merger_orbits import (
    LENGTH,
    SPEED,
    TIME,
    WHOLE,
    disk_frame,
    friction_rate,
    published_gravity,
    published_potential,
    pull_at,
    read_orbits,
    run_back,
)
from mocks import answers, test_set

#: Coulomb logarithm; Gyr from the moment of the images until the galaxies are one, at
#: most, and how much longer orbits are followed.
COULOMB, LONGEST, LATER = math.log(2), 3.0, 1.1
#: Steps of the orbits between two places of a particle.
SUBSTEPS = 4
#: Unit of mass of the orbits in solar masses, and the share of stars in it: disk and
#: bulge. Half of the published disks' particles are inside this times their edge.
UNIT, STARS, HALF_MASS = 1e11, (1 + 1 / 3) / WHOLE, 0.5375
#: How far from each other galaxies are that never meet, in kpc.
FAR = 4000.0
#: Batches of each place, their seed, particles of stars of a system that meets and of
#: two galaxies that do not, and from how many sides galaxies are seen alone and as
#: chance projections.
BATCHES, SEED, N_PARTICLES, N_ALONE, ALONE, PAIRS = (
    {"deep": 2, "near": 2},
    4101,
    8000,
    12_000,
    3,
    2,
)
#: Largest share of galaxies that do not merge above a threshold; draws of systems; and
#: fewest galaxies of each class in a filter.
FALSE, DRAWS, FEWEST = 0.05, 500, 40
#: Systems of a page, their particles, and their redshift.
SHOWN, PAGE_PARTICLES, PAGE_REDSHIFT = 8, 16_000, 0.03


def run_on(table, places, motions, masses):
    """Follow galaxies on from now, as `run_back` does, in the units of the orbits.

    Shapes are (n, 2, 3), masses (n, 2). Gives places, motions and friction at each
    `STEP`, (t, n, 2, 3).
    """
    half = STEP / TIME / SUBSTEPS / 2
    x, v = places.copy(), motions.copy()

    def accelerate():
        apart, relative = x[:, 1] - x[:, 0], v[:, 1] - v[:, 0]
        radius = np.linalg.norm(apart, axis=-1).clip(1e-3)
        pull = (pull_at(table, radius) / radius)[:, None] * apart
        rate = friction_rate(table, apart, relative, masses[:, 1], COULOMB)
        # No step turns a motion around.
        drag = -rate.clip(max=0.1 / half)[:, None] * relative
        pulls = masses[:, 1:] * pull, -masses[:, :1] * pull
        return np.stack(pulls, 1), np.stack([np.zeros_like(drag), drag], 1)

    found = []
    pull, drag = accelerate()
    for _ in range(round((LONGEST + LATER) / STEP) + 1):
        found.append((x.copy(), v.copy(), drag))
        for _ in range(SUBSTEPS):
            v += half * (pull + drag)
            x += 2 * half * v
            pull, drag = accelerate()
            v += half * (pull + drag)
    return [np.stack(values) for values in zip(*found, strict=True)]


def published_systems():
    """Follow the published systems from their start until they are one, and on.

    Returns
    -------
    dict
        ``names``; ``orbit``, and of n systems, the heavier galaxy first: ``gravity``,
        ``mass`` of the stars, ``size`` (n, 2), ``frames`` (n, 2, 3, 3),
        ``first_passage`` and ``coalescence`` (n,) in Gyr after the start.
    counts : dict of str to int
        How many orbits there are, how many merge, and how many of these count as
        major.
    """
    table = published_potential()
    names, parameters, starts, _ = zip(
        *read_orbits(shared_data("interacting")), strict=True
    )
    numbers = np.array([row[:14] for row in parameters])
    nothing = np.zeros((len(names), 3))
    now, moving = (
        np.stack([nothing, numbers[:, columns]], 1)
        for columns in (slice(0, 3), slice(3, 6))
    )
    later = run_on(table, now, moving, numbers[:, 6:8])
    order = np.argsort(-numbers[:, 6:8], 1)
    masses, edges = (
        np.take_along_axis(numbers[:, columns], order, 1)
        for columns in (slice(6, 8), slice(8, 10))
    )
    size = torch.from_numpy(LENGTH * HALF_MASS * edges)
    end = _orbit(later).coalescence(REACH * size[:, 0])
    merged = np.flatnonzero(end.numpy() * STEP <= LONGEST)
    whole = []
    for i in merged:
        past = run_back(table, parameters[i], starts[i])
        joined = [
            np.concatenate([before[:-1], after[:, i]])[:, order[i]]
            for before, after in zip(past, later, strict=True)
        ]
        whole.append(joined)
    shortest = min(len(one[0]) for one in whole)
    orbit = _orbit(
        [np.stack([v[:shortest] for v in one], 1) for one in zip(*whole, strict=True)]
    )
    frames = [
        [disk_frame(*numbers[i, [10 + j, 12 + j]]) for j in order[i]] for i in merged
    ]
    size, masses = size[merged], torch.from_numpy(masses[merged])
    systems = {
        "names": [names[i] for i in merged],
        "orbit": orbit,
        "gravity": published_gravity(table, masses),
        "mass": (UNIT * STARS * masses).float(),
        "size": size.float(),
        "frames": torch.from_numpy(np.array(frames)).float(),
        "first_passage": STEP * _first_passage(orbit).float(),
        "coalescence": STEP * orbit.coalescence(REACH * size[:, 0]).float(),
    }
    major = int((masses[:, 1] >= MAJOR * masses[:, 0]).sum())
    return systems, {"orbits": len(names), "merge": len(merged), "major": major}


def _orbit(values):
    """Give orbits, from their own units to kpc and km/s."""
    units = LENGTH, SPEED, SPEED**2 / LENGTH
    pairs = zip(units, values, strict=True)
    return Orbit(*(unit * torch.from_numpy(value) for unit, value in pairs))


def _first_passage(orbit):
    """Find the step of the first pericenter; some orbits start on their way out."""
    change = orbit.separation.diff(dim=0)
    return ((change > 0) & ((change < 0).cumsum(0) > 0)).int().argmax(0)


def some_of(systems, rows):
    """Choose some of the systems."""
    orbit = systems["orbit"]
    paths = orbit.position, orbit.velocity, orbit.friction
    chosen = {
        key: value[rows]
        for key, value in systems.items()
        if key not in ("names", "orbit")
    }
    names = [systems["names"][i] for i in rows.tolist()]
    return chosen | {"names": names, "orbit": Orbit(*(x[:, rows] for x in paths))}


def draw_galaxies(systems, where, generator):
    """Draw stars, gas and dust of the recipe's population for all systems.

    Returns
    -------
    dict of str to `torch.Tensor`
        Parameters, as `galml.mocks.draw_mergers` gives them, at the recipe's moments
        but the last.
    """
    n = len(systems["names"])
    p = merger_recipe._draw_encounters(n, generator, 2, CLUMPY[where])
    for name in reversed(LENGTHS):
        p[name] = p[name] * systems["size"] / p["size"]
    p["gas_mass"] = p["gas_mass"] * systems["mass"] / p["stellar_mass"]
    ratio = systems["mass"] / systems["mass"][:, :1]
    # What flows in and burns depends on the mass ratio.
    old, new = (0.3 + 0.7 * one[:, 1].sqrt() for one in (p["mass_ratio"], ratio))
    for name in ("inflow", "burst"):
        p[name] = p[name] * new / old
    p |= {"stellar_mass": systems["mass"], "mass_ratio": ratio}
    ends = first, last = systems["first_passage"], systems["coalescence"]
    p |= {"first_passage": first, "coalescence": last}
    times = []
    for end, low, high in MOMENTS[where]:
        if end == 1 and low >= LATEST_POSITIVE:
            continue
        low = ends[end] + low
        high = last if high is None else ends[end] + high
        if end == 0:
            low, high = (t.minimum(last - 0.02).clamp_min(0.01) for t in (low, high))
        times.append(low + (high - low) * torch.rand(n, generator=generator))
    return p | {"time": torch.stack(times, 1).sort(1)[0]}


def build(p, systems, orbit, n_particles, generator):
    """Build encounters of the recipe with other gravity, orbits and disk planes."""
    gravity, own = systems["gravity"], merger_recipe._gravity(p)
    recipe_build = merger_recipe._build_one

    def build_one(q, gravity, i, count, frame, generator):
        part = recipe_build(q, own, i, count, frame, generator)
        radius = torch.linalg.vector_norm(part["position"], dim=-1)
        before, after = (_speed2(one, i, radius) for one in (own, gravity))
        part["velocity"] = part["velocity"] * (after / before).sqrt()[..., None]
        frequency = after.sqrt() / radius.clamp_min(1e-3)
        part["kept"] = (frequency * STEP * KPC_PER_GYR > FAST)[:, :count]
        return part

    with patch.multiple(
        merger_recipe,
        _gravity=lambda p: gravity,
        _start=lambda p, gravity: (),
        follow=lambda gravity, n_steps: orbit,
        _from_pericenter=lambda orbit: orbit,
        _disk_frames=lambda p: systems["frames"],
        _build_one=build_one,
    ):
        return build_mergers(p, n_particles, generator)


def _speed2(gravity, i, radius):
    """Squared circular speed of galaxy i of each system at radii in kpc."""
    low, _ = grid_place(radius / gravity.scale[:, i, None].float())
    return gravity.speed2[:, i].float().gather(1, low)


def build_alone(p, systems, generator):
    """Build both galaxies of each system as they are if they never meet.

    Returns
    -------
    list of `~galml.mocks.Galaxy`
        Stars of the first galaxies, and of the second ones.
    """
    n = len(p["size"])
    never = torch.full((n,), torch.inf)
    last = systems["coalescence"] + 0.5 * torch.rand(n, generator=generator)
    p = p | {"first_passage": never, "coalescence": never, "time": last[:, None]}
    apart = torch.zeros_like(systems["orbit"].position)
    apart[:, :, 1, 0] = FAR
    rest = torch.zeros_like(apart)
    galaxy, _ = build(p, systems, Orbit(apart, rest, rest), N_ALONE, generator)
    stars = galaxy.stars
    count = round(N_ALONE * PARTICLES[2][0])
    found = []
    for i, particles in enumerate((slice(count), slice(count, N_ALONE))):
        own = {
            name: getattr(stars, name)[:, particles]
            for name in (
                "position",
                "velocity",
                "mass",
                "dispersion",
                "age",
                "metallicity",
                "component",
            )
        }
        one = replace(stars, **own, dust=stars.dust[i : i + 1])
        found.append(one.moved(-apart[0, :, i].float(), torch.zeros(n, 3)))
    return found


def beside(first, second, size, generator):
    """Put second galaxies beside first ones, far behind or before them."""
    n = len(first)
    draw = torch.rand(3, n, generator=generator)
    aside = (0.5 + 2 * draw[0]) * size.sum(1)
    angle, depth = 2 * math.pi * draw[1], 4000 * draw[2] - 2000
    step = torch.stack([aside * angle.cos(), aside * angle.sin(), depth], -1)
    return first.joined(second.moved(step, torch.zeros_like(step)))


def turned(galaxy, views, generator):
    """Look at galaxies from some random sides each."""
    rows = torch.arange(len(galaxy)).repeat_interleave(views)
    return galaxy[rows].rotated(random_orientation(len(rows), generator))


def draw_published(systems, where, generator):
    """Draw galaxies of the published systems, as `draw_systems` those of the recipe."""
    n, number = len(systems["names"]), torch.arange(len(systems["names"]))
    p = draw_galaxies(systems, where, generator)
    galaxy, known = build(p, systems, systems["orbit"], N_PARTICLES, generator)
    moments = p["time"].shape[1]
    alone = build_alone(p, systems, generator)
    pairs = beside(
        *(turned(one, PAIRS, generator) for one in alone),
        systems["size"].repeat_interleave(PAIRS, 0),
        generator,
    )
    groups = [
        turned(_stars_of(galaxy), 1, generator),
        *(turned(_stars_of(one), ALONE, generator) for one in alone),
        _stars_of(pairs),
    ]
    copies = (moments, ALONE, ALONE, PAIRS)
    sizes = systems["size"][:, [0, 0, 1, 0]].T
    met = len(galaxy)
    stage = torch.zeros(sum(copies) * n, dtype=torch.long)
    stage[:met] = stage_of(known)
    truth = {
        "stage": stage,
        "system": torch.cat([number.repeat_interleave(k) for k in copies]),
        "size": torch.cat(
            [one.repeat_interleave(k) for one, k in zip(sizes, copies, strict=True)]
        ),
    }
    return groups, truth


def published_set(systems, where, index):
    """Prepare a batch of the published systems, as the network sees them."""
    generator = generator_for(SEED, f"published {where}", index)
    groups, truth = draw_published(systems, where, generator)
    observe = _observe_deep if where == "deep" else observe_near
    rows = [
        _columns(images, extra, generator, INPUT, False) | truth
        for images, extra in observe(groups, truth, [None] * len(groups), generator)
    ]
    return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}


def recalls(scores, positives):
    """Find what each set's threshold does to both: the recipe's first."""
    cuts = [
        np.quantile(score[~positive], 1 - FALSE)
        for score, positive in zip(scores, positives, strict=True)
    ]
    (recipe, other), (first, second) = scores, positives
    found = {
        "recipe": (recipe[first] > cuts[0]).mean(),
        "published": (other[second] > cuts[1]).mean(),
        "published, recipe's threshold": (other[second] > cuts[0]).mean(),
        "false, recipe's threshold": (other[~second] > cuts[0]).mean(),
    }
    return found | {"fall": found["recipe"] - found["published"]}


def compare(scores, positives, systems, rng):
    """Give recalls, and their intervals by drawing systems."""
    result = recalls(scores, positives)
    places = [[np.flatnonzero(s == one) for one in np.unique(s)] for s in systems]
    draws = []
    for _ in range(DRAWS):
        rows = [
            np.concatenate([own[i] for i in rng.integers(len(own), size=len(own))])
            for own in places
        ]
        chosen = (
            [value[row] for value, row in zip(values, rows, strict=True)]
            for values in (scores, positives)
        )
        draws.append(list(recalls(*chosen).values()))
    ends = np.nanpercentile(draws, [16, 84], axis=0).T
    counts = {
        f"{name} {kind}": int((positive == truth).sum())
        for name, positive in zip(("recipe", "published"), positives, strict=True)
        for kind, truth in (("mergers", True), ("others", False))
    }
    intervals = zip(result.items(), ends, strict=True)
    return counts | {
        key: [float(value), *map(float, pair)] for (key, value), pair in intervals
    }


def judge(model, sets, rng):
    """Compare both sets of one place, filter by filter, after and before coalescence.

    Before it, what counts is that a galaxy is not a non-merger.
    """
    found = [answers(model, data) for data in sets]
    stages = [data["stage"].numpy() for data in sets]
    filters = [data["filter"].numpy() for data in sets]
    systems = [data["system"].numpy() for data in sets]
    chances = {
        "after": ([one["samples"].mean(1) for one in found], (3,)),
        "before": ([1 - one["stages"][:, 0] for one in found], (1, 2)),
    }
    result = {}
    for number, name in enumerate(FILTERS):
        for kind, (scores, counted) in chances.items():
            rows = [
                (own == number) & ((stage == 0) | np.isin(stage, counted))
                for own, stage in zip(filters, stages, strict=True)
            ]
            numbers = [
                np.bincount(stage[row] > 0, minlength=2).min()
                for stage, row in zip(stages, rows, strict=True)
            ]
            if min(numbers) < FEWEST:
                continue
            some = (
                [value[row] for value, row in zip(values, rows, strict=True)]
                for values in (scores, [stage > 0 for stage in stages], systems)
            )
            result[f"{name}, {kind}"] = compare(*some, rng)
    return result


def draw_page(path, systems):
    """Draw mocks of the published systems without noise, and such that never met."""
    import matplotlib.pyplot as plt
    from merger_gallery import pictures

    generator = generator_for(SEED, "published page", 0)
    count = len(systems["names"])
    systems = some_of(systems, torch.arange(SHOWN) * count // SHOWN)
    p = draw_galaxies(systems, "near", generator)
    galaxy, known = build(p, systems, systems["orbit"], PAGE_PARTICLES, generator)
    alone = build_alone(p, systems, generator)[0]
    moments = p["time"].shape[1]
    figure, axes = plt.subplots(SHOWN, moments + 1, figsize=(1.6 * moments, 10.6))
    for i, line in enumerate(axes):
        rows = torch.arange(i * moments, (i + 1) * moments)
        turn = random_orientation(1, generator)
        images = pictures(
            galaxy[rows].rotated(turn.expand(moments, 3, 3)), generator, PAGE_REDSHIFT
        )
        images += pictures(alone[i : i + 1].rotated(turn), generator, PAGE_REDSHIFT)
        labels = [f"{t:+.2f} Gyr" for t in known.time_since_coalescence[rows].tolist()]
        labels[0] = f"{known.mass_ratio[rows[0]]:.2f}: {labels[0]}"
        for axis, image, label in zip(line, images, [*labels, "never"], strict=True):
            axis.imshow(image, interpolation="bilinear")
            axis.text(3, 4, label, color="white", fontsize=6, va="top")
            axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(path, dpi=100)


def main():
    """Measure, print and write; or draw a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    systems, counts = published_systems()
    print(counts)
    if args.page:
        draw_page(args.page, systems)
        return
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    rows, sets = {}, {}
    for where, number in BATCHES.items():
        parts = [
            cached(
                args.cache,
                f"published-{where}-{SEED}-{index}",
                lambda where=where, index=index: published_set(systems, where, index),
            )
            for index in range(number)
        ]
        other = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        sets[where] = other
    model = load_model(args.model, "merger")
    for where, other in sets.items():
        recipe = test_set(where, args.cache)[0]
        recipe = {key: value[::VIEWS] for key, value in recipe.items()}
        rows |= judge(model, (recipe, other), rng)
    values = {
        name: {key: np.ravel(value)[0] for key, value in row.items()}
        for name, row in rows.items()
    }
    show("filter", values)
    figures = {"model": model.name, "sha256": model.sha256, "systems": counts}
    write_figures("mergers_transfer", figures | {"filters": rows})


if __name__ == "__main__":
    main()
