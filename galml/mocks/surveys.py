# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Instruments as the mocks know them."""

from dataclasses import dataclass

__all__ = ["GAS_SURVEYS", "GasSurvey"]


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
