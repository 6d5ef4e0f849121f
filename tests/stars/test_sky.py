# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Galactocentric, SkyCoord
from astropy.table import QTable
from numpy.testing import assert_allclose

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.stars import to_galactocentric, to_skycoord

CENTER = SkyCoord(150 * u.deg, 30 * u.deg)
FAR = 100 * u.Mpc


def table(places, speeds):
    places, speeds = np.atleast_2d(places).T, np.atleast_2d(speeds).T
    columns = dict(zip(("x", "y", "z"), places * u.kpc, strict=True))
    columns |= dict(zip(("v_x", "v_y", "v_z"), speeds * u.km / u.s, strict=True))
    return QTable(columns)


@pytest.fixture
def ring():
    """Stars on the axes of a disk that turns around +z at 200 km/s."""
    places = [[10, 0, 0], [0, 10, 0], [-10, 0, 0], [0, -10, 0], [0, 0, 10]]
    speeds = [[0, 200, 0], [-200, 0, 0], [0, -200, 0], [200, 0, 0], [0, 0, 50]]
    return table(places, speeds)


def test_major_axis(ring):
    for angle in (0, 30, 200, 359) * u.deg:
        seen = to_skycoord(
            ring, CENTER, distance=FAR, inclination=60 * u.deg, position_angle=angle
        )
        found = CENTER.position_angle(seen[0])
        assert_allclose((found - angle).wrap_at("180d").deg, 0, atol=1e-2)
        separation = CENTER.separation(seen[0])
        assert_allclose(separation.rad, np.arctan(10 * u.kpc / FAR).value, rtol=1e-5)
        # The receding side is +x.
        receding = 200 * np.sin(np.radians(60))
        assert_allclose(
            seen.radial_velocity.to_value("km/s")[[0, 2]],
            [receding, -receding],
            atol=0.05,
        )


def test_minor_axis(ring):
    seen = to_skycoord(ring, CENTER, distance=FAR, inclination=60 * u.deg)
    # With +x to the north, the axis of rotation points east and to the observer.
    east, north = CENTER.spherical_offsets_to(seen)
    scale = (1 * u.kpc / FAR).decompose().value
    assert_allclose(east.rad / scale, [0, 5, 0, -5, 10 * 0.75**0.5], atol=2e-3)
    assert_allclose(north.rad / scale, [10, 0, -10, 0, 0], atol=2e-3)
    depth = (seen.distance - FAR).to_value(u.kpc)
    assert_allclose(depth, [0, 10 * 0.75**0.5, 0, -10 * 0.75**0.5, -5], atol=2e-3)
    assert_allclose(seen.radial_velocity[4].to_value("km/s"), -25, atol=0.05)


def test_sense_of_rotation(ring):
    """Counter-clockwise on the sky, from north to east, when seen from above."""
    for inclination, sign in ((0, 1), (180, -1)):
        seen = to_skycoord(ring, CENTER, distance=FAR, inclination=inclination * u.deg)
        angles = CENTER.position_angle(seen[:2])
        step = (angles[1] - angles[0]).wrap_at("180d").deg
        assert_allclose(step, sign * 90, atol=1e-2)
        # At north the proper motion is to the east.
        motion = seen.pm_ra_cosdec[0] * FAR
        speed = motion.to("km/s", u.dimensionless_angles())
        assert_allclose(speed.value, sign * 200, rtol=1e-3)


def test_inverse(ring):
    """Distances and relative speeds stay, whatever the direction."""
    rng = np.random.default_rng(1)
    stars = table(rng.normal(0, 10, (50, 3)), rng.normal(0, 100, (50, 3)))
    center = SkyCoord(
        10 * u.deg,
        -80 * u.deg,
        distance=1 * u.Mpc,
        pm_ra_cosdec=1 * u.mas / u.yr,
        pm_dec=-2 * u.mas / u.yr,
        radial_velocity=300 * u.km / u.s,
    )
    seen = to_skycoord(stars, center, inclination=33 * u.deg, position_angle=77 * u.deg)
    place = (seen.cartesian.xyz - center.cartesian.xyz[:, None]).to_value(u.kpc).T
    speed = (seen.velocity.d_xyz - center.velocity.d_xyz[:, None]).to_value("km/s").T
    x = np.array([stars[name].value for name in ("x", "y", "z")]).T
    v = np.array([stars[name].value for name in ("v_x", "v_y", "v_z")]).T
    assert_allclose(place @ place.T, x @ x.T, atol=1e-6)
    assert_allclose(place @ speed.T, x @ v.T, atol=1e-6)
    # No mirror image.
    assert_allclose(np.linalg.det(place[:3]), np.linalg.det(x[:3]), rtol=1e-6)


def test_units_and_unknown_stars(ring):
    expected = to_skycoord(ring, CENTER, distance=FAR)
    ring["x"], ring["v_x"] = ring["x"].to(u.pc), ring["v_x"].to(u.m / u.s)
    ring["y"][1] = np.nan
    seen = to_skycoord(ring, CENTER.galactic, distance=FAR)
    assert seen.separation(expected).rad[[0, 2, 3, 4]].max() < 1e-9
    assert np.isnan(seen.ra[1])


def test_galactocentric():
    """A star 2 kpc behind the Sun that moves as the Sun does."""
    sun = Galactocentric()
    speed = sun.galcen_v_sun.xyz.to_value("km/s")
    stars = table([-sun.galcen_distance.to_value(u.kpc) - 2, 0, 0], speed * [1, -1, -1])
    # Its galaxy turns counter-clockwise, the Milky Way does not.
    assert (stars["x"] * stars["v_y"] > 0).all()
    seen = to_galactocentric(stars)
    assert isinstance(seen.frame, Galactocentric)
    near = seen.transform_to("galactic")
    assert_allclose(near.distance.to_value(u.kpc), 2, atol=1e-3)
    assert_allclose(near.l.deg, 180, atol=0.1)
    assert_allclose(near.velocity.d_xyz.to_value("km/s"), 0, atol=1e-6)
    other = to_galactocentric(stars, Galactocentric(galcen_distance=8 * u.kpc))
    assert other.galcen_distance == 8 * u.kpc


def test_errors(ring):
    with pytest.raises(InputError, match="distance"):
        to_skycoord(ring, CENTER)
    with pytest.raises(InputError, match="distance"):
        to_skycoord(ring, SkyCoord(CENTER, distance=FAR), distance=FAR)
    with pytest.raises(InputError, match="distance"):
        to_skycoord(ring, CENTER, distance=0 * u.Mpc)
    with pytest.raises(InputTypeError, match="SkyCoord"):
        to_skycoord(ring, (150, 30), distance=FAR)
    with pytest.raises(InputUnitError, match="inclination"):
        to_skycoord(ring, CENTER, distance=FAR, inclination=3 * u.kpc)
    with pytest.raises(InputUnitError, match="distance"):
        to_skycoord(ring, CENTER, distance=3 * u.s)
    with pytest.raises(InputTypeError, match="frame"):
        to_galactocentric(ring, "icrs")
    del ring["v_x"]
    with pytest.raises(InputError, match="v_x"):
        to_galactocentric(ring)


def test_sampled_stars(galaxies, model):
    import galml

    stars = galml.sample_stars(galaxies[:1], 100, model=model)
    seen = to_skycoord(stars, CENTER, distance=20 * u.Mpc, inclination=45 * u.deg)
    assert seen.shape == (100,)
    assert np.isfinite(seen.ra).all()
