# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `circularity`."""

from functools import partial

import numpy as np

from galml.core.exceptions import GalmlError, InputError, ModelError
from galml.core.inputs import Failure, RowOptions, stream
from galml.core.running import answer
from galml.core.weights import load_model
from galml.gas_kinematics import kinematic, published
from galml.gas_kinematics.velocities import to_velocity

__all__ = ["circularity", "problem_of", "read_maps"]

SYSTEMS = {"kinematic": kinematic, "merlin": published}


def circularity(
    data,
    *,
    dispersion=None,
    center=None,
    redshift=None,
    beam=None,
    unit=None,
    model="default",
    device="auto",
    dtype="float32",
    batch_size=None,
    n_samples=0,
    seed=None,
    hdu=None,
    progress=False,
):
    r"""Measure how ordered gas velocity fields are, and their position angles.

    The circularity is the fraction of kinetic energy in ordered rotation [1]_,

    .. math:: \kappa = \frac{\sum \frac12 m (j_z / R)^2}{\sum \frac12 m v^2},

    also known as :math:`\kappa_\mathrm{rot}`, of the gas inside the deprojected radius
    of the map. It is 1 for circular orbits in one plane, 1/3 for isotropic motions,
    and less for radial ones. It is not the orbital circularity
    :math:`j_z / j_\mathrm{circ}(E)` of single particles.

    Parameters
    ----------
    data : object
        One velocity map, shape (ny, nx), 4 to 20000 pixels a side, in a velocity (or
        a redshift, or a frequency or wavelength with its rest value in the header): a
        `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.nddata.Cutout2D`,
        `~astropy.units.Quantity`, array with ``unit=``, image HDU or FITS path; a cube
        with its spectral axis, such as a specutils ``Spectrum``, whose moments are
        then taken; or a sequence, iterator or table column of these. NaN and masked
        pixels are no measurements.
    dispersion : object, optional
        The maps of velocity dispersion, in the same order and shape as ``data``.
        Disorder that the beam blurs shows only there. A cube has its own.
    center : pair of float, `~astropy.coordinates.SkyCoord`, optional
        Pixel (x, y) counted from 0, or sky position; or one for each map. By default
        the centroid of the mask.
    redshift : float, optional
        Velocities are divided by 1 + redshift; one number, or one for each map.
    beam : `~astropy.units.Quantity`, optional
        FWHM of the beam or PSF, in an angle or in pixels; or one for each map. By
        default the header's ``BMAJ`` and ``BMIN``.
    unit : `~astropy.units.Unit` or str, optional
        Unit of data that have none.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Name of a model, file of a model, or model.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network.
    batch_size : int, optional
        Maps that the network sees at once; 64 by default. It changes no result.
    n_samples : int, optional
        Add columns with this many draws from the distributions.
    seed : int, optional
        Seed of these draws, which depend on it and on the map alone.
    hdu : int or str, optional
        FITS extension; its partners with errors and masks are found by its header.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per map, in order: ``circularity`` with ``circularity_err`` (1 sigma),
        ``circularity_lo`` and ``circularity_hi`` (68 %); ``disturbed_probability``,
        that of a circularity below 0.5; ``position_angle`` (to the receding side, east
        of north where the WCS is celestial, otherwise counter-clockwise from +y) with
        its error; ``inclination`` with its error, NaN where the map cannot tell;
        ``map_quality``, the probability that the angle is right to 10 degrees and the
        circularity to 0.15; ``latent``; and ``flags``, see
        `~galml.core.decode_flags`.

    Raises
    ------
    galml.core.InputError
        When the one map cannot be used. A map of a batch that cannot be used is a row
        of NaN with flags, and one `~galml.core.GalmlWarning` sums up.
    galml.core.ModelError
        When there is no such model.

    References
    ----------
    .. [1] Sales et al. (2012), MNRAS 423, 1544; velocity maps: Dawson et al. (2020),
       MNRAS 491, 2506.
    """
    model = load_model(model, "circularity")
    system = _system(model)
    is_single, length, maps = read_maps(
        data,
        dispersion=dispersion,
        center=center,
        redshift=redshift,
        beam=beam,
        unit=unit,
        hdu=hdu,
    )
    return answer(
        maps,
        model,
        system,
        problem=partial(problem_of, min_pixels=system.MIN_PIXELS),
        prepare=system.prepare_maps,
        is_single=is_single,
        length=length,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        n_samples=n_samples,
        seed=seed,
        progress=progress,
        call={
            "center": center,
            "redshift": redshift,
            "beam": beam,
            "unit": unit,
            "hdu": hdu,
            "n_samples": n_samples or None,
        },
    )


def _system(model):
    """Find the module that prepares maps for a model and reads its answers."""
    name = model.config.get("preparation")
    if name not in SYSTEMS:
        raise ModelError(
            f"model {model.name!r}: unknown preparation {name!r}; known are "
            f"{sorted(SYSTEMS)}"
        )
    return SYSTEMS[name]


def read_maps(
    data, *, dispersion=None, center=None, redshift=None, beam=None, unit=None, hdu=None
):
    """Read data as velocity maps in km/s, one at a time.

    Parameters
    ----------
    data, dispersion, center, redshift, beam, unit, hdu
        As in `circularity`.

    Returns
    -------
    is_single : bool
        Whether ``data`` is one map. It has been read.
    length : int or None
        Number of maps, where known.
    maps : iterator
        Of `~galml.gas_kinematics.velocities.VelocityMap`, and of
        `~galml.core.inputs.Failure` where a member of a batch cannot be used.
    """
    is_single, length, members = stream(data, unit=unit, hdu=hdu, ndim=(2, 3))
    second = None
    if dispersion is not None:
        alone, count, second = stream(
            dispersion, argument="dispersion", unit=unit, ndim=(2,)
        )
        if alone != is_single or None not in (count, length) and count != length:
            raise InputError(
                "dispersion",
                "one map" if alone else f"{count} maps",
                "one map" if is_single else f"{length} maps, as many as data",
            )
    options = RowOptions(
        {"center": center, "redshift": redshift, "beam": beam},
        is_single=is_single,
        length=length,
    )
    return is_single, length, _convert(members, second, options, is_single)


def _convert(members, second, options, is_single):
    """Convert each member; in a batch an error becomes a `Failure`."""
    for index, member in enumerate(members):
        extra = None if second is None else next(second, None)
        if second is not None and extra is None:
            missing = InputError("dispersion", f"{index} maps", "as many as data")
            extra = Failure(missing)
        if isinstance(member, Failure):
            yield member
            continue
        try:
            if isinstance(extra, Failure):
                raise extra.error
            yield to_velocity(member, dispersion=extra, **options.row(index))
        except (GalmlError, OSError, ValueError, TypeError, KeyError) as error:
            if is_single:
                raise
            yield Failure(error, member.name)


def problem_of(member, min_pixels):
    """Tell why a member of a batch cannot be used.

    Parameters
    ----------
    member : `~galml.gas_kinematics.velocities.VelocityMap` or Failure
        As `read_maps` gives it.
    min_pixels : int
        Fewest pixels that must have been measured.

    Returns
    -------
    Exception or None
        None for a map that can be used.
    """
    if isinstance(member, Failure):
        return member.error
    values = member.values[np.isfinite(member.values)]
    if values.size < min_pixels:
        got = f"a map with {values.size} measured pixels"
        return InputError("data", got, f"at least {min_pixels}")
    if values.max() == values.min():
        got = f"a map of {values[0]:g} km / s everywhere"
        return InputError("data", got, "velocities that differ")
    return None
