# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Published tables of λ_R against the criteria and the definitions of their papers.

Run ``python benchmarks/lambda_r_tables.py``. R is the distance from the center for
ATLAS3D (Emsellem et al. 2007, 2011) and the semi-major axis of the ellipse through the
spaxel for SAMI (van de Sande et al. 2017). Which one a table used shows in κ of
λ_R = κ V/σ / √(1 + κ² (V/σ)²), which is 1.1 by distance (Emsellem et al. 2011) and less
by semi-major axis. Both are measured with `galml.lambda_r` on a simulated galaxy, and
λ_R of two observed galaxies on maps of SAURON and of CALIFA.
"""

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import QTable, Table
from common import shared_data, write_figures

from galml.stellar_kinematics import lambda_r

N_VIEWS = 60
PIXEL, N_PIXELS = 0.4, 100
#: Limits of slow rotation, λ_R = k √ε, within one and half an effective radius.
LIMITS = {"1": 0.31, "2": 0.265}
ATLAS3D = (
    "name",
    "r_max",
    "ellipticity_1",
    "ellipticity_2",
    "band",
    "v_over_sigma_1",
    "v_over_sigma_2",
    "lambda_r_1",
    "lambda_r_2",
    "class_1",
    "class_2",
)
#: Files of observed spaxels, with their columns of position; effective radius of the
#: circle (arcsec), position angle (degrees), and parts of the radius, with ellipticity
#: and λ_R of ATLAS3D. The map of NGC 4570 ends at 0.7 effective radii.
OBSERVED = {
    "ngc4570_sauron": (
        "XS",
        "YS",
        20.0,
        159.3,
        {0.7: (0.626, 0.603), 0.5: (0.551, 0.498)},
    ),
    "ngc6278_califa": (
        "X",
        "Y",
        16.6,
        305.5,
        {1.0: (0.409, 0.576), 0.5: (0.401, 0.411)},
    ),
}


def read_atlas3d(folder):
    """Table B1 of Emsellem et al. (2011)."""
    return Table.read(
        folder / "Emsellem2011_Atlas3D_Paper3_TableB1.txt",
        format="ascii.no_header",
        comment="#",
        names=ATLAS3D,
    )


def read_sami(folder):
    """Galaxies of SAMI DR3 with λ_R and a visual type."""
    path = folder / "sami_dr3_stellar_kinematics.csv"
    return Table.read(path, format="ascii.csv", fill_values=[("", "nan")])


def column(table, name):
    """Give a column as numbers, NaN where there is none."""
    return np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan)


def kappa(spin, ordered):
    """Give κ of the least-squares fit to λ_R, and the scatter about it."""
    good = np.isfinite(spin) & np.isfinite(ordered) & (spin > 0)
    spin, ordered = spin[good], ordered[good]
    grid = np.linspace(0.5, 1.5, 1001)[:, None] * ordered
    residual = spin - grid / np.sqrt(1 + grid**2)
    best = (residual**2).sum(1).argmin()
    return {
        "kappa": round(0.5 + best / 1000, 3),
        "scatter": round(float(residual[best].std()), 4),
        "galaxies": int(good.sum()),
    }


def classes(atlas3d):
    """Compare fast and slow rotators by λ_R = k √ε with the published classes."""
    figures = {}
    for suffix, limit in LIMITS.items():
        spin = column(atlas3d, f"lambda_r_{suffix}")
        edge = limit * np.sqrt(column(atlas3d, f"ellipticity_{suffix}"))
        fast = spin >= edge
        published = np.array(atlas3d[f"class_{suffix}"]) == "F"
        wrong = fast != published
        figures[f"atlas3d_class_within_r_eff_over_{suffix}"] = {
            "criterion": f"{limit} sqrt(ellipticity)",
            "galaxies": len(spin),
            "fast": int(published.sum()),
            "agreement": round(float((~wrong).mean()), 4),
            "differ": {
                str(atlas3d["name"][i]): f"{spin[i]:.3f} against {edge[i]:.4f}"
                for i in np.flatnonzero(wrong)
            },
        }
    return figures


def slow_fractions(spin, ellipticity):
    """Slow rotators by Emsellem et al. (2011) and by Cappellari (2016)."""
    good = np.isfinite(spin) & np.isfinite(ellipticity)
    spin, ellipticity = spin[good], ellipticity[good]
    cappellari = (spin < 0.08 + ellipticity / 4) & (ellipticity < 0.4)
    return {
        "galaxies": int(good.sum()),
        "emsellem_2011": round(float((spin < 0.31 * np.sqrt(ellipticity)).mean()), 4),
        "cappellari_2016": round(float(cappellari.mean()), 4),
    }


def photometries(sami):
    """λ_R of SAMI in its two apertures: Sérsic and MGE photometry."""
    first, second = column(sami, "lambdar_re"), column(sami, "lambdar_re_mge")
    errors = [column(sami, f"lambdar_re{key}_err") for key in ("", "_mge")]
    difference = (first - second)[np.isfinite(first) & np.isfinite(second)]
    return {
        "galaxies": len(difference),
        "median_difference": round(float(np.median(difference)), 4),
        "scatter_68": round(float(np.quantile(abs(difference), 0.68)), 4),
        "median_quoted_error": round(float(np.nanmedian(errors)), 4),
    }


def simulated(folder):
    """One TNG galaxy from many sides: λ_R and κ by both kinds of R."""
    stars = np.load(folder / "tng_394242_stars.npy").astype(float)
    potential = np.load(folder / "tng_394242_potential_stars.npy")
    mass, place, speed = stars[:, 0], stars[:, 1:4], stars[:, 4:7]
    place = place - place[potential.argmin()]
    center = [(N_PIXELS - 1) / 2] * 2
    rows = {"circular": [], "elliptical": []}
    for axis in np.random.default_rng(0).normal(size=(N_VIEWS, 3, 3)):
        frame = np.linalg.qr(axis)[0]
        x, y, _ = (place @ frame).T
        v = speed @ frame[:, 2]
        size = half_light(x, y, mass)
        maps = project(x, y, v, mass)
        for radius, found in rows.items():
            table = lambda_r(
                *maps,
                unit="km/s",
                r_eff=size / PIXEL * u.pix,
                ellipticity=None,
                center=center,
                radius=radius,
            )
            found.append([table[c][0] for c in ("lambda_r", "v_over_sigma")])
    spins = {radius: np.array(found).T for radius, found in rows.items()}
    circular, elliptical = spins["circular"][0], spins["elliptical"][0]
    figures = {radius: kappa(*found) for radius, found in spins.items()}
    figures["median_circular_minus_elliptical"] = round(
        float(np.median(circular - elliptical)), 4
    )
    return figures


def observed(folder):
    """λ_R of observed galaxies beside what ATLAS3D published."""
    figures = {}
    for name, (x, y, size, angle, parts) in OBSERVED.items():
        data = fits.getdata(folder / f"{name}.fits.gz", 1)
        spaxels = QTable(
            {
                "x": data[x] * u.arcsec,
                "y": data[y] * u.arcsec,
                "flux": data["FLUX"].astype(float),
                "velocity": data["VPXF"] * u.km / u.s,
                "dispersion": data["SPXF"] * u.km / u.s,
            }
        )
        for part, (ellipticity, published) in parts.items():
            row = lambda_r(
                spaxels,
                r_eff=part * size / np.sqrt(1 - ellipticity) * u.arcsec,
                center=(0, 0),
                ellipticity=ellipticity,
                position_angle=angle * u.deg,
            )[0]
            figures[f"{name}_within_{part}_r_eff"] = {
                "lambda_r": round(float(row["lambda_r"]), 3),
                "atlas3d": published,
                "coverage": round(float(row["coverage"]), 3),
            }
    return figures


def half_light(x, y, mass):
    """Radius of the circle that holds half the mass on the image."""
    radius = np.hypot(x, y)
    order = radius.argsort()
    total = np.cumsum(mass[order])
    return radius[order][np.searchsorted(total, total[-1] / 2)]


def project(x, y, v, mass):
    """Make maps of mass, mean velocity and dispersion."""
    edge = PIXEL * N_PIXELS / 2
    edges = np.linspace(-edge, edge, N_PIXELS + 1)
    moments = [
        np.histogram2d(y, x, bins=(edges, edges), weights=mass * v**k)[0]
        for k in range(3)
    ]
    with np.errstate(invalid="ignore"):
        mean = moments[1] / moments[0]
        variance = moments[2] / moments[0] - mean**2
        return moments[0], mean, np.sqrt(np.maximum(variance, 0))


def main():
    """Read the tables, measure, write."""
    folder = shared_data("ifu_spin_tables")
    atlas3d, sami = read_atlas3d(folder), read_sami(folder)
    spin = {name: column(sami, name) for name in sami.colnames if "re" in name}
    figures = classes(atlas3d) | {
        "atlas3d_by_distance": kappa(
            column(atlas3d, "lambda_r_1"), column(atlas3d, "v_over_sigma_1")
        ),
        "sami_by_semi_major_axis": kappa(spin["lambdar_re"], spin["vsigma_re"]),
        "sami_mge_by_semi_major_axis": kappa(
            spin["lambdar_re_mge"], spin["vsigma_re_mge"]
        ),
        "sami_two_photometries": photometries(sami),
        "slow_rotators_atlas3d": slow_fractions(
            column(atlas3d, "lambda_r_1"), column(atlas3d, "ellipticity_1")
        ),
        "slow_rotators_sami": slow_fractions(spin["lambdar_re_mge"], spin["epsmge_re"]),
        "simulated_galaxy": simulated(shared_data("stars")),
        "observed_galaxies": observed(shared_data("ifu_maps")),
    }
    write_figures("lambda_r_tables", figures)


if __name__ == "__main__":
    main()
