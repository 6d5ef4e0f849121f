# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The bits of the ``flags`` column, shared by all operations."""

import enum

import numpy as np

from galml.core.exceptions import InputError, InputTypeError

__all__ = ["DESCRIPTIONS", "Flag", "decode_flags", "outside_domain", "with_flags"]


class Flag(enum.IntFlag):
    """What happened to one row; the bits of its ``flags`` are the sum of these."""

    FAILED = 1
    NONFINITE = 2
    OUTLIERS = 4
    TRUNCATED = 8
    RESAMPLED = 16
    LOW_SNR = 32
    FEW_PIXELS = 64
    OUT_OF_DOMAIN = 128
    PA_UNDETERMINED = 256
    NO_WCS = 512
    CENTER_ASSUMED = 1024
    NO_UNCERTAINTY = 2048
    UNREADABLE = 4096
    NEIGHBORS = 8192
    MASKED = 16384
    SATURATED = 32768
    SIZE_MEASURED = 65536
    STANDARDIZED = 131072
    NO_UNIT = 262144
    POINT_SOURCE = 524288
    NO_SOURCE_AT_CENTER = 1048576
    PRIOR_DOMINATED = 2097152
    BAND_ASSUMED = 4194304


#: One sentence for each bit.
DESCRIPTIONS = {
    Flag.FAILED: "The operation failed on this input; the row is NaN.",
    Flag.NONFINITE: "Unmasked pixels were NaN or infinite and have been masked.",
    Flag.OUTLIERS: "Pixels with absurd values have been masked.",
    Flag.TRUNCATED: "The galaxy reaches beyond the edge of the image.",
    Flag.RESAMPLED: "The input was resampled beyond the scales of the training.",
    Flag.LOW_SNR: "The signal is low compared with the noise.",
    Flag.FEW_PIXELS: "Few usable pixels are left.",
    Flag.OUT_OF_DOMAIN: "The input lies outside of what the method holds for.",
    Flag.PA_UNDETERMINED: "The input does not determine a position angle.",
    Flag.NO_WCS: "No celestial WCS: the position angle is counted from +y.",
    Flag.CENTER_ASSUMED: "No center was given; one was found or assumed.",
    Flag.NO_UNCERTAINTY: "The input has no uncertainty.",
    Flag.UNREADABLE: "The input could not be read; the row is NaN.",
    Flag.NEIGHBORS: "Another source lies close by.",
    Flag.MASKED: "A noticeable part of the pixels is masked.",
    Flag.SATURATED: "Pixels reach the level of saturation.",
    Flag.SIZE_MEASURED: "The effective radius was measured on the image, not given.",
    Flag.STANDARDIZED: "The numbers have no units: those of the model are not known.",
    Flag.NO_UNIT: "The data have no unit: only ratios of their values are known.",
    Flag.POINT_SOURCE: "The source is as narrow as the PSF: a star, or unresolved.",
    Flag.NO_SOURCE_AT_CENTER: "Nothing stands out of the noise at the center.",
    Flag.PRIOR_DOMINATED: "The answer is as wide as that of any galaxy at all.",
    Flag.BAND_ASSUMED: "Nobody tells the band of the image; one was assumed.",
}


def decode_flags(flags, *, separator=None):
    """Name the bits that are set.

    Parameters
    ----------
    flags : int or array_like of int
        One value, or a ``flags`` column; masked entries have no bits.
    separator : str, optional
        Join the names to text, as for printing.

    Returns
    -------
    tuple of str, or str; or list of them
        Lower-case names in ascending order of the bits: of a single value, or a list
        with those of each row. With a separator, text in place of tuples.

    Raises
    ------
    galml.core.InputTypeError
        When ``flags`` are not integers.
    galml.core.InputError
        When one is below zero.

    Examples
    --------
    >>> from galml.core import decode_flags
    >>> decode_flags(514)
    ('nonfinite', 'no_wcs')
    >>> decode_flags([0, 1])
    [(), ('failed',)]
    >>> decode_flags([0, 514], separator=", ")
    ['', 'nonfinite, no_wcs']
    """
    values = np.ma.filled(np.ma.asanyarray(flags), 0)
    if values.size == 0:
        return []
    if values.dtype.kind not in "iu" or values.ndim > 1:
        raise InputTypeError(
            "flags",
            f"{values.ndim}-D values of type {values.dtype}",
            "an integer or a column of integers",
        )
    if (values < 0).any():
        raise InputError("flags", str(values.min()), "integers of at least 0")
    names = [
        tuple(flag.name.lower() for flag in Flag if value & flag)
        for value in np.atleast_1d(values).tolist()
    ]
    if separator is not None:
        names = [separator.join(bits) for bits in names]
    return names if values.ndim else names[0]


def with_flags(flags, states):
    """Set bits of the rows that are in a state.

    Parameters
    ----------
    flags : `~numpy.ndarray`
        Integers, shape (n,).
    states : mapping of `Flag` to array_like of bool
        For each bit, shape (n,): the rows that get it.

    Returns
    -------
    `~numpy.ndarray`
        New flags.
    """
    for bit, state in states.items():
        flags = flags | np.where(state, int(bit), 0)
    return flags


def outside_domain(scalars, domain):
    """Tell which rows lie outside what a model was trained on.

    Parameters
    ----------
    scalars : `~numpy.ndarray`
        Numbers about the objects, shape (n, k).
    domain : mapping of str to list of float
        ``low`` and ``high``, see `~galml.core.fitting.valid_range`.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n,): whether any number lies outside its range. Zero never does: it also
        stands for what is not known, which training has seen.
    """
    low, high = np.array(domain["low"]), np.array(domain["high"])
    return (((scalars < low) | (scalars > high)) & (scalars != 0)).any(1)
