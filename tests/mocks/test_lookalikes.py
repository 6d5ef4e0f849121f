# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.core import InputError
from galml.mocks import (
    build_projections,
    build_stars,
    draw_clumpy,
    draw_stars,
    starlight,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_clumpy_disks_are_young_thick_and_rich_in_gas():
    clumpy, usual = draw_clumpy(200, generator(14)), draw_stars(200, generator(15))
    assert (clumpy["gas_mass"] > 0.4 * clumpy["stellar_mass"]).all()
    assert clumpy["size"].median() < usual["size"].median()
    assert clumpy["disk_height"].median() > 1.5 * usual["disk_height"].median()
    few = {key: value[:3] for key, value in clumpy.items()}
    galaxy = build_stars(few, 3000, generator(16), n_gas=0)
    seen = starlight(galaxy, ("g",))[..., 0]
    # A few clumps have much of the light: half of it is in few of the cells.
    for light, place in zip(seen, galaxy.position, strict=True):
        cells = (place / (0.15 * place.norm(dim=-1).median())).round().long()
        _, index = torch.unique(cells, dim=0, return_inverse=True)
        total = torch.zeros(int(index.max()) + 1).index_add_(0, index, light)
        total = total.sort(descending=True)[0].cumsum(0) / total.sum()
        assert int((total < 0.3).sum()) < 0.1 * len(total)


def test_projections_are_beside_each_other_and_far_apart():
    p = draw_stars(6, generator(17))
    pair = build_projections(p, 2000, generator(18))
    assert len(pair) == 3 and len(pair.dust) == 2
    torch.testing.assert_close(
        pair.stellar_mass, p["stellar_mass"][:3] + p["stellar_mass"][3:]
    )
    other = pair.stars.position[:, 1000:].median(1)[0]
    assert (other[:, 2].abs() > 900).all()
    aside = torch.hypot(other[:, 0], other[:, 1]) / (p["size"][:3] + p["size"][3:])
    assert ((aside > 0.2) & (aside < 3)).all()
    assert math.isfinite(float(starlight(pair, ("r",)).sum()))


def test_galaxies_of_projections_come_in_pairs():
    with pytest.raises(InputError, match="even"):
        build_projections(draw_stars(3, generator()), 100, generator())
