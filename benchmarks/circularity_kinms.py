# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Circularities of disks that KinMS makes, cold and hot, with and without dispersion maps.

    pip install kinms
    python benchmarks/circularity_kinms.py [--disks 300]

KinMS (Davis et al. 2013, MNRAS 429, 534) knows nothing of the mocks of the training.
Its disks are thin and smooth, rotate with 50 to 300 km/s and have isotropic
dispersions of 5 to 120 km/s. Their cubes have no noise, so that only the prior of
a map's dispersion tells how ordered it is where no dispersion map is given. The seed of
the development half is not that of the figures.
"""

import argparse
import contextlib
import io

import astropy.units as u
import numpy as np
from astropy.table import QTable
from common import in_bins, show, write_figures
from thin_disks import DISPERSIONS, SPEEDS, circularity, judge, rotation

import galml
from galml.gas_kinematics.metrics import angle_error, scatter68

SIZE, CHANNEL = 48, 10.0
FAINTEST = 0.02
CLOUDS = 40_000
EDGES = {"dispersion": (5, 20, 40, 80, 120), "sigma_over_v": (0, 0.1, 0.3, 0.6, 3)}
KMS = u.km / u.s


def draw(count, seed):
    """Parameters of disks; lengths in arcsec, which are pixels."""
    random = np.random.default_rng(seed)
    return QTable(
        {
            "speed": random.uniform(*SPEEDS, count),
            "dispersion": random.uniform(*DISPERSIONS, count),
            "turnover": 10 ** random.uniform(-0.3, 0.7, count),
            "length": random.uniform(5, 9, count),
            "inclination": np.degrees(np.arccos(random.uniform(0.2, 0.85, count))),
            "position_angle": random.uniform(0, 360, count),
            "beam": random.uniform(2, 5, count),
        }
    )


def observe(disk, seed):
    """Moments of the cube of a disk, with the circularity of what they show."""
    from kinms import KinMS

    radius = np.linspace(0, SIZE, 200)
    widest = 2 * (disk["speed"] + 4 * disk["dispersion"]) + 10 * CHANNEL
    beam = [disk["beam"], disk["beam"], 0.0]
    with contextlib.redirect_stdout(io.StringIO()):
        maker = KinMS(SIZE, SIZE, widest, 1.0, CHANNEL, beam, nSamps=CLOUDS, seed=seed)
        cube = maker.model_cube(
            disk["inclination"],
            disk["position_angle"],
            gasSigma=disk["dispersion"],
            sbProf=np.exp(-radius / disk["length"]),
            sbRad=radius,
            velRad=radius,
            velProf=rotation(radius, disk),
        )
    cube = np.asarray(cube).clip(0).transpose(2, 1, 0)
    channels = (np.arange(len(cube)) - (len(cube) - 1) / 2) * CHANNEL
    flux = cube.sum(0)
    shown = flux > FAINTEST * flux.max()
    total = np.where(shown, flux, np.nan)
    velocity = np.tensordot(channels, cube, 1) / total
    square = np.tensordot(channels**2, cube, 1) / total - velocity**2
    kappa, ratio = circularity(disk, shown)
    return {
        "velocity": velocity,
        "dispersion_map": np.sqrt(square.clip(0)),
        "kappa": kappa,
        "sigma_over_v": ratio,
    }


def judge_all(result, disks):
    """Figures of circularities and angles."""
    turn = angle_error(result["position_angle"], disks["position_angle"])
    width = result["position_angle_err"].to_value(u.deg)
    return judge(result, disks["kappa"]) | {
        "position_angle_scatter": scatter68(turn),
        "position_angle_coverage": float((np.abs(turn) <= width).mean()),
    }


def main():
    """Make the disks, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disks", type=int, default=300)
    parser.add_argument("--development", action="store_true")
    args = parser.parse_args()
    seed = 1 if args.development else 2
    disks = draw(args.disks, seed)
    seen = [observe(disk, index) for index, disk in enumerate(disks)]
    for key in ("kappa", "sigma_over_v"):
        disks[key] = [one[key] for one in seen]
    velocity, sigma = (
        np.stack([one[key] for one in seen]) * KMS
        for key in ("velocity", "dispersion_map")
    )
    beam = disks["beam"] * u.pix
    figures = {"disks": args.disks}
    for key, dispersion in (("velocity", None), ("with dispersion", sigma)):
        result = galml.circularity(velocity, dispersion=dispersion, beam=beam)
        figures[key] = {"all": judge_all(result, disks)}
        show(key, {"all": figures[key]["all"]})
        for name, edges in EDGES.items():
            figures[key][name] = in_bins(
                lambda rows, result=result: judge_all(result[rows], disks[rows]),
                disks[name],
                edges,
            )
            show(f"{key}, {name}", figures[key][name])
    if not args.development:
        write_figures("circularity_kinms", figures)


if __name__ == "__main__":
    main()
