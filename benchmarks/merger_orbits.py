# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Published orbits of real interacting systems, run with the mocks' test particles.

    python benchmarks/merger_orbits.py [--page page.png]

Holincheck et al. (2016), MNRAS 459, 720, fitted orbits of restricted three-body
simulations (JSPAM: Wallin, Holincheck & Harvey 2016, Astronomy and Computing 16, 26) to
images of 62 systems, by the eyes of volunteers. Here their test particles move through
their potential, as `galml.mocks.merger_dynamics.move_particles` moves those of mocks,
and are set beside the images of the systems that there are. A fit is as good as the
correlation of the square roots of both maps, with 48 pixels a side. Beside it stand
that of the same disks without an encounter, at the same places, and that of each run
with the images of the other systems.

Nothing is chosen by these figures. The page has observed pixels, which may not be
handed on, of the half of the systems that a hash of their names gives to development:
best and worst fit first and last.
"""

import argparse
import hashlib
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy.table import Table
from common import shared_data, write_figures
from PIL import Image
from scipy.integrate import cumulative_trapezoid, solve_ivp
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from galml.mocks.merger_dynamics import (
    KPC_PER_GYR,
    STEP,
    Orbit,
    move_particles,
    spherical_gravity,
)

#: Units of the orbits: kpc, km/s, and their time in Gyr.
LENGTH, SPEED = 15.0, 169.33
TIME = LENGTH / SPEED / KPC_PER_GYR
#: Radii of the potential's own units in one of the orbits' lengths, the mass of halo,
#: disk and bulge there, and the Coulomb logarithm.
INNER, WHOLE, COULOMB = 10.0, 7.13333, 0.001
N_PARTICLES, N_PIXELS, SEED = 4000, 48, 5
#: Names of images that are not those of their orbits.
ALIASES = {"HST_CGCG": "hst_Arp_220"}


def published_potential():
    """Tabulate radius, pull, density and dispersion of a galaxy of mass 1, G = 1.

    Halo, disk and bulge as in JSPAM, after Hernquist (1993), ApJS 86, 389; density and
    dispersion are those by which it computes friction.
    """
    step = 0.01
    r = step * np.arange(1, 2001)
    q = 0.1
    norm = 1 / (1 - math.sqrt(math.pi) * q * math.exp(q**2) * (1 - erf(q)))
    halo = 5.8 * norm / (2 * math.pi**1.5) * np.exp(-((r / 10) ** 2))
    halo = halo / ((r / 10) ** 2 + q**2) / 10**3
    disk = np.exp(-r) / (8 * math.pi)
    bulge = np.exp(-((r / 0.2) ** 2))
    bulge = bulge / 3 / (4 * math.pi * bulge * r**2 * step).sum()
    mass = (4 * math.pi * (halo + disk + bulge) * r**2 * step).cumsum()
    pull = mass / r**2
    soft = r <= 0.5
    pull[soft] = mass[soft] / (r[soft] ** 2 + 0.1 * (0.5 - r[soft]))
    mass = r**2 * pull
    density = mass / (4 * math.pi * r**2 * step)
    pressure = density * mass / r**2
    above = cumulative_trapezoid(pressure[::-1], dx=step, initial=0)[::-1] + 1e-12
    sigma = above / density
    r, pull = r / INNER, pull * INNER**2 / WHOLE
    return r, pull, density * INNER**3 / WHOLE, sigma * INNER**2 / WHOLE


def pull_at(table, radius):
    """Interpolate the pull of mass 1; beyond the table all of it is inside."""
    r, pull = table[:2]
    return np.interp(radius, r, pull) * np.minimum(1, r[-1] / radius) ** 2


def friction_rate(table, apart, motion, mass, coulomb=COULOMB):
    """Find the rate at which friction ends the motion of a mass, as JSPAM does.

    Places and motions, of shape (..., 3), are relative to the first galaxy.
    """
    r, _, density, sigma = table
    radius, speed = (np.linalg.norm(value, axis=-1) for value in (apart, motion))
    ratio = speed / np.interp(radius, r, sigma)
    slower = erf(ratio) - 2 * ratio / math.sqrt(math.pi) * np.exp(-(ratio**2))
    strength = 4 * math.pi * mass * coulomb / speed**2 * slower
    return strength * np.interp(radius, r, density) / speed * (radius <= r[-1])


def run_back(table, parameters, start):
    """Follow both galaxies back from now, in the units of the orbits.

    Gives times from the start to now, and places and motions of both.
    """
    place, motion = np.array(parameters[:3]), np.array(parameters[3:6])
    first, second = parameters[6:8]
    n_steps = round(-start * TIME / STEP)

    def friction(apart, motion):
        return -friction_rate(table, apart, motion, second) * motion

    def change(_, state):
        x, v = state.reshape(2, 2, 3)
        apart, relative = x[1] - x[0], v[1] - v[0]
        radius = max(np.linalg.norm(apart), 1e-3)
        pull = pull_at(table, radius) * apart / radius
        slowed = friction(apart, relative)
        return np.concatenate([v[0], v[1], second * pull, -first * pull + slowed])

    now = np.concatenate([np.zeros(3), place, np.zeros(3), motion])
    times = -np.arange(n_steps + 1) * STEP / TIME
    found = solve_ivp(
        change, (0, times[-1]), now, t_eval=times, rtol=1e-7, atol=1e-8, method="DOP853"
    )
    states = found.y.T[::-1].copy().reshape(-1, 2, 2, 3)
    drag = [friction(x[1] - x[0], v[1] - v[0]) for x, v in states]
    drag = np.stack([np.zeros_like(drag), drag], 1)
    return states[:, 0], states[:, 1], drag


def disk_frame(phi, theta):
    """Give the rotation from a disk's own axes to those of the orbit, by its angles."""
    theta, phi = math.radians(theta), math.radians(phi)
    cosine, sine = math.cos(theta), math.sin(theta)
    tilt = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    cosine, sine = math.cos(phi), math.sin(phi)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ tilt


def published_gravity(table, masses):
    """Give the gravity of galaxies of masses, of shape (n, g), in kpc and km/s."""

    def speed2(radius):
        pull = pull_at(table, radius.numpy() / LENGTH)
        unit = torch.from_numpy(pull * radius.numpy() / LENGTH)
        return SPEED**2 * masses[..., None] * unit

    return spherical_gravity(torch.full(masses.shape, 5.0), speed2)


def read_orbits(folder):
    """Read the orbits: name, parameters, time of the start and half width."""
    for line in (folder / "orbits.txt").read_text().splitlines():
        numbers, start, half, name = line.split()
        parameters = [float(number) for number in numbers.split(",")]
        yield name, parameters, float(start), float(half)


def disks(table, parameters, generator):
    """Lay out the particles of both disks, of even numbers by radius."""
    places, motions = [], []
    columns = (parameters[first : first + 2] for first in (6, 8, 10, 12))
    for mass, edge, phi, theta in zip(*columns, strict=True):
        inner = edge * 0.075
        radius = inner + (edge - inner) * generator.random(N_PARTICLES)
        angle = 2 * math.pi * generator.random(N_PARTICLES)
        speed = np.sqrt(mass * pull_at(table, radius) * radius)
        frame = disk_frame(phi, theta)
        along = np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
        around = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], -1)
        places.append(radius[:, None] * along @ frame.T)
        motions.append(speed[:, None] * around @ frame.T)
    return np.stack(places), np.stack(motions)


def simulate(table, parameters, start, generator):
    """Run one system, and give the places of its particles now, as seen from the first.

    Also those of the same disks without an encounter; in kpc, of shape (2, p, 3).
    """
    x, v, drag = run_back(table, parameters, start)
    place, motion = disks(table, parameters, generator)
    masses = torch.tensor(parameters[6:8], dtype=torch.float64)
    gravity = published_gravity(table, masses[None])
    tensors = [torch.from_numpy(value[:, None]) for value in (x, v, drag)]
    orbit = Orbit(
        LENGTH * tensors[0], SPEED * tensors[1], SPEED**2 / LENGTH * tensors[2]
    )
    begin = (place + x[0][:, None]).reshape(1, -1, 3)
    moving = (motion + v[0][:, None]).reshape(1, -1, 3)
    n = N_PARTICLES
    found, _ = move_particles(
        gravity,
        orbit,
        [slice(0, n), slice(n, 2 * n)],
        torch.from_numpy(LENGTH * begin),
        torch.from_numpy(SPEED * moving),
        torch.tensor([[len(x) - 1]]),
    )
    found = found[0, 0].numpy().reshape(2, n, 3) - LENGTH * x[-1, 0]
    still = LENGTH * (place + (x[-1] - x[-1, 0])[:, None])
    separation = LENGTH * np.linalg.norm(x[:, 1] - x[:, 0], axis=-1)
    return found, still, separation


def as_map(places, masses, half):
    """Lay particles on pixels."""
    weights = np.repeat(np.array(masses) / N_PARTICLES, N_PARTICLES)
    flat = places.reshape(-1, 3)
    edges = np.linspace(-half, half, N_PIXELS + 1)
    image = np.histogram2d(flat[:, 1], flat[:, 0], (edges, edges), weights=weights)[0]
    return np.sqrt(gaussian_filter(image, 0.8))


def observed(path, system):
    """Read an image about the first galaxy, y up, and its half width in its own."""
    gray = np.asarray(Image.open(path).convert("L"), float)
    height, width = gray.shape
    x, y = round(float(system["px"])), round(float(system["py"]))
    half = min(x, y, width - x, height - y)
    half -= half % (N_PIXELS // 2)
    cut = gray[y - half : y + half, x - half : x + half][::-1]
    size = 2 * half // N_PIXELS
    binned = cut.reshape(N_PIXELS, size, N_PIXELS, size).mean((1, 3))
    sky = np.percentile(binned, 20)
    return np.sqrt((binned - sky).clip(0)), cut, half / (width / 2)


def likeness(first, second):
    """Correlate two maps."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def draw_page(path, shown):
    """Lay out images and runs, from the best fit to the worst."""
    figure, axes = plt.subplots(len(shown), 3, figsize=(6, 2 * len(shown)))
    for line, (name, cut, run, still, fit) in zip(axes, shown, strict=True):
        titles = name, f"run: {fit:.2f}", "no encounter"
        for axis, image, title in zip(line, (cut, run, still), titles, strict=True):
            axis.imshow(image, origin="lower", cmap="gray")
            axis.set_title(title, fontsize=7)
            axis.set_axis_off()
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=90)


def main():
    """Run all systems that have an image."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", help="file for a page with observed pixels")
    page = parser.parse_args().page
    folder = shared_data("interacting")
    systems = {
        row["file"].removesuffix(".jpg"): row
        for row in Table.read(folder / "systems.csv", format="ascii.csv")
    }
    by_letters = {name.replace("_", "").lower(): name for name in systems}
    table = published_potential()
    runs, images, stills, figures, shown = [], [], [], {}, []
    for name, parameters, start, half in read_orbits(folder):
        plain = ALIASES.get(name, name).replace("_", "").lower()
        image_name = by_letters.get(plain)
        if image_name is None:
            continue
        generator = np.random.default_rng(SEED)
        found, still, separation = simulate(table, parameters, start, generator)
        path = folder / "images" / f"{image_name}.jpg"
        image, cut, part = observed(path, systems[image_name])
        width = half * LENGTH * part
        run, control = (as_map(x, parameters[6:8], width) for x in (found, still))
        nearest = int(separation.argmin())
        figures[name] = {
            "fit": likeness(image, run),
            "no_encounter": likeness(image, control),
            "pericenter_kpc": float(separation.min()),
            "gyr_since_pericenter": STEP * (len(separation) - 1 - nearest),
            "mass_ratio": min(parameters[6:8]) / max(parameters[6:8]),
        }
        runs.append(run)
        stills.append(control)
        images.append(image)
        if hashlib.sha256(name.encode()).digest()[0] % 2 == 0:
            shown.append((name, cut, run, control, figures[name]["fit"]))
    fits = np.array([row["fit"] for row in figures.values()])
    free = np.array([row["no_encounter"] for row in figures.values()])
    others = [
        likeness(image, run)
        for i, image in enumerate(images)
        for j, run in enumerate(runs)
        if i != j
    ]
    summary = {
        "n_systems": len(fits),
        "fit": np.percentile(fits, [16, 50, 84]).tolist(),
        "no_encounter": np.percentile(free, [16, 50, 84]).tolist(),
        "other_systems": np.percentile(others, [16, 50, 84]).tolist(),
        "better_than_no_encounter": float((fits > free).mean()),
        "best": max(figures, key=lambda name: figures[name]["fit"]),
        "worst": min(figures, key=lambda name: figures[name]["fit"]),
    }
    write_figures("merger_orbits", {"summary": summary, "systems": figures})
    print(summary)
    if page:
        draw_page(page, sorted(shown, key=lambda row: -row[-1]))


if __name__ == "__main__":
    main()
