# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math
import pickle

import pytest
import torch

from galml.core.networks import View, dihedral_views

VIEWS = dihedral_views(images=("image",), vectors=("direction",), odd=("spin",))


def measure(inputs):
    """Measure a direction, a sense of rotation and a sum in an image."""
    image = inputs["image"].double()
    axis = torch.arange(image.shape[-1]).double() - (image.shape[-1] - 1) / 2
    y, x = axis[:, None], axis[None, :]
    up, right = (image * y).sum((-1, -2)), (image * x).sum((-1, -2))
    # Counter-clockwise from +y: 0 is up, 90 degrees is to the left.
    return {
        "direction": torch.stack([up, -right], -1)[:, 0],
        "spin": (image * x * y * (x**2 - y**2)).sum((-1, -2))[:, 0],
        "sum": image.sum((-1, -2))[:, 0],
    }


def test_angles_count_counterclockwise_from_up():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 4, 2] = 1  # the last row is the top
    turned = [v.apply({"image": image})["image"] for v in VIEWS[:4]]
    where = [tuple(t[0, 0].nonzero()[0].tolist()) for t in turned]
    assert where == [(4, 2), (2, 0), (0, 2), (2, 4)]  # up, left, down, right
    angles = []
    for image in turned:
        cosine, sine = measure({"image": image})["direction"][0]
        angles.append(math.degrees(math.atan2(sine, cosine)) % 360)
    assert angles == pytest.approx([0, 90, 180, 270])


@pytest.mark.parametrize("view", VIEWS)
def test_restore_undoes_apply(view):
    image = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = measure({"image": image})
    found = view.restore(measure(view.apply({"image": image})))
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-12, atol=1e-12)


def test_eight_different_views():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    seen = {tuple(v.apply({"image": image})["image"].flatten().tolist()) for v in VIEWS}
    assert len(seen) == 8
    assert torch.equal(VIEWS[0].apply({"image": image})["image"], image)


def test_average_is_invariant():
    """The mean over the views does not know how the image was turned."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 1, 4, 4, generator=generator, dtype=torch.float64)
    weights = torch.rand(4, 4, generator=generator, dtype=torch.float64)

    def average(image):
        outputs = [
            v.restore(measure({"image": v.apply({"image": image})["image"] * weights}))
            for v in VIEWS
        ]
        return {k: torch.stack([o[k] for o in outputs]).mean(0) for k in outputs[0]}

    expected = average(image)
    for view in VIEWS:
        found = view.restore(average(view.apply({"image": image})["image"]))
        for key in expected:
            torch.testing.assert_close(
                found[key], expected[key], rtol=1e-12, atol=1e-12
            )


def test_nothing_else_is_touched():
    inputs = {"image": torch.rand(2, 1, 4, 4), "scale": torch.rand(2)}
    outputs = {"direction": torch.rand(2, 2), "spin": torch.rand(2), "x": torch.rand(2)}
    before = {k: v.clone() for k, v in (inputs | outputs).items()}
    for view in VIEWS:
        assert view.apply(inputs)["scale"] is inputs["scale"]
        assert view.restore(outputs)["x"] is outputs["x"]
        assert all(torch.equal(v, before[k]) for k, v in (inputs | outputs).items())


def test_views_can_be_pickled():
    image = torch.rand(1, 1, 3, 3)
    for view, copy in zip(VIEWS, pickle.loads(pickle.dumps(VIEWS)), strict=True):
        first, second = (v.apply({"image": image})["image"] for v in (view, copy))
        assert torch.equal(first, second)


def test_default_is_the_identity():
    tensors = {"image": torch.rand(1)}
    assert View().apply(tensors) is tensors
    assert View().restore(tensors) is tensors
