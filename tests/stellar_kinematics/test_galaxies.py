# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from galml.stellar_kinematics import lambda_r


def tng_maps(shared, turn, pixel=0.5, n=64):
    """Maps of the TNG galaxy in bins of ``pixel`` kpc, and its projected particles."""
    folder = shared / "stars"
    if not (folder / "tng_394242_stars.npy").is_file():
        pytest.skip("the TNG galaxy is not there")
    stars = np.load(folder / "tng_394242_stars.npy").astype(float)
    potential = np.load(folder / "tng_394242_potential_stars.npy")
    mass, place, speed = stars[:, 0], stars[:, 1:4], stars[:, 4:7]
    place = place - place[potential.argmin()]
    near = np.linalg.norm(place, axis=1) < 10
    speed = speed - np.average(speed[near], axis=0, weights=mass[near])
    momentum = (mass[near, None] * np.cross(place, speed)[near]).sum(0)
    axis = momentum / np.linalg.norm(momentum)
    across = np.cross(axis, [1.0, 0, 0])
    across /= np.linalg.norm(across)
    frame = np.stack([across, np.cross(axis, across), axis])
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]
    )
    place, speed = place @ (tilt @ frame).T, speed @ (tilt @ frame).T
    columns = np.floor(place[:, :2] / pixel + n / 2).astype(int)
    on = ((columns >= 0) & (columns < n)).all(1)
    index = columns[on, 1] * n + columns[on, 0]
    mass, v = mass[on], speed[on, 2]
    moments = [np.bincount(index, mass * v**k, n * n).reshape(n, n) for k in range(3)]
    with np.errstate(invalid="ignore"):
        mean = moments[1] / moments[0]
        sigma = np.sqrt(np.maximum(moments[2] / moments[0] - mean**2, 0))
    return (moments[0], mean, sigma), (columns[on], mass, v)


def test_tng_maps_against_sums_over_particles(shared):
    spins = []
    for turn in np.radians([0, 40, 90]):
        maps, (columns, mass, v) = tng_maps(shared, turn)
        row = lambda_r(
            *maps, unit="km/s", r_eff=12 * u.pix, center=(31.5, 31.5), systemic=0
        )[0]
        by_pixel = {}
        for key, m, speed in zip(map(tuple, columns), mass, v, strict=True):
            by_pixel.setdefault(key, []).append((m, speed))
        above = below = 0.0
        for (i, j), members in by_pixel.items():
            distance = np.hypot(i - 31.5, j - 31.5)
            if distance <= 12:
                m, speed = np.transpose(members)
                above += distance * abs(m @ speed)
                below += distance * np.sqrt(m.sum() * (m @ speed**2))
        assert row["lambda_r"] == pytest.approx(above / below, rel=1e-6)
        spins.append(row["lambda_r"])
        fitted = lambda_r(*maps, unit="km/s", r_eff=12 * u.pix, center=(31.5, 31.5))[0]
        assert abs(fitted["systemic_velocity"].value) < 10
        assert fitted["lambda_r"] == pytest.approx(row["lambda_r"], abs=0.01)
    # The galaxy is a disk: it spins when seen from the side.
    assert spins[2] > spins[0] + 0.2


#: Effective radius of the circle (arcsec) and position angle (degrees), of ATLAS3D.
OBSERVED = {
    "ngc4570_sauron": ("XS", "YS", 20.0, 159.3),
    "ngc6278_califa": ("X", "Y", 16.6, 305.5),
}


@pytest.mark.parametrize(
    ("name", "part", "ellipticity", "published", "tolerance"),
    [
        # The map of NGC 4570 ends at 0.7 effective radii.
        ("ngc4570_sauron", 0.7, 0.626, 0.603, 0.005),
        ("ngc4570_sauron", 0.5, 0.551, 0.498, 0.005),
        # Observed by another instrument than the published one.
        ("ngc6278_califa", 1.0, 0.409, 0.576, 0.04),
        ("ngc6278_califa", 0.5, 0.401, 0.411, 0.02),
    ],
)
def test_observed_galaxies_against_atlas3d(
    shared, name, part, ellipticity, published, tolerance
):
    x, y, radius, angle = OBSERVED[name]
    path = shared / "ifu_maps" / f"{name}.fits.gz"
    if not path.is_file():
        pytest.skip("the observed maps are not there")
    data = fits.getdata(path, 1)
    # x runs to the west, as on the sky.
    spaxels = QTable(
        {
            "x": data[x] * u.arcsec,
            "y": data[y] * u.arcsec,
            "flux": data["FLUX"].astype(float),
            "velocity": data["VPXF"] * u.km / u.s,
            "dispersion": data["SPXF"] * u.km / u.s,
        }
    )
    row = lambda_r(
        spaxels,
        r_eff=part * radius / np.sqrt(1 - ellipticity) * u.arcsec,
        center=(0, 0),
        ellipticity=ellipticity,
        position_angle=angle * u.deg,
    )[0]
    assert row["lambda_r"] == pytest.approx(published, abs=tolerance)
    assert row["coverage"] > 0.95
