# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `lambda_r`: spin measured on maps of stellar kinematics."""

import hashlib
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from galml.core.exceptions import InputError
from galml.core.flags import Flag, with_flags
from galml.core.inputs import RowOptions, Source, convert_each
from galml.core.running import run
from galml.physics import fresh_seed, lambda_sums
from galml.stellar_kinematics.aperture import (
    Ellipse,
    coherence,
    place_ellipse,
    systemic_weights,
)
from galml.stellar_kinematics.seeing import correct_seeing
from galml.stellar_kinematics.spaxels import KMS, Spaxels, read_spaxels

__all__ = ["Galaxy", "SpaxelDomain", "lambda_r", "measure", "select_spaxels"]

RADII = ("circular", "elliptical")
#: Fewer spaxels are not measured, or flagged.
MIN_SPAXELS, FEW_SPAXELS = 10, 30
#: Faster, in km/s, is nothing that a redshift stands for.
FASTEST = 1e9
#: Less of the aperture covered by spaxels is flagged (Graham et al. 2018).
MIN_COVERAGE = 0.85
#: Velocities that follow one sense of rotation less than that are not regular.
MIN_COHERENCE = 0.9
#: Random values that are drawn at once.
MAX_DRAWN = 2_000_000


def lambda_r(
    flux,
    velocity=None,
    dispersion=None,
    *,
    r_eff=None,
    center=None,
    ellipticity=0.0,
    position_angle=None,
    radius="circular",
    systemic=None,
    psf_fwhm=None,
    sersic_index=None,
    unit=None,
    hdu=None,
    n_samples=100,
    seed=None,
    progress=False,
):
    r"""Measure the spin parameter λ_R and V/σ of stars within an ellipse.

    .. math::

        \lambda_R = \frac{\sum F_i R_i |V_i|}
                         {\sum F_i R_i \sqrt{V_i^2 + \sigma_i^2}}, \qquad
        \frac{V}{\sigma} = \sqrt{\frac{\sum F_i V_i^2}{\sum F_i \sigma_i^2}}

    over the spaxels whose centers lie inside the ellipse [1]_ [2]_.

    Parameters
    ----------
    flux : object
        Map of the light, shape (ny, nx): a `~astropy.nddata.CCDData`,
        `~astropy.nddata.NDData`, `~astropy.units.Quantity`, array, image HDU or FITS
        path; or a sequence of these. Or a table with a row per spaxel, or its file,
        with columns ``x`` and ``y`` (to the right and up, in pixels or angles),
        ``flux``, ``velocity``, ``dispersion`` and their errors ``flux_err`` and so on,
        where known; or a sequence of such tables. Or `~galml.gas_kinematics.Moments`,
        the three maps of a galaxy, or a sequence of them.
    velocity, dispersion : object
        Maps of the mean velocity and of the velocity dispersion of the stars,
        corrected for the instrument's; as many as of ``flux``.
    r_eff : `~astropy.units.Quantity`, optional
        Semi-major axis of the ellipse, above zero, in pixels or as an angle (for a
        table: as ``x``). By default the aperture is the whole map, and
        ``truncated`` is flagged.
    center : pair of float, `~astropy.coordinates.SkyCoord`, optional
        Pixel (x, y) counted from 0, or sky position. By default the centroid of the
        light in a circle of ``r_eff``.
    ellipticity : float, optional
        1 - b/a of the ellipse, at least 0 and below 1. None measures it, from the
        second moments of the light inside the ellipse.
    position_angle : `~astropy.units.Quantity`, optional
        Of the ellipse's major axis, east of north where there is a
        celestial WCS, otherwise counter-clockwise from +y. Measured by default.
    radius : {"circular", "elliptical"}, optional
        What R is: the distance from the center, as for SAURON, ATLAS3D and MaNGA
        [1]_ [3]_ [4]_, or the semi-major axis of the ellipse through the spaxel, as
        for SAMI [5]_.
    systemic : `~astropy.units.Quantity` or float, optional
        Velocity of the whole, in km/s unless it has a unit. By default it is fitted:
        the constant in a flux-weighted least-squares fit to the velocities inside the
        ellipse, beside a solid-body and a flat rotation of any axis; velocities 5
        times the scatter off are left out of the fit.
    psf_fwhm : `~astropy.units.Quantity`, optional
        Full width at half maximum of the PSF, in pixels or as an angle. With
        ``sersic_index`` it asks for λ_R corrected for seeing.
    sersic_index : float, optional
        Index of the galaxy's Sérsic profile.
    unit : `~astropy.units.Unit` or str, optional
        Unit of velocities and dispersions that have none.
    hdu : int, str, tuple or dict, optional
        FITS extension, or one for each of "flux", "velocity" and "dispersion". Where
        it names all three, they may be in one file: then ``flux`` alone is enough.
    n_samples : int, optional
        Number of Monte Carlo draws for the errors; 0 for none.
    seed : int, optional
        Seed of the draws, which depend on it and on the galaxy alone. By default a
        fresh one, which the metadata of the table name.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``lambda_r`` and ``v_over_sigma`` with their 1
        sigma errors (``_err``); with ``psf_fwhm`` and ``sersic_index`` also
        ``lambda_r_corrected``, see `correct_seeing`; ``ellipticity`` of the ellipse;
        ``systemic_velocity``; ``coverage``, the part of the ellipse that spaxels
        cover; and ``flags``, see `~galml.core.decode_flags`. Errors are NaN where the
        maps of velocity or dispersion have none. Where all dispersions are zero, V/σ is
        infinite and ``out_of_domain`` is flagged.

    Raises
    ------
    galml.core.InputError
        When the one galaxy cannot be measured. One of a batch that cannot be is a row
        of NaN with flags, and one `~galml.core.GalmlWarning` sums up.

    Notes
    -----
    Spaxels that are masked or not finite in any map, without light, or with a
    dispersion below zero, are left out;
    of maps with more than a million pixels, squares of pixels are put together first;
    ``masked`` is flagged where less than 85 % of the ellipse is covered, and
    ``few_pixels`` below 30 spaxels. 10 are the least.

    The correction for seeing holds for regular rotators only: where less than 90 % of
    :math:`\sum F |V \cos\psi|` has the sign of one rotation about the axis that fits
    best (ψ is the angle from it), or where `correct_seeing` does not hold,
    ``lambda_r_corrected`` is NaN and ``out_of_domain`` is flagged. Its error contains
    that of the correction.

    Noise raises \|V\|, and so λ_R of galaxies that hardly rotate.

    References
    ----------
    .. [1] Emsellem et al. (2007), MNRAS 379, 401.
    .. [2] Cappellari et al. (2007), MNRAS 379, 418; Binney (2005), MNRAS 363, 937.
    .. [3] Emsellem et al. (2011), MNRAS 414, 888.
    .. [4] Graham et al. (2018), MNRAS 477, 4711.
    .. [5] van de Sande et al. (2017), ApJ 835, 104.

    Examples
    --------
    >>> import astropy.units as u
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((41, 41)) - 20.0
    >>> flux = np.exp(-np.hypot(x, y) / 6)
    >>> velocity = 150 * np.tanh(x / 5)
    >>> dispersion = np.full(flux.shape, 80.0)
    >>> maps = flux, velocity, dispersion
    >>> table = galml.lambda_r(*maps, unit="km/s", r_eff=10 * u.pix)
    >>> round(float(table["lambda_r"][0]), 3)
    0.731
    """
    if radius not in RADII:
        raise InputError("radius", repr(radius), f"one of {RADII}")
    if (psf_fwhm is None) != (sersic_index is None):
        missing = "psf_fwhm" if psf_fwhm is None else "sersic_index"
        raise InputError(missing, "None", "a number, to correct for seeing")
    if psf_fwhm is not None and r_eff is None:
        raise InputError("r_eff", "None", "an effective radius, to correct for seeing")
    if not isinstance(n_samples, Integral) or n_samples < 0 or n_samples == 1:
        raise InputError("n_samples", repr(n_samples), "0, or an integer above 1")
    if seed is not None and (not isinstance(seed, Integral) or seed < 0):
        raise InputError("seed", repr(seed), "None, or an integer not below 0")
    if n_samples and seed is None:
        seed = fresh_seed()
    return run(
        SpaxelDomain(corrected=psf_fwhm is not None, n_samples=n_samples, seed=seed),
        (flux, velocity, dispersion),
        {
            "r_eff": r_eff,
            "center": center,
            "ellipticity": ellipticity,
            "position_angle": position_angle,
            "radius": radius,
            "systemic": systemic,
            "psf_fwhm": psf_fwhm,
            "sersic_index": sersic_index,
            "unit": unit,
            "hdu": hdu,
        },
        dtype="float64",
        n_samples=n_samples,
        seed=seed,
        progress=progress,
    )


@dataclass
class Galaxy:
    """What is measured of one galaxy.

    Attributes
    ----------
    spaxels : `~galml.stellar_kinematics.spaxels.Spaxels`
        Those inside the ellipse, with positions from its center.
    ellipse : `~galml.stellar_kinematics.aperture.Ellipse`
        The aperture.
    distance : `~numpy.ndarray`
        R of each spaxel.
    systemic : float or None
        Velocity of the whole in km/s, where it is given.
    psf_fwhm, sersic_index : float or None
        Width of the PSF in the unit of position, and index of the profile.
    """

    spaxels: Spaxels
    ellipse: Ellipse
    distance: np.ndarray
    systemic: float | None
    psf_fwhm: float | None
    sersic_index: float | None

    @property
    def coverage(self):
        """Part of the ellipse that spaxels cover; NaN where it has no end."""
        if self.ellipse.size == np.inf:
            return np.nan
        return self.spaxels.area * len(self.distance) / self.ellipse.area

    @property
    def flags(self):
        """Bits of `galml.core.Flag`."""
        flags = Flag(self.spaxels.flags)
        flags |= Flag.TRUNCATED if self.ellipse.size == np.inf else 0
        flags |= Flag.MASKED if self.coverage < MIN_COVERAGE else 0
        flags |= Flag.FEW_PIXELS if len(self.distance) < FEW_SPAXELS else 0
        return int(flags)


@dataclass
class Measured:
    """What was measured of galaxies, one row for each.

    Attributes
    ----------
    names : list of str or None
        Names of the galaxies.
    values : `~numpy.ndarray`
        Shape (galaxies, columns): as `measure` gives them, in its order.
    bits : `~numpy.ndarray`
        Bits of `galml.core.Flag`.
    wcs : list
        Celestial WCS of each map, or None.
    center : `~numpy.ndarray`
        Shape (galaxies, 2): pixel (x, y) of each center.
    """

    names: list
    values: np.ndarray
    bits: np.ndarray
    wcs: list
    center: np.ndarray

    def __len__(self):
        return len(self.names)

    def __getitem__(self, rows):
        names, wcs = ([all_[row] for row in rows] for all_ in (self.names, self.wcs))
        arrays = (self.values[rows], self.bits[rows])
        return Measured(names, *arrays, wcs, self.center[rows])

    def wcs_of(self, row):
        """Give the WCS of one map, or None."""
        return self.wcs[row]

    @property
    def inputs(self):
        """What there is instead of inputs of a network."""
        return {"values": self.values}


class SpaxelDomain:
    """Lists of spaxels, which are measured as they are read, without a network.

    Parameters
    ----------
    corrected : bool
        Whether λ_R is corrected for seeing, too.
    n_samples : int
        Number of Monte Carlo draws for the errors.
    seed : int or None
        Seed of the draws.
    """

    model = None
    operation = "lambda_r"
    views = ()
    optional = ("lambda_r_corrected", "coverage")

    def __init__(self, *, corrected=False, n_samples=0, seed=None):
        self.corrected = corrected
        self.n_samples, self.seed = n_samples, seed

    def read(self, data, *, radius="circular", unit=None, hdu=None, **options):
        """Read maps or tables and measure them, one galaxy at a time.

        Parameters
        ----------
        data : tuple
            Flux, velocity and dispersion, as for `lambda_r`.
        radius, unit, hdu
            As for `lambda_r`.
        **options
            ``r_eff``, ``center``, ``ellipticity``, ``position_angle``, ``systemic``,
            ``psf_fwhm`` and ``sersic_index`` of `lambda_r`.

        Returns
        -------
        `~galml.core.inputs.Source`
            Of `Measured`.
        """
        source = read_spaxels(*data, unit=unit, hdu=hdu)
        rows = RowOptions(options, is_single=source.is_single, length=source.length)

        def convert(index, spaxels):
            galaxy = select_spaxels(spaxels, radius, **rows.row(index))
            # What overflows is no number, and a failure.
            with np.errstate(over="ignore", invalid="ignore"):
                row = measure(galaxy, n_samples=self.n_samples, seed=self.seed)
            flags = galaxy.flags
            if self.corrected and np.isnan(row["lambda_r_corrected"]):
                flags |= int(Flag.OUT_OF_DOMAIN)
            values = np.array([list(row.values())])
            return Measured(
                [spaxels.name],
                values,
                np.array([flags]),
                [spaxels.wcs],
                np.array([galaxy.ellipse.center]),
            )

        def measured():
            members = convert_each(source.members, convert, is_single=source.is_single)
            count = 0
            for count, member in enumerate(members, start=1):  # noqa: B007
                yield member
            if not source.is_single:
                rows.finish(count)

        return Source(source.is_single, source.length, measured())

    def problem(self, member):
        """Tell that what was measured can be used."""
        return [None] * len(member)

    def prepare(self, members):
        """Put what was measured together."""
        return Measured(
            [name for member in members for name in member.names],
            np.concatenate([member.values for member in members]),
            np.concatenate([member.bits for member in members]),
            [wcs for member in members for wcs in member.wcs],
            np.concatenate([member.center for member in members]),
        )

    def centers(self, prepared, members):
        """Give the pixel (x, y) of each galaxy."""
        return prepared.center

    def columns(self, n_samples):
        """Give trailing shape and unit of each column of the result."""
        names = ["lambda_r", "lambda_r_err", "v_over_sigma", "v_over_sigma_err"]
        if self.corrected:
            names += ["lambda_r_corrected", "lambda_r_corrected_err"]
        names += ["ellipticity", "systemic_velocity", "coverage"]
        units = {"systemic_velocity": KMS}
        return {name: ((), units.get(name)) for name in names}

    def answer(self, outputs, prepared, members):
        """Give the columns."""
        return {
            name: values if unit is None else values * unit
            for (name, (_, unit)), values in zip(
                self.columns(0).items(), prepared.values.T, strict=True
            )
        }

    def flags(self, answer, prepared, members):
        """Give the bits of each galaxy."""
        # No dispersions at all are rather unknown than zero.
        cold = {Flag.OUT_OF_DOMAIN: np.isinf(answer["v_over_sigma"])}
        return with_flags(prepared.bits, cold)


def select_spaxels(
    spaxels,
    radius,
    *,
    r_eff,
    center,
    ellipticity,
    position_angle,
    systemic,
    psf_fwhm,
    sersic_index,
):
    """Take the spaxels of a galaxy that lie inside the ellipse.

    Parameters
    ----------
    spaxels : `~galml.stellar_kinematics.spaxels.Spaxels`
        All spaxels of the galaxy.
    radius, r_eff, center, ellipticity, position_angle, systemic, psf_fwhm, sersic_index
        As for `lambda_r`, of one galaxy.

    Returns
    -------
    `Galaxy`
        What is measured.

    Raises
    ------
    galml.core.InputError
        If a value is out of its range, or too few spaxels are left.
    """
    _check_count(spaxels, "in the map")
    ellipse = place_ellipse(
        spaxels,
        r_eff=r_eff,
        center=center,
        ellipticity=ellipticity,
        position_angle=position_angle,
    )
    semi_major = ellipse.semi_major_axis(spaxels.x, spaxels.y)
    inside = ellipse.contains(semi_major)
    inner = spaxels.select(inside)
    _check_count(inner, "in the aperture")
    for name in ("velocity", "dispersion"):
        fastest = np.abs(getattr(inner, name)).max()
        if fastest > FASTEST:
            got = f"values up to {fastest:.3g} km/s"
            raise InputError(name, got, f"at most {FASTEST:.3g} km/s")
    if np.ptp(inner.x) == np.ptp(inner.y) == 0:
        raise InputError("flux", "spaxels at one place", "spaxels at many places")
    x, y = inner.x - ellipse.center[0], inner.y - ellipse.center[1]
    flags = inner.flags | int(Flag.CENTER_ASSUMED if center is None else 0)
    if systemic is not None:
        systemic = spaxels.number(systemic, "systemic", KMS)
        if not np.isfinite(systemic):
            raise InputError("systemic", str(systemic), "a finite velocity")
    if psf_fwhm is not None:
        psf_fwhm = spaxels.length(psf_fwhm, "psf_fwhm")
        if not 0 <= psf_fwhm < np.inf:
            raise InputError("psf_fwhm", f"{psf_fwhm:g}", "a finite width, not below 0")
        sersic_index = spaxels.number(sersic_index, "sersic_index")
        if not 0 < sersic_index < np.inf:
            raise InputError("sersic_index", f"{sersic_index:g}", "a number above zero")
    return Galaxy(
        spaxels=replace(inner, x=x, y=y, flags=flags),
        ellipse=ellipse,
        distance=np.hypot(x, y) if radius == "circular" else semi_major[inside],
        systemic=systemic,
        psf_fwhm=psf_fwhm,
        sersic_index=sersic_index,
    )


def measure(galaxy, *, n_samples=0, seed=None):
    """Measure one galaxy.

    Parameters
    ----------
    galaxy : `Galaxy`
        Spaxels inside an ellipse.
    n_samples : int, optional
        Number of Monte Carlo draws for the errors; 0 for none.
    seed : int or None, optional
        Seed of the draws; None is the same as 0.

    Returns
    -------
    dict of str to float
        Value of each column of `lambda_r`, in order; the corrected ones where the
        width of the PSF is known.
    """
    spaxels, coverage = galaxy.spaxels, galaxy.coverage
    systemic_velocity = _systemic_velocity(galaxy)
    velocity = spaxels.velocity - systemic_velocity(spaxels.velocity)
    spin, ordered = lambda_sums(
        spaxels.flux,
        velocity,
        spaxels.dispersion,
        galaxy.distance,
        spaxels.flux > 0,
        -1,
    )
    spin_err, ordered_err = _errors(galaxy, systemic_velocity, n_samples, seed)
    row = {
        "lambda_r": spin,
        "lambda_r_err": spin_err,
        "v_over_sigma": ordered,
        "v_over_sigma_err": ordered_err,
    }
    if galaxy.psf_fwhm is not None:
        corrected, error = _corrected(galaxy, velocity, spin, spin_err)
        row |= {"lambda_r_corrected": corrected, "lambda_r_corrected_err": error}
    return row | {
        "ellipticity": 1 - galaxy.ellipse.ratio,
        "systemic_velocity": systemic_velocity(spaxels.velocity),
        "coverage": np.minimum(coverage, 1.0),
    }


def _systemic_velocity(galaxy):
    """Give the function that finds the systemic velocity of velocity fields."""
    if galaxy.systemic is not None:
        return lambda velocity: galaxy.systemic
    spaxels = galaxy.spaxels
    weights = systemic_weights(spaxels.x, spaxels.y, spaxels.flux, spaxels.velocity)
    return lambda velocity: velocity @ weights


def _errors(galaxy, systemic_velocity, n_samples, seed):
    """Scatter of λ_R and V/σ when the maps scatter by their errors."""
    spaxels = galaxy.spaxels
    values = np.stack([spaxels.flux, spaxels.velocity, spaxels.dispersion])
    errors = [spaxels.flux_std, spaxels.velocity_std, spaxels.dispersion_std]
    if n_samples == 0 or errors[1] is None or errors[2] is None:
        return np.nan, np.nan
    errors[0] = np.zeros_like(galaxy.distance) if errors[0] is None else errors[0]
    errors = np.stack(errors)
    # Keyed by the galaxy, so that the draws do not depend on its place in a batch.
    digest = hashlib.blake2b(values.tobytes() + errors.tobytes(), digest_size=8)
    random = np.random.default_rng([seed or 0, *digest.digest()])
    at_once = max(1, MAX_DRAWN // values.size)
    draws = []
    for start in range(0, n_samples, at_once):
        shape = min(at_once, n_samples - start), *values.shape
        drawn = values + errors * random.standard_normal(shape)
        flux, velocity, dispersion = drawn.swapaxes(0, 1)
        velocity = velocity - np.expand_dims(systemic_velocity(velocity), -1)
        draws.append(
            lambda_sums(flux, velocity, dispersion, galaxy.distance, flux > 0, -1)
        )
    with np.errstate(invalid="ignore"):
        return np.concatenate(draws, axis=1).std(axis=1, ddof=1)


def _corrected(galaxy, velocity, spin, spin_err):
    """Correct λ_R for seeing; the error contains that of the correction."""
    spaxels = galaxy.spaxels
    corrected, lower, upper = correct_seeing(
        spin,
        psf_fwhm=galaxy.psf_fwhm,
        r_eff=galaxy.ellipse.size,
        sersic_index=galaxy.sersic_index,
    )
    if coherence(spaxels.x, spaxels.y, spaxels.flux, velocity) < MIN_COHERENCE:
        return np.nan, np.nan
    scaled = spin_err * corrected / spin if spin > 0 else spin_err
    return corrected, np.hypot(scaled, (lower + upper) / 2)


def _check_count(spaxels, where):
    """Raise where there are too few spaxels."""
    count = len(spaxels.flux)
    if count < MIN_SPAXELS:
        raise InputError(
            "flux", f"{count} usable spaxels {where}", f"at least {MIN_SPAXELS}"
        )
