# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default system: images to the network's inputs, its outputs to columns."""

import numpy as np
import torch

from galml.core.distributions import histogram_quantile
from galml.core.flags import Flag
from galml.core.networks import dihedral_views
from galml.core.running import in_groups
from galml.stellar_spin.posterior import fast_rotators, posterior
from galml.stellar_spin.preparation import SCALARS, Stamps, prepare

__all__ = ["VIEWS", "columns", "inputs", "layout", "prepare_images"]

#: Those symmetries of a square that leave the major axis along x.
VIEWS = dihedral_views(images=("image",))[::2]

NAMES = (
    "spin",
    "spin_err",
    "spin_lo",
    "spin_hi",
    "fast_rotator_probability",
    "ellipticity",
    "ellipticity_err",
)
#: Signal to noise inside the effective radius, and pixels in it, below which little
#: can be told; and the part of the image that must be known.
LOW_SNR = 10.0
FEW_PIXELS = 2.0
TRUNCATED = 0.9


def prepare_images(images):
    """Prepare images of any shapes and bands.

    Parameters
    ----------
    images : sequence of `~galml.stellar_spin.images.GalaxyImage`
        The images.

    Returns
    -------
    `~galml.stellar_spin.preparation.Prepared`
        Rows in the order of ``images``.
    """
    return in_groups(
        images,
        lambda one: (one.values.shape, one.wavelength, one.calibrated),
        lambda group: prepare(stack(group)),
    )


def stack(images):
    """Stack images of one shape, in the same bands, as `Stamps`."""

    def tensor(name):
        return torch.from_numpy(np.stack([getattr(one, name) for one in images]))

    return Stamps(
        data=tensor("values"),
        wavelength=images[0].wavelength,
        r_eff=tensor("r_eff").double(),
        noise=tensor("noise"),
        psf_fwhm=tensor("psf_fwhm"),
        center=tensor("center"),
        calibrated=images[0].calibrated,
    )


def inputs(prepared):
    """Give what the network takes of prepared images."""
    return {"image": prepared.image, "scalars": prepared.scalars}


def layout(model, n_samples):
    """Trailing shape and unit of each column."""
    result = {name: ((), None) for name in NAMES}
    if n_samples:
        result["spin_samples"] = ((n_samples,), None)
    return result


def columns(outputs, prepared, images, config):
    """Answer for each image.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave.
    prepared : `~galml.stellar_spin.preparation.Prepared`
        What it was given.
    images : sequence of `~galml.stellar_spin.images.GalaxyImage`
        Where that came from.
    config : dict
        The configuration of the model.

    Returns
    -------
    columns : dict of str to `~numpy.ndarray`
        The columns of the result.
    flags : `~numpy.ndarray`
        Bits of `galml.core.Flag`.
    """
    result = posterior(outputs, config["calibration"])
    low, _, high = result["spin_quantiles"].T
    values = {
        "spin": result["spin_mean"],
        "spin_err": result["spin_error"],
        "spin_lo": low,
        "spin_hi": high,
        "fast_rotator_probability": fast_rotators(result),
        "ellipticity": result["ellipticity"],
        "ellipticity_err": result["ellipticity_error"],
    }
    if "noise" in outputs:
        noise = outputs["noise"].contiguous()
        values["spin_samples"] = histogram_quantile(result["spin"], noise, 1.0)
    values = {key: value.numpy().astype(float) for key, value in values.items()}
    return values, _flags(prepared.scalars.numpy(), images, config)


def _flags(scalars, images, config):
    """Tell what happened to each image."""

    def scalar(name):
        return scalars[:, SCALARS.index(name)]

    low, high = (np.array(config["domain"][end]) for end in ("low", "high"))
    few = scalar("log_pixels") < np.log10(FEW_PIXELS)
    states = {
        Flag.LOW_SNR: scalar("log_snr") < np.log10(LOW_SNR),
        Flag.FEW_PIXELS: few,
        Flag.TRUNCATED: scalar("coverage") < TRUNCATED,
        # Zero also stands for what is not known, which training has seen.
        Flag.OUT_OF_DOMAIN: (((scalars < low) | (scalars > high)) & (scalars != 0)).any(
            1
        ),
    }
    flags = np.array([one.flags for one in images], dtype=int)
    for bit, state in states.items():
        flags |= np.where(state, int(bit), 0)
    return flags
