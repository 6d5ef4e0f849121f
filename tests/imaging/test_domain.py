# Licensed under a 3-clause BSD style license - see LICENSE.rst
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from galml.core import Flag, InputSpec
from galml.imaging.domain import ImageDomain


@dataclass
class Prepared:
    scalars: torch.Tensor


class Brightness(ImageDomain):
    """Images that are told apart by their means."""

    least = {Flag.LOW_SNR: ("mean", 2.0)}

    def prepare_alike(self, images):
        means = torch.from_numpy(images.values.mean((1, 2, 3)))
        return Prepared(torch.stack([means, torch.ones(len(images))], 1))


@pytest.fixture
def domain():
    spec = InputSpec(scalars=("mean", "one"), parameters={"reference_wavelength": 0.8})
    config = {"domain": {"low": [1.0, 0.0], "high": [9.0, 2.0]}}
    return Brightness(SimpleNamespace(input_spec=spec, config=config))


def members(make_images, *means):
    """One batch for each mean, every other one of images that are larger."""
    shapes = [(2, 3, 24, 24), (1, 3, 32, 30)] * len(means)
    return [
        make_images(np.full(shape, mean), np.full(shape[0], 4.0))
        for mean, shape in zip(means, shapes, strict=False)
    ]


def test_images_of_a_kind_are_prepared_together_and_stay_in_order(domain, make_images):
    prepared = domain.prepare(members(make_images, 3.0, 4.0, 5.0))
    assert prepared.scalars[:, 0].tolist() == [3, 3, 4, 5, 5]


def test_flags_of_reading_limits_and_domain(domain, make_images):
    batches = members(make_images, 1.5, 3.0, 10.0)
    batches[0].flags[1] = int(Flag.MASKED)
    low, outside = int(Flag.LOW_SNR), int(Flag.OUT_OF_DOMAIN)
    flags = domain.flags({}, domain.prepare(batches), batches)
    assert flags.tolist() == [low, low | Flag.MASKED, 0, outside, outside]
    assert batches[0].flags.tolist() == [0, Flag.MASKED]


def test_what_is_read_and_refused_depends_on_the_kind(domain):
    y, x = np.indices((48, 48)) - 23.5
    images = (
        np.exp(-np.hypot(x, y) / 4)[None, None]
        * np.array([1.0, np.nan])[:, None, None, None]
    )
    (read,) = domain.read(images).members
    assert 4 < read.r_eff[0] < 10 and not read.flags[0] & Flag.NO_UNIT
    assert [error is None for error in domain.problem(read)] == [True, False]
    domain.sizes, domain.flag_units = False, True
    (read,) = domain.read(images).members
    assert np.isnan(read.r_eff[0]) and read.flags[0] & Flag.NO_UNIT
    assert [error is None for error in domain.problem(read)] == [True, False]
    domain.sizes = True
    assert domain.problem(read)[0].argument == "r_eff"
