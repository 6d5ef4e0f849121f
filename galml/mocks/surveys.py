# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Instruments as the mocks know them."""

from dataclasses import dataclass

__all__ = ["GAS_SURVEYS", "IMAGING_SURVEYS", "GasSurvey", "ImagingSurvey"]


@dataclass(frozen=True)
class GasSurvey:
    """How an instrument turns gas into a velocity map.

    Parameters
    ----------
    name : str
        Name of the instrument.
    channel_width : tuple of float
        Range of channel widths, in km/s.
    beam_axis_ratio : float
        Smallest axis ratio of the beam.
    footprint : str
        Shape of the field of view: "circle", "hexagon" or "square".
    field : tuple of float
        Range of the field's radius, in radii of the gas.
    smooth_noise : float
        Share of maps whose noise is correlated over the beam.
    heavy_tails : float
        Share of maps in which the noise of faint pixels has heavy tails.
    binned : float
        Share of maps in Voronoi bins.
    """

    name: str
    channel_width: tuple
    beam_axis_ratio: float
    footprint: str
    field: tuple
    smooth_noise: float
    heavy_tails: float
    binned: float


#: CO with ALMA, H I with the precursors of the SKA, and stars or H alpha with MaNGA.
GAS_SURVEYS = (
    GasSurvey("ALMA", (2, 20), 0.6, "circle", (0.5, 1.5), 0.9, 0.1, 0.0),
    GasSurvey("SKA precursor", (2, 8), 0.8, "square", (1.0, 1.6), 0.9, 0.05, 0.0),
    GasSurvey("MaNGA", (50, 70), 1.0, "hexagon", (0.4, 1.3), 0.4, 0.4, 0.85),
)


@dataclass(frozen=True)
class ImagingSurvey:
    """How a telescope takes pictures of galaxies.

    Parameters
    ----------
    name : str
        Name of the survey.
    bands : tuple of str
        Its bands, out of `~galml.mocks.light.BANDS`.
    pixel_scale : float
        Side of a pixel, in arcsec.
    seeing : tuple of float
        Median FWHM of the point spread function in each band, in arcsec, pixels
        included.
    spread : float
        Scatter of the logarithm of the FWHM.
    moffat : float
        Exponent of the Moffat profile of the point spread function.
    depth : tuple of float
        AB magnitude of a point source that is detected at 5 sigma, in each band.
    sky : tuple of float
        Brightness of the sky in each band, in AB mag per square arcsec.
    redshift : float
        Largest redshift at which galaxies are looked at.
    """

    name: str
    bands: tuple
    pixel_scale: float
    seeing: tuple
    spread: float
    moffat: float
    depth: tuple
    sky: tuple
    redshift: float


#: SDSS (York et al. 2000, AJ 120, 1579; Abazajian et al. 2009, ApJS 182, 543; depths
#: of its data release 12), the Legacy Surveys (Dey et al. 2019, AJ 157, 168; i of
#: their data release 10), ten years of LSST (Ivezic et al. 2019, ApJ 873, 111), ACS as
#: in AEGIS (Davis et al. 2007, ApJ 660, L1) on pixels of COSMOS, and Euclid VIS
#: (Scaramella et al. 2022, A&A 662, A112), whose wide band is nearest to i.
IMAGING_SURVEYS = (
    ImagingSurvey(
        "SDSS",
        ("u", "g", "r", "i", "z"),
        0.396,
        (1.53, 1.44, 1.32, 1.26, 1.29),
        0.1,
        3.0,
        (22.15, 23.13, 22.70, 22.20, 20.71),
        (22.0, 21.8, 20.9, 20.2, 19.0),
        0.2,
    ),
    ImagingSurvey(
        "DECaLS",
        ("g", "r", "i", "z"),
        0.262,
        (1.29, 1.18, 1.10, 1.11),
        0.1,
        3.0,
        (23.95, 23.54, 23.2, 22.50),
        (22.0, 21.1, 20.3, 19.0),
        0.25,
    ),
    ImagingSurvey(
        "BASS/MzLS",
        ("g", "r", "z"),
        0.454,
        (1.61, 1.47, 1.01),
        0.1,
        3.0,
        (23.65, 23.08, 22.60),
        (22.0, 21.1, 19.0),
        0.25,
    ),
    ImagingSurvey(
        "LSST",
        ("u", "g", "r", "i", "z"),
        0.2,
        (0.92, 0.87, 0.83, 0.80, 0.78),
        0.06,
        4.765,
        (26.1, 27.4, 27.5, 26.8, 26.1),
        (22.99, 22.26, 21.20, 20.48, 19.60),
        0.4,
    ),
    ImagingSurvey(
        "ACS",
        ("F606W", "F814W"),
        0.05,
        (0.10, 0.11),
        0.02,
        2.5,
        (28.14, 27.52),
        (22.6, 22.3),
        1.0,
    ),
    ImagingSurvey("Euclid VIS", ("i",), 0.1, (0.16,), 0.02, 2.5, (26.2,), (22.3,), 0.8),
)
