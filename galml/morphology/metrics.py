# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How much a drawn image is like the original."""

import torch

__all__ = ["root_mean_square", "structural_similarity"]

#: Standard deviation of the window in cells, and its reach.
WIDTH, REACH = 1.5, 5
#: Constants of the measure, over the range of brightness.
STEADY = (0.01, 0.03)


def structural_similarity(first, second, known, brightest=2.0):
    """Measure the structural similarity of stretched images.

    Parameters
    ----------
    first, second : `torch.Tensor`
        Shape (n, planes, y, x), square.
    known : `torch.Tensor`
        Shape (n, planes, y, x) or what can be expanded to it: weights of cells, 0 where
        nothing is known.
    brightest : float, optional
        Range of brightness.

    Returns
    -------
    `torch.Tensor`
        Shape (n,): mean over what is known, 1 for equal images (Wang et al. 2004, IEEE
        Trans. Image Process. 13, 600; Gaussian window of 11 cells).
    """
    known = known.expand(first.shape)
    first, second = first * known, second * known
    mean1, mean2 = _smooth(first), _smooth(second)
    variance1 = _smooth(first * first) - mean1 * mean1
    variance2 = _smooth(second * second) - mean2 * mean2
    together = _smooth(first * second) - mean1 * mean2
    small1, small2 = ((one * brightest) ** 2 for one in STEADY)
    alike = (2 * mean1 * mean2 + small1) * (2 * together + small2)
    alike = alike / (mean1**2 + mean2**2 + small1)
    alike = alike / (variance1 + variance2 + small2)
    return _mean(alike, known)


def root_mean_square(first, second, known):
    """Measure the root of the mean square of differences.

    Parameters
    ----------
    first, second, known : `torch.Tensor`
        As for `structural_similarity`.

    Returns
    -------
    `torch.Tensor`
        Shape (n,).
    """
    return _mean((first - second).square(), known.expand(first.shape)).sqrt()


def _mean(values, weights):
    """Mean over all but the first axis."""
    total = weights.sum((1, 2, 3)).clamp_min(1e-6)
    return (values * weights).sum((1, 2, 3)) / total


def _smooth(images):
    """Average images with a Gaussian window, or what of it is inside of the image."""
    place = torch.arange(images.shape[-1], device=images.device, dtype=images.dtype)
    far = place[:, None] - place
    window = torch.exp(-0.5 * (far / WIDTH).square()) * (far.abs() <= REACH)
    window = window / window.sum(1, keepdim=True)
    return window @ images @ window.T
