# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch
from astropy.cosmology import Planck18

from galml.core import InputError
from galml.mocks.deep_light import DEEP_BANDS, deep_starlight
from galml.mocks.galaxy import Galaxy
from galml.mocks.light import starlight
from galml.physics import AB_ZERO, SOLAR_MAGNITUDES


def stars_of(age, metallicity=0.02, n=1):
    age = torch.as_tensor(age).reshape(1, -1).expand(n, -1)
    flat = torch.ones_like(age)
    return Galaxy(
        position=torch.zeros(*age.shape, 3),
        velocity=torch.zeros(*age.shape, 3),
        mass=1e9 * flat,
        dispersion=torch.zeros_like(age),
        age=age,
        metallicity=metallicity * flat,
    )


@pytest.mark.parametrize("redshift", [0.5, 0.8, 1.0])
def test_the_two_tables_agree(redshift):
    """Where both have redshift and band, away from the ages that are cut."""
    stars = stars_of([0.004, 0.03, 0.3, 2.0, 5.0], 0.012)
    z, bands = torch.tensor([redshift]), ("F606W", "F814W")
    solar = torch.tensor([SOLAR_MAGNITUDES[band] for band in bands])
    near = starlight(stars, bands, z) * AB_ZERO * 10 ** (-0.4 * solar)
    torch.testing.assert_close(deep_starlight(stars, bands, z), near, rtol=3e-3, atol=0)


def test_bands_shift():
    """At redshift 2.8, F160W sees old stars where F814W does at redshift 1."""
    stars = stars_of([0.02, 1.0], n=2)
    light = deep_starlight(stars, DEEP_BANDS, torch.tensor([1.0, 2.8]))
    ratio = light[:, :, DEEP_BANDS.index("F160W")] / light[:, :, 1]
    # Flux per frequency stretches by 1 + z: the same light has 3.8 / 2 more of it.
    same = light[1, :, 3] / light[0, :, 1]
    assert (same / 1.9 - 1).abs().max() < 0.15
    # The break of old stars; young ones have none.
    assert ratio[1, 1] > 10 * ratio[1, 0]


def test_stars_are_no_older_than_the_universe():
    z = torch.tensor([2.5])
    oldest = float(Planck18.age(2.5).value)
    light = deep_starlight(stars_of([oldest, 5.0, 13.0]), ("F160W",), z)[0, :, 0]
    assert light[0].item() == pytest.approx(light[2].item(), rel=1e-5)
    assert light[1] == light[2]


def test_limits():
    stars = stars_of([1.0])
    with pytest.raises(InputError, match="bands"):
        deep_starlight(stars, ("F115W",), torch.tensor([1.0]))
    for z in (0.3, 3.2, float("nan")):
        with pytest.raises(InputError, match="redshift"):
            deep_starlight(stars, ("F160W",), torch.tensor([z]))
