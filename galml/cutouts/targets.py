# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where cutouts lie on the sky, how large they are, and how their pixels lie."""

from numbers import Real

import astropy.units as u
import numpy as np
from astropy.coordinates import ICRS, SkyCoord
from astropy.table import QTable, Table
from astropy.wcs import WCS
from astropy.wcs.wcsapi import high_level_objects_to_values

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.geometry import pixel_scale as scale_of

__all__ = [
    "R_EFF",
    "axes_on_sky",
    "cutout_wcs",
    "native_scale",
    "pixel_grids",
    "plan_sizes",
    "read_catalog",
    "to_pixels",
]


class _EffectiveRadius(u.IrreducibleUnit):
    """A unit that is the same one in other processes."""

    def __reduce__(self):
        return "R_EFF"


#: The effective radius of each galaxy as a unit: ``8.48 * R_EFF``.
R_EFF = _EffectiveRadius("R_eff", doc="Effective radius of a galaxy.")

#: Columns of positions on the sky, in lower case.
SKY_NAMES = (("ra", "dec"), ("raj2000", "dej2000"))
_PIXEL_NAMES = (("x", "y"), ("x_centroid", "y_centroid"), ("xcentroid", "ycentroid"))


def read_catalog(catalog, reference):
    """Find the positions and sizes in a catalog.

    Parameters
    ----------
    catalog : `~astropy.table.Table` or `~astropy.coordinates.SkyCoord`
        With a SkyCoord column, columns ``ra`` and ``dec`` (degrees unless they have a
        unit), or pixels ``x`` and ``y`` of the reference image; optionally ``r_eff``.
    reference : `~galml.cutouts.images.Tile` or `~galml.cutouts.allsky.HealpixMap`
        The first image.

    Returns
    -------
    catalog : `~astropy.table.QTable`
        A copy, with ``r_eff`` in arcsec.
    sky : `~astropy.coordinates.SkyCoord`
        ICRS positions; NaN where there is none.
    r_eff : `~numpy.ndarray` or None
        In arcsec; NaN where there is none.

    Raises
    ------
    galml.core.InputTypeError
        When it is no table.
    galml.core.InputError
        When there are no positions.
    galml.core.InputUnitError
        When ``r_eff`` is neither an angle nor in pixels.
    """
    if isinstance(catalog, SkyCoord):
        catalog = QTable([np.atleast_1d(catalog)], names=["sky"])
    if not isinstance(catalog, Table):
        kind = type(catalog).__name__
        raise InputTypeError("catalog", f"a {kind}", "a QTable, or a SkyCoord")
    catalog = QTable(catalog, copy=True)
    sky = _positions(catalog, getattr(reference, "wcs", None))
    if "r_eff" not in catalog.colnames:
        return catalog, sky, None
    radius = _numbers(catalog["r_eff"], None, "catalog['r_eff']")
    if radius.unit.is_equivalent(u.pix):
        radius = radius * native_scale(reference) / u.pix
    if not radius.unit.is_equivalent(u.arcsec):
        raise InputUnitError(
            "catalog['r_eff']", f"the unit {radius.unit}", "an angle or pixels"
        )
    catalog["r_eff"] = radius.to(u.arcsec)
    return catalog, sky, radius.to_value(u.arcsec)


def native_scale(image):
    """Compute the pixel scale in the center of an image.

    Parameters
    ----------
    image : `~galml.cutouts.images.Tile` or `~galml.cutouts.allsky.HealpixMap`
        The image.

    Returns
    -------
    `~astropy.units.Quantity`
        In arcsec.
    """
    if hasattr(image, "pixel_scale"):
        return image.pixel_scale
    ny, nx = image.shape
    return scale_of(image.wcs, ((nx - 1) / 2, (ny - 1) / 2)) * u.pix


def plan_sizes(size, n_pixels, pixel_scale, native, r_eff, count):
    """Work out the pixels of the cutouts.

    Parameters
    ----------
    size : int or `~astropy.units.Quantity`
        Side of the cutouts: pixels, an angle, or multiples of `R_EFF`.
    n_pixels : int or None
        Pixels on a side.
    pixel_scale : `~astropy.units.Quantity` or None
        Angle, or fraction of `R_EFF`.
    native : `~astropy.units.Quantity`
        Pixel scale of the first image.
    r_eff : `~numpy.ndarray` or None
        Effective radii in arcsec.
    count : int
        Number of galaxies.

    Returns
    -------
    n_pixels : int
        Pixels on a side.
    scales : `~numpy.ndarray`
        Shape (n,): arcsec per pixel; NaN where the effective radius is not known.

    Raises
    ------
    galml.core.InputError
        When the arguments are too many, too few, or not above zero.
    galml.core.InputUnitError
        For other units.
    """
    if not 0 < native.value < np.inf:
        expected = "a WCS whose pixels have a size"
        raise InputError("images", f"pixels of {native} in the center", expected)
    size = _length("size", size, (u.pix, u.arcsec, R_EFF))
    if pixel_scale is not None:
        pixel_scale = _length("pixel_scale", pixel_scale, (u.arcsec, R_EFF))
    if size.unit == u.pix:
        if n_pixels is not None:
            raise InputError("n_pixels", f"{n_pixels}", "None with size in pixels")
        n_pixels, scale = size.value, native if pixel_scale is None else pixel_scale
    elif n_pixels is not None:
        if pixel_scale is not None:
            raise InputError("pixel_scale", f"{pixel_scale}", "None with n_pixels")
        scale = size / _length("n_pixels", n_pixels, (u.pix,)).value
    else:
        scale = native if pixel_scale is None else pixel_scale
        if scale.unit != size.unit:
            raise InputError(
                "pixel_scale", f"{scale}", f"n_pixels=, or a scale in {size.unit}"
            )
        n_pixels = max(round((size / scale).value), 1)
    if n_pixels != int(n_pixels):
        raise InputError("size", f"{n_pixels} pixels", "a whole number of pixels")
    if scale.unit == u.arcsec:
        return int(n_pixels), np.full(count, scale.value)
    if r_eff is None:
        raise InputError("catalog", "no column r_eff", "one, for sizes in R_EFF")
    with np.errstate(invalid="ignore"):
        usable = (r_eff > 0) & np.isfinite(r_eff)
        return int(n_pixels), np.where(usable, r_eff * scale.value, np.nan)


def axes_on_sky(sky, wcs, orientation):
    """Compute the directions of the cutouts' axes.

    Parameters
    ----------
    sky : `~astropy.coordinates.SkyCoord`
        Shape (n,): centers.
    wcs : `~astropy.wcs.WCS` or other APE 14 WCS
        Of the first image; not needed for "north".
    orientation : {"north", "image"}
        North up and east left, or along the image with its parity.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, 2, 2): (east, north) of one step in x and in y, orthonormal.
    """
    north_up = np.array([[-1.0, 0.0], [0.0, 1.0]])
    if orientation == "north":
        return np.broadcast_to(north_up, (len(sky), 2, 2)).copy()
    x, y = to_pixels(wcs, sky)
    x, y = (np.where(np.isfinite(v), v, 0.0) for v in (x, y))
    steps = np.array([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    points = wcs.pixel_to_world(x + steps[:, :1], y + steps[:, 1:]).icrs
    angles = [points[k + 1].position_angle(points[k]).rad for k in (1, 3)]
    up = angles[1]
    parity = np.where(np.sin(angles[0] - up) > 0, 1.0, -1.0)
    along_y = np.stack([np.sin(up), np.cos(up)], axis=-1)
    along_x = parity[:, None] * np.stack([np.cos(up), -np.sin(up)], axis=-1)
    return np.stack([along_x, along_y], axis=-1)


def pixel_grids(sky, axes, scales, n_pixels, at):
    """Compute sky positions on a grid of points in each cutout.

    Parameters
    ----------
    sky : `~astropy.coordinates.SkyCoord`
        Shape (n,): centers.
    axes : `~numpy.ndarray`
        Shape (n, 2, 2), from `axes_on_sky`.
    scales : `~numpy.ndarray`
        Shape (n,): arcsec per pixel.
    n_pixels : int
        Pixels on a side.
    at : `~numpy.ndarray`
        Shape (k,): positions of the points along both sides, from -1 to 1.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        Shape (n, k, k), on the tangent plane of each cutout.
    """
    half = np.radians(scales / 3600.0) * n_pixels / 2.0
    x, y = np.meshgrid(at, at)
    plane = np.einsum("nij,jyx->niyx", axes * half[:, None, None], np.stack([x, y]))
    east, north = plane[:, 0], plane[:, 1]
    lon0, lat0 = (v.rad[:, None, None] for v in (sky.ra, sky.dec))
    depth = np.cos(lat0) - north * np.sin(lat0)
    lon = lon0 + np.arctan2(east, depth)
    lat = np.arctan2(np.sin(lat0) + north * np.cos(lat0), np.hypot(east, depth))
    return SkyCoord(lon, lat, unit="rad")


def cutout_wcs(sky, axes, scales, n_pixels):
    """Make the WCS of each cutout, a tangent plane.

    Parameters
    ----------
    sky : `~astropy.coordinates.SkyCoord`
        Shape (n,): centers.
    axes : `~numpy.ndarray`
        Shape (n, 2, 2), from `axes_on_sky`.
    scales : `~numpy.ndarray`
        Shape (n,): arcsec per pixel.
    n_pixels : int
        Pixels on a side.

    Returns
    -------
    list of `~astropy.wcs.WCS` or None
        None where there is no position or scale.
    """
    made = []
    for ra, dec, matrix, scale in zip(
        sky.ra.deg, sky.dec.deg, axes, scales, strict=True
    ):
        if not np.isfinite([ra, dec, scale]).all():
            made.append(None)
            continue
        # Nothing is to be repaired: for that, astropy changes filters of warnings.
        wcs = WCS(naxis=2, fix=False)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.crval = [ra, dec]
        wcs.wcs.crpix = [(n_pixels + 1) / 2] * 2
        wcs.wcs.cdelt = [scale / 3600.0] * 2
        wcs.wcs.pc = matrix
        wcs.array_shape = (n_pixels, n_pixels)
        made.append(wcs)
    return made


def to_pixels(wcs, sky):
    """Find the pixels of positions.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or other APE 14 WCS
        Of the image.
    sky : `~astropy.coordinates.SkyCoord`
        ICRS positions.

    Returns
    -------
    x, y : `~numpy.ndarray`
        In the shape of the positions; NaN where the image has no pixels for them.
    """
    low = getattr(wcs, "low_level_wcs", wcs)
    world = high_level_objects_to_values(sky, low_level_wcs=low)
    with np.errstate(all="ignore"):
        if isinstance(wcs, WCS):
            # Far outside the image, distortions need not have an inverse.
            x, y = wcs.all_world2pix(*world, 0, quiet=True)
        else:
            x, y = low.world_to_pixel_values(*world)
        back = wcs.pixel_to_world(x, y)
    # A position behind the tangent plane may be projected as its antipode.
    with np.errstate(invalid="ignore"):
        wrong = ~(back.separation(sky) < 1 * u.arcmin)
    return np.where(wrong, np.nan, x), np.where(wrong, np.nan, y)


def _positions(catalog, wcs):
    """Find the positions of a catalog, as ICRS."""
    for name in catalog.colnames:
        column = catalog[name]
        if isinstance(column, SkyCoord):
            sky = column.transform_to(ICRS())
            return _plain_sky(sky.ra.deg, sky.dec.deg)
    known = {name.lower(): name for name in catalog.colnames}
    for names in SKY_NAMES:
        if set(names) <= set(known):
            lon, lat = (
                _numbers(catalog[known[n]], u.deg, f"catalog[{known[n]!r}]")
                for n in names
            )
            return _plain_sky(lon.value, lat.value)
    for names in _PIXEL_NAMES if wcs is not None else ():
        if set(names) <= set(known):
            x, y = (
                _numbers(catalog[known[n]], u.pix, f"catalog[{known[n]!r}]").value
                for n in names
            )
            sky = wcs.pixel_to_world(x, y).transform_to(ICRS())
            return _plain_sky(sky.ra.deg, sky.dec.deg)
    raise InputError(
        "catalog",
        f"the columns {', '.join(catalog.colnames)}",
        "a SkyCoord column, ra and dec, or x and y",
    )


def _plain_sky(ra, dec):
    """Make positions of plain numbers; those that are none become NaN."""
    ra, dec = (
        np.ma.filled(np.ma.asarray(getattr(v, "unmasked", v), float), np.nan)
        for v in (ra, dec)
    )
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    return SkyCoord(
        np.where(usable, ra, np.nan), np.where(usable, dec, np.nan), unit="deg"
    )


def _numbers(column, unit, argument):
    """Read a column as a Quantity, in this unit if one is given; NaN where masked."""
    own = getattr(column, "unit", None) or unit or u.dimensionless_unscaled
    mask = np.asarray(getattr(column, "mask", False))
    values = getattr(column, "unmasked", column)
    values = np.asarray(getattr(values, "value", values))
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise InputTypeError(argument, f"{values.ndim}-D {values.dtype}", "numbers")
    values = np.where(mask, np.nan, values.astype(float)) * own
    if unit is None:
        return values
    if not own.is_equivalent(unit):
        raise InputUnitError(argument, f"the unit {own}", f"{unit}")
    return values.to(unit)


def _length(argument, value, units):
    """Check one length above zero and give it in the first unit that fits."""
    if not isinstance(value, u.Quantity):
        if u.pix not in units or isinstance(value, bool) or not isinstance(value, Real):
            expected = "a Quantity" if u.pix not in units else "a number or Quantity"
            raise InputTypeError(argument, repr(value), expected)
        value = value * u.pix
    unit = next((unit for unit in units if value.unit.is_equivalent(unit)), None)
    if unit is None:
        names = " or ".join(str(unit) for unit in units)
        raise InputUnitError(argument, f"the unit {value.unit}", names)
    if not (value.isscalar and np.isfinite(value) and value > 0):
        raise InputError(argument, f"{value}", "one value above zero")
    return value.to(unit)
