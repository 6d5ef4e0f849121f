# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The pictures of the guide, from the example data, the mocks and the default models.

Run ``python docs/make_figures.py``.
"""

from importlib import resources
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import CCDData
from astropy.table import vstack
from figures_cutouts import draw_cutouts
from figures_mergers import draw_galaxy as draw_merger
from figures_mergers import draw_gallery as draw_mergers
from figures_morphology import draw_again, draw_plane
from figures_morphology import draw_similar as draw_alike
from figures_spin import draw_galaxy as draw_spin
from figures_spin import draw_gallery, draw_saliency
from figures_stars import draw_stars
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

import galml
from galml.gas_kinematics.mock_data import kinematic_angle
from galml.gas_kinematics.plots import VELOCITY_COLORS, plot_galaxy, plot_table
from galml.mocks import (
    build_gas,
    draw_gas,
    gas_maps,
    kinematics,
    project_gas,
    rotation_matrix,
)

IMAGES = Path(__file__).parent / "images"
EXAMPLES = resources.files("galml") / "data" / "examples"
SEED = 30_003
N_BATCHES = 16


def show(panel, velocity):
    """Velocities around their median, in a color scale of their own."""
    velocity = velocity - np.nanmedian(velocity)
    limit = np.nanpercentile(np.abs(velocity), 97)
    panel.imshow(
        velocity, origin="lower", cmap=VELOCITY_COLORS, vmin=-limit, vmax=limit
    )
    used = np.argwhere(np.isfinite(velocity))
    (y, x), half = used.mean(axis=0), 0.58 * np.ptp(used, axis=0).max()
    panel.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set_color("0.8")
    return (x, y), half, limit


def draw_example(panel, path, row):
    """One example map with its position angle and what was found."""
    ccd = CCDData.read(path)
    center, half, limit = show(panel, np.where(ccd.mask, np.nan, ccd.data))
    # The examples have north up and east left.
    angle, error = (
        row[name].to_value(u.deg) for name in ("position_angle", "position_angle_err")
    )
    length, theta = 0.85 * half, np.radians(angle)
    end = length * np.array([-np.sin(theta), np.cos(theta)])
    low, high = angle + 90 - error, angle + 90 + error
    panel.add_patch(Wedge(center, length, low, high, color="black", alpha=0.2))
    panel.plot(*np.transpose([center, center + end]), color="black", lw=1.6)
    panel.plot(*center, "o", color="black", ms=3)
    beam = ccd.header["BMAJ"] / ccd.wcs.wcs.cdelt[1]
    corner = center - half * 0.96 + beam / 2
    panel.add_patch(Circle(corner, beam / 2, fc="0.8", ec="0.4", lw=0.8))
    panel.text(0.97, 0.03, f"±{limit:.0f} km/s", transform=panel.transAxes,
               ha="right", fontsize=8, color="0.35")  # fmt: skip
    panel.set_title(row["name"].partition(" ")[2], fontsize=11, pad=5)
    panel.set_xlabel(
        f"κ = {row['circularity']:.2f} ± {row['circularity_err']:.2f}"
        f"    PA = {angle:.0f}° ± {error:.1f}°\n"
        f"truth {ccd.header['KAPPA']:.2f}, {ccd.header['PA']:.0f}°",
        fontsize=9,
    )


def draw_examples(name="circularity.png"):
    """Draw all example maps with what `galml.circularity` finds in them."""
    paths = sorted(EXAMPLES.glob("mock-*.fits"))
    table = galml.circularity(paths)
    figure = Figure(figsize=(11, 6.7), layout="constrained")
    figure.get_layout_engine().set(hspace=0.06)
    panels = figure.subplots(2, 4).flat
    for panel, path, row in zip(panels, paths, table, strict=True):
        draw_example(panel, path, row)
    save(figure, name)


def draw_turbulence(name="kappa.png"):
    """One disk, more and more turbulent: line-of-sight velocity and dispersion."""
    levels = (0.03, 0.3, 0.6, 0.9, 1.25)
    generator = torch.Generator().manual_seed(5)
    drawn = draw_gas(1, generator)
    plain = ("hole", "ring", "bar", "warp", "radial_flow", "clumps", "second",
             "second_fraction", "satellite_fraction", "arms")  # fmt: skip
    drawn |= {key: torch.zeros_like(drawn[key]) for key in plain}
    drawn |= {"speed": torch.tensor([180.0]), "dispersion": torch.tensor([12.0])}
    drawn |= {"turnover": torch.tensor([0.15]), "thickness": torch.tensor([0.03])}
    drawn |= {"wave_length": drawn["wave_length"].clamp(0.6, 1.3)}
    z, x = torch.eye(3)[None, 2], torch.eye(3)[None, 0]
    turn = rotation_matrix(z, torch.tensor([0.6]))
    turn = turn @ rotation_matrix(x, torch.deg2rad(torch.tensor([55.0])))
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(2, len(levels))
    for (upper, lower), level in zip(panels.T, levels, strict=True):
        drawn["turbulence"] = torch.tensor([level])
        generator = torch.Generator().manual_seed(6)
        gas = build_gas(drawn, 60_000, generator).rotated(turn)
        extent = 1.1 * drawn["radius"]
        flux, velocity, dispersion = project_gas(gas, 80, extent, torch.tensor([5.0]))
        faint = flux[0] < 0.02 * flux.max()
        show(upper, np.where(faint, np.nan, velocity[0]))
        hot = np.where(faint, np.nan, dispersion[0])
        image = lower.imshow(hot, origin="lower", cmap="magma", vmin=0, vmax=250)
        lower.set(xlim=upper.get_xlim(), ylim=upper.get_ylim(), xticks=[], yticks=[])
        upper.set_title(f"κ = {float(kinematics(gas).kappa[0]):.2f}")
    panels[0, 0].set_ylabel("velocity")
    panels[1, 0].set_ylabel("dispersion")
    figure.colorbar(image, ax=panels[1], label="km/s", pad=0.01)
    figure.colorbar(panels[0, -1].images[0], ax=panels[0], ticks=[], pad=0.01)
    save(figure, name)


def draw_galaxy(name="galaxy.png"):
    """Draw the figure of one galaxy."""
    path = EXAMPLES / "mock-06.fits"
    save(plot_galaxy(path, galml.circularity(path)[0]), name)


def draw_table(name="table.png"):
    """Draw the figure of a table of mocks with noise, against their truth."""
    tables, truth = [], {"circularity": [], "position_angle": []}
    for _, maps in gas_maps(N_BATCHES, batch_size=64, seed=SEED, noisy=True):
        velocity = maps.velocity.numpy() * u.km / u.s
        tables.append(galml.circularity(velocity, beam=maps.beam.numpy() * u.pix))
        truth["circularity"].append(maps.truth.kappa.numpy())
        truth["position_angle"].append(kinematic_angle(maps.ideal).numpy())
    truth = {key: np.concatenate(values) for key, values in truth.items()}
    save(plot_table(vstack(tables, metadata_conflicts="silent"), truth), name)


def save(figure, name):
    """Write one picture."""
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / name, dpi=100, pil_kwargs={"optimize": True})
    print(f"written: {name}, {(IMAGES / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    draw_examples()
    draw_turbulence()
    draw_galaxy()
    draw_table()
    save(draw_cutouts(), "cutouts.jpg")
    save(draw_gallery(), "spins.jpg")
    save(draw_spin(), "spin_galaxy.png")
    save(draw_saliency(), "spin_saliency.png")
    save(draw_mergers(), "mergers.jpg")
    save(draw_merger(), "merger_galaxy.png")
    save(draw_plane(), "morphology.jpg")
    save(draw_again(), "morphology_drawn.jpg")
    save(draw_alike(), "morphology_similar.jpg")
    save(draw_stars(), "stars.jpg")
