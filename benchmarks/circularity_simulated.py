# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Simulated galaxies from 100 directions: circularity and angle against their particles.

    python benchmarks/circularity_simulated.py

A galaxy of IllustrisTNG, its gas and its stars, and the stars of three of Illustris
stand for what the mocks do not contain: nobody drew them from a recipe. The population
of mocks was judged on the galaxies of the development half, as a hash of their names
sorts them.
"""

import hashlib
import math
import sys

import astropy.units as u
import numpy as np
import torch
from astropy.table import Table
from common import ROOT, shared_data, write_figures

import galml
from galml.gas_kinematics.metrics import angle_error, coverage, scatter68
from galml.mocks import Galaxy, Kinematics, kinematics, project_gas
from galml.mocks.gas_map import gas_aperture

N_VIEWS = 100
CHUNK = 10
SIZE = 64
BEAMS_ACROSS = 15
FAINTEST = 0.01
THERMAL = {"gas": 10.0, "stars": 0.0}
LOWEST_INCLINATION = 30
TNG = "tng_394242"
ILLUSTRIS = tuple(f"illustris1_m31_analog_{n}" for n in (417175, 420815, 426280))
ILLUSTRIS_H = 0.704


def is_development(name):
    """Whether a galaxy is one that the population of mocks was judged on."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def as_galaxy(mass, position, velocity, kind):
    """Particles of one kind as a `Galaxy`."""
    return Galaxy(
        torch.from_numpy(position.astype(np.float32))[None],
        torch.from_numpy(velocity.astype(np.float32))[None],
        torch.from_numpy((mass / mass.sum()).astype(np.float32))[None],
        torch.full((1, len(mass)), THERMAL[kind]),
    )


def read_tng(folder):
    """Particles of gas and stars, centered on the minimum of the potential."""
    data, potential = {}, {}
    for kind in THERMAL:
        data[kind] = np.load(folder / f"{TNG}_{kind}.npy")
        potential[kind] = np.load(folder / f"{TNG}_potential_{kind}.npy")
    deepest = min(potential, key=lambda kind: potential[kind].min())
    center = data[deepest][potential[deepest].argmin(), 1:4]
    return {
        (TNG, kind): as_galaxy(rows[:, 0], rows[:, 1:4] - center, rows[:, 4:7], kind)
        for kind, rows in data.items()
    }


def read_illustris(folder, name):
    """Stars, without gas in a wind, which has the scale factor of its birth below 0."""
    rows = np.load(folder / f"{name}.npy")
    rows = rows[rows[:, 7] >= 0]
    return as_galaxy(rows[:, 6], rows[:, :3] / ILLUSTRIS_H, rows[:, 3:6], "stars")


def directions(n):
    """Rotations that bring evenly spread directions to the line of sight."""
    index = torch.arange(n)
    z = 1 - (2 * index + 1) / n
    azimuth = index * math.pi * (3 - math.sqrt(5))
    ring = (1 - z**2).sqrt()
    axis = torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], -1)
    # Any axis across will do for the image's x; the golden angle rolls it about.
    roll = (azimuth * math.sqrt(2))[:, None]
    east = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros(n)], -1)
    north = torch.linalg.cross(axis, east)
    right = roll.cos() * east + roll.sin() * north
    return torch.stack([right, torch.linalg.cross(axis, right), axis], 1)


def observe(particles):
    """Make maps of velocity and dispersion, and the truth inside their masks."""
    distance = torch.linalg.vector_norm(particles.position[0], dim=-1)
    order = distance.argsort()
    enclosed = particles.mass[0][order].cumsum(0)
    radius = distance[order][int((enclosed < 0.9).sum())]
    extent = 1.05 * radius
    beam = SIZE / (2 * extent) * 2 * radius / BEAMS_ACROSS
    grid = torch.arange(SIZE) - (SIZE - 1) / 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    velocities, dispersions, truths = [], [], []
    for turn in directions(N_VIEWS).split(CHUNK):
        n = len(turn)
        seen = particles[torch.zeros(n, dtype=torch.long)].rotated(turn)
        reach = extent.expand(n)
        flux, velocity, dispersion = project_gas(seen, SIZE, reach, beam.expand(n))
        mask = flux > FAINTEST * flux.amax((1, 2), keepdim=True)
        truths.append(kinematics(seen, gas_aperture(seen, mask, x, y, reach, SIZE)))
        velocities.append(torch.where(mask, velocity, torch.nan))
        dispersions.append(torch.where(mask, dispersion, torch.nan))
    truth = Kinematics(
        **{k: torch.cat([getattr(t, k) for t in truths]) for k in vars(truths[0])}
    )
    velocity, dispersion = (
        torch.cat(images).numpy() * u.km / u.s for images in (velocities, dispersions)
    )
    return velocity, dispersion, truth, float(beam) * u.pix


def judge(result, truth):
    """Numbers about the results of all directions."""
    kappa = truth.kappa.numpy()
    error = result["circularity"] - kappa
    tilted = truth.inclination.numpy() >= LOWEST_INCLINATION
    turn = angle_error(result["position_angle"], truth.position_angle.numpy())[tilted]
    width = result["position_angle_err"].to_value(u.deg)[tilted]
    return {
        "kappa_true": np.mean(kappa),
        "kappa": np.mean(result["circularity"]),
        "kappa_scatter68": scatter68(error),
        "kappa_scatter68_tilted": scatter68(error[tilted]),
        "kappa_coverage68": coverage(
            kappa, result["circularity_lo"], result["circularity_hi"]
        ),
        "pa_scatter68": scatter68(turn),
        "pa_coverage68": np.mean(np.abs(turn) <= width),
        "quality": np.mean(result["map_quality"]),
    }


def draw(panels, path):
    """Predicted circularity and error of the angle against inclination."""
    import matplotlib.pyplot as plt

    keys = list(dict.fromkeys(key[:2] for key in panels))
    figure, axes = plt.subplots(
        2, len(keys), figsize=(16, 6.5), sharex=True, sharey="row", squeeze=False
    )
    for column, (name, kind) in enumerate(keys):
        top, bottom = axes[:, column]
        truth = panels[name, kind, False][1]
        tilt = truth.inclination.numpy()
        for used in (False, True):
            result = panels[name, kind, used][0]
            style = {"fmt": "o" if used else "s", "ms": 3, "lw": 0.6, "alpha": 0.7}
            label = "with dispersion map" if used else "velocity map alone"
            middle = result["circularity"]
            ends = middle - result["circularity_lo"], result["circularity_hi"] - middle
            top.errorbar(tilt, middle, yerr=np.clip(ends, 0, 1), label=label, **style)
            turn = angle_error(result["position_angle"], truth.position_angle.numpy())
            width = result["position_angle_err"].to_value(u.deg)
            bottom.errorbar(tilt, turn, yerr=width, **style)
        order = np.argsort(tilt)
        top.plot(tilt[order], truth.kappa.numpy()[order], "k-", label="particles")
        bottom.axhline(0, color="k")
        bottom.set(xlabel="inclination [deg]", ylim=(-45, 45))
        label = name.replace("illustris1_m31_analog_", "Illustris ")
        top.set(title=f"{label.replace('tng_', 'TNG ')}, {kind}", ylim=(0, 1))
    axes[0, 0].set_ylabel("circularity")
    axes[1, 0].set_ylabel("error of position angle [deg]")
    axes[0, 0].legend(loc="lower left", fontsize="small")
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"written: {path.relative_to(ROOT)}")


def main():
    """Print the table and return the exit status."""
    folder = shared_data("stars")
    galaxies = read_tng(folder)
    galaxies |= {(name, "stars"): read_illustris(folder, name) for name in ILLUSTRIS}
    figures, panels, rows = {"directions": N_VIEWS}, {}, []
    for (name, kind), particles in galaxies.items():
        half = "development" if is_development(name) else "reporting"
        velocity, dispersion, truth, beam = observe(particles)
        for used in (False, True):
            result = galml.circularity(
                list(velocity),
                dispersion=list(dispersion) if used else None,
                center=((SIZE - 1) / 2, (SIZE - 1) / 2),
                beam=beam,
                tracer=kind,
            )
            panels[name, kind, used] = result, truth
            numbers = {k: round(float(v), 3) for k, v in judge(result, truth).items()}
            about = {"galaxy": name, "half": half, "seen": kind, "dispersion": used}
            rows.append(about | numbers)
            key = f"{name}, {kind}" + (", dispersion" if used else "")
            figures[key] = {"half": half} | numbers
    table = Table(rows)
    for name in table.colnames[4:]:
        table[name].info.format = ".3f"
    table.pprint(max_lines=-1, max_width=-1)
    draw(panels, ROOT / "docs" / "images" / "simulated.png")
    write_figures("circularity_simulated", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
