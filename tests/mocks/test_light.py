# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch
from astropy.table import Table

from galml.core import InputError
from galml.mocks.light import BANDS, luminosity
from galml.physics import SOLAR_MAGNITUDES


def color(age, metallicity, blue, red):
    light = luminosity(torch.tensor(age), torch.tensor(metallicity), (blue, red))
    ratio = -2.5 * torch.log10(light[..., 0] / light[..., 1])
    return ratio.item() + SOLAR_MAGNITUDES[blue] - SOLAR_MAGNITUDES[red]


def test_colors():
    assert 0.74 < color(9.0, 0.015, "g", "r") < 0.82  # an elliptical
    assert color(0.05, 0.01, "g", "r") < 0.1
    assert 1.5 < color(10.0, 0.02, "u", "g") < 2.0
    assert color(10.0, 0.03, "g", "r") > color(10.0, 0.002, "g", "r") + 0.1
    assert 0.5 < color(10.0, 0.02, "F606W", "F814W") < 0.75


def test_mass_to_light():
    """A 10 Gyr old population keeps 46 per cent of its mass."""
    light = luminosity(torch.tensor(10.0), torch.tensor(0.02), ("r",))
    assert 2 < 0.46 / light.item() < 3.2


@pytest.mark.parametrize("metallicity", [0.001, 0.008, 0.02, 0.04])
def test_fading(metallicity):
    age = torch.logspace(-1.9, 1.13, 50)
    light = luminosity(age, torch.tensor(metallicity))
    assert light.shape == (50, len(BANDS))
    # Where giants appear, near 0.1 and 1 Gyr, red bands brighten for a while.
    assert (light[1:] < light[:-1] * 1.3).all()
    assert (light[-1] < 0.05 * light[0]).all()


def test_nodes():
    """The table's own values come out at its nodes."""
    from importlib import resources

    path = resources.files("galml") / "data" / "stellar_light.ecsv"
    table = Table.read(str(path), format="ascii.ecsv")
    table = table[(table["metallicity"] == 0.02) & (table["redshift"] == 0)][[15, 35]]
    age, metallicity = torch.tensor(table["age"]).double(), torch.tensor(0.02)
    magnitude = SOLAR_MAGNITUDES["r"] - 2.5 * torch.log10(
        luminosity(age, metallicity.double(), ("r",))
    )
    assert magnitude.flatten().tolist() == pytest.approx(list(table["r"]), abs=1e-6)


def test_old_stars_redden_with_redshift():
    """Old galaxies of redshift 0.1 are redder in g - r by 0.25 mag than at rest."""
    age, metallicity = torch.full((3, 1), 10.0), torch.tensor(0.02)
    redshift = torch.tensor([0.0, 0.1, 0.2])
    light = luminosity(age, metallicity, ("g", "r"), redshift)[:, 0]
    rest = luminosity(age[0], metallicity, ("g", "r"))[0]
    torch.testing.assert_close(light[0], rest)
    k_correction = -2.5 * torch.log10(light / light[0])
    assert k_correction[1].tolist() == pytest.approx([0.35, 0.11], abs=0.03)
    assert k_correction[2].tolist() == pytest.approx([0.85, 0.25], abs=0.05)
    # Redshifts of the table, and beyond it.
    far = luminosity(age[:2], metallicity, ("r",), torch.tensor([1.0, 3.0]))
    assert far[0] == far[1]


def test_limits_and_bands():
    edge = luminosity(torch.tensor([13.8, 20.0]), torch.tensor([0.05, 0.1]), ("i",))
    assert edge[0] == edge[1]
    one = luminosity(torch.tensor(2.0), torch.tensor(0.01), ("r",))
    every = luminosity(torch.tensor(2.0), torch.tensor(0.01))
    torch.testing.assert_close(one[..., 0], every[..., BANDS.index("r")])
    with pytest.raises(InputError, match="bands"):
        luminosity(torch.tensor(2.0), torch.tensor(0.01), ("B",))
