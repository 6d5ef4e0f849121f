# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `circularity`."""

from galml.core.domain import find_domain
from galml.core.running import run
from galml.core.weights import load_model

__all__ = ["circularity"]


def circularity(
    data,
    *,
    dispersion=None,
    center=None,
    redshift=None,
    beam=None,
    tracer="gas",
    line=None,
    width=None,
    continuum=None,
    rest_value=None,
    convention=None,
    unit=None,
    model="default",
    device="auto",
    dtype="float32",
    batch_size=None,
    n_samples=0,
    seed=None,
    hdu=None,
    dispersion_hdu=None,
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
        a redshift, or a frequency or wavelength with its rest value): a
        `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.nddata.Cutout2D`,
        `~astropy.units.Quantity`, array with ``unit=``, image HDU or FITS path; a cube
        with its spectral axis, such as a specutils ``Spectrum``, whose moments are
        then taken as `~galml.gas_kinematics.moments` does; these moments themselves,
        of which velocity and dispersion count; or a sequence, iterator or table column
        of these, or a stack (n, ny, nx) of maps. NaN and masked pixels are no
        measurements.
    dispersion : object, optional
        The maps of velocity dispersion, in the same order and shape as ``data``.
        Disorder that the beam blurs shows only there. Cubes and moments have their own.
    center : pair of float, `~astropy.coordinates.SkyCoord`, optional
        Pixel (x, y) counted from 0, or sky position; or one for each map. By default
        the centroid of the mask.
    redshift : float, optional
        Velocities, optical ones of cubes, are divided by 1 + redshift; with ``line``,
        where the line is. One number, or one for each map.
    beam : `~astropy.units.Quantity`, optional
        FWHM of the beam or PSF, in an angle or in pixels; or one for each map. By
        default the header's ``BMAJ`` and ``BMIN``.
    tracer : {"gas", "stars"}, optional
        What was observed. Where there is no dispersion map, the circularity rests on
        how hot such disks are: gas is anything between cold and as hot as it
        rotates, stars are hot.
    line : `~astropy.units.Quantity`, optional
        Of cubes with continuum or many lines: the line to measure, by its rest
        wavelength in vacuum, its frequency or energy; or one for each cube.
    width, continuum : `~astropy.units.Quantity`, optional
        Full widths, in velocity, around ``line``: of the channels that may hold it
        (1000 km/s by default), and of the window whose other channels tell the
        continuum (3000 km/s by default).
    rest_value : `~astropy.units.Quantity`, optional
        Rest value of cubes of one line, or of maps in frequencies or wavelengths, whose
        header does not tell it; see `~galml.gas_kinematics.moments`.
    convention : {"radio", "optical", "relativistic"}, optional
        How frequencies or wavelengths become velocities; see
        `~galml.gas_kinematics.moments`.
    unit : `~astropy.units.Unit` or str, optional
        Unit of data that have none.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Name of a model, file of a model, or model.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network.
    batch_size : int, optional
        Maps that the network sees at once; by default 16 for each thread of the CPU,
        and 64 elsewhere. It changes no result.
    n_samples : int, optional
        Add columns with this many draws from the distributions.
    seed : int, optional
        Seed of these draws, which depend on it and on the map alone. By default a
        fresh one, which stands in the table's metadata as ``SEED``.
    hdu : int, str or tuple, optional
        FITS extension of ``data`` and of ``dispersion``; its partners with errors and
        masks are found by its header. ``(extension, channel)`` is one plane.
    dispersion_hdu : int, str or tuple, optional
        FITS extension of ``dispersion``, where it is another one.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per map, in order: ``circularity`` with ``circularity_err`` (1 sigma),
        ``circularity_lo`` and ``circularity_hi`` (68 %); ``disturbed_probability``,
        that of a circularity below 0.5; ``position_angle`` (to the receding side, east
        of north where the WCS is celestial, otherwise counter-clockwise from +y) with
        its error, from the kinematic angle that would be seen without noise, beam or
        gaps; ``inclination`` with its error, NaN where the map cannot tell;
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

    Examples
    --------
    An inclined disk whose receding side lies 30 degrees counter-clockwise from +y:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((40, 40)) - 19.5
    >>> along = y * np.cos(np.radians(30)) - x * np.sin(np.radians(30))
    >>> across = (x * np.cos(np.radians(30)) + y * np.sin(np.radians(30))) / 0.6
    >>> radius = np.hypot(along, across)
    >>> velocity = 150 * np.tanh(radius / 4) * along / radius * u.km / u.s
    >>> velocity[radius > 18] = np.nan
    >>> calm = np.full(velocity.shape, 8.0) * u.km / u.s
    >>> row = galml.circularity(velocity, dispersion=calm, beam=3 * u.pix)[0]
    >>> bool(row["circularity"] > 0.8)
    True
    >>> row["position_angle"].round()
    <Quantity 30. deg>
    """
    model = load_model(model, "circularity")
    options = {
        "dispersion": dispersion,
        "center": center,
        "redshift": redshift,
        "beam": beam,
        "tracer": tracer,
        "line": line,
        "width": width,
        "continuum": continuum,
        "rest_value": rest_value,
        "convention": convention,
        "unit": unit,
        "hdu": hdu,
        "dispersion_hdu": dispersion_hdu,
    }
    return run(
        find_domain(model),
        data,
        options,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        n_samples=n_samples,
        seed=seed,
        progress=progress,
    )
