# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Position angles of observed maps against themselves: halves of a map, stars and gas.

Run ``python benchmarks/circularity_halves.py``. No label is looked at. The bins of each
MaNGA map are dealt out to two maps of half as many. Their angles must differ as their
errors say: those have in common what the galaxy is, but not the noise.
"""

import argparse
import hashlib

import astropy.units as u
import numpy as np
from circularity_manga import KNOWN
from common import shared_data, write_figures
from scipy.ndimage import label

import galml
from galml.gas_kinematics.metrics import angle_error, scatter68

#: FWHM of the PSF in pixels.
PSF = 5
#: Fewest bins of a map that is halved.
FEWEST = 24
#: An angle of a larger error is flagged as not determined.
UNDETERMINED = 45.0
#: Farther apart than this, stars and gas turn about different axes.
MISALIGNED = 30.0


def is_development(name):
    """Whether a galaxy is of the half that choices are made on."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def load(development):
    """Give names (n,) and maps (2, n, y, x) in km/s of one half of the galaxies."""
    file = shared_data("manga_kinematics") / "velocity_maps.npz"
    with np.load(file) as data:
        names, velocity = data["plateifu"], data["vel"]
    rows = [is_development(str(name)) == development for name in names]
    return names[rows], velocity[rows].swapaxes(0, 1).astype(np.float32)


def bins(values):
    """Give each plateau of a map a number from 1; 0 is where there is nothing."""
    result = np.zeros(values.shape, dtype=int)
    for value in np.unique(values[np.isfinite(values)]):
        found, count = label(values == value)
        result[found > 0] = found[found > 0] + result.max()
    return result


def halves(velocity, block, random):
    """Deal the bins of maps (n, y, x) out to two maps each.

    Parameters
    ----------
    velocity : `~numpy.ndarray`
        Shape (n, y, x).
    block : int
        Bins whose centers lie in one square of so many pixels stay together; 0 lets
        each go its own way.
    random : `numpy.random.Generator`
        Source of the draws.

    Returns
    -------
    `~numpy.ndarray`
        Shape (2, n, y, x); NaN where the bin went to the other half, or where the map
        has too few bins.
    """
    result = np.full((2, *velocity.shape), np.nan, dtype=velocity.dtype)
    y, x = np.indices(velocity.shape[1:])
    for row, values in enumerate(velocity):
        place = bins(values)
        count = place.max()
        if count < FEWEST:
            continue
        if block:
            size = np.bincount(place.ravel(), minlength=count + 1)
            shift = random.integers(block, size=2)
            cells = [
                (np.bincount(place.ravel(), c.ravel()) / size + s) // block
                for c, s in zip((y, x), shift, strict=True)
            ]
            cell = np.unique(np.stack(cells), axis=1, return_inverse=True)[1]
        else:
            cell = np.arange(count + 1)
        order = random.permutation(cell.max() + 1)
        side = (order % 2)[cell][place]
        for half in (0, 1):
            mine = (place > 0) & (side == half)
            result[half, row, mine] = values[mine]
    return result


def measure(velocity, known):
    """Give position angles and their errors of maps (n, y, x), in degrees."""
    usable = np.isfinite(velocity).sum((1, 2)) >= 6
    angle, error = np.full((2, len(velocity)), np.nan)
    table = galml.circularity(velocity[usable] * u.km / u.s, **known)
    angle[usable] = table["position_angle"].value
    error[usable] = table["position_angle_err"].value
    return angle, error


def judge(one, other, rows=slice(None)):
    """Figures about the difference of two angles (angle, error)."""
    difference = angle_error(one[0], other[0])[rows]
    joint = np.hypot(one[1], other[1])[rows]
    known = np.isfinite(difference) & (
        np.maximum(one[1], other[1])[rows] < UNDETERMINED
    )
    difference, joint = np.abs(difference[known]), joint[known]
    edges = np.quantile(joint, [0, 0.25, 0.5, 0.75, 1])
    place = np.clip(np.searchsorted(edges, joint, "right") - 1, 0, 3)
    inside = difference <= joint
    return {
        "maps": len(joint),
        "difference_68": scatter68(difference),
        "joint_error": float(np.median(joint)),
        "within_1_sigma": float(inside.mean()),
        "within_1_sigma_quarters": [float(inside[place == i].mean()) for i in range(4)],
        "joint_error_quarters": [float(np.median(joint[place == i])) for i in range(4)],
    }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    _, velocity = load(options.development)
    velocity = velocity[:, : options.limit]
    figures, whole = {}, []
    for tracer, maps in zip(KNOWN, velocity, strict=True):
        known = KNOWN[tracer]
        whole.append(measure(maps, known))
        for name, block in (("bins", 0), ("blocks", PSF)):
            parts = halves(maps, block, np.random.default_rng(0))
            found = [measure(part, known) for part in parts]
            figures[f"{tracer}, {name}"] = judge(*found)
            print(tracer, name, figures[f"{tracer}, {name}"], flush=True)
    apart = np.abs(angle_error(whole[0][0], whole[1][0]))
    figures["stars and gas"] = judge(*whole, apart < MISALIGNED)
    print("stars and gas", figures["stars and gas"])
    if not options.development:
        write_figures("circularity_halves", figures)


if __name__ == "__main__":
    main()
