# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A small pipeline around galml, as an observatory would write one.

Nothing here knows more of galml than its public functions.
"""

import numpy as np
from astropy.table import hstack
from photutils.segmentation import SourceCatalog, detect_sources

import galml
from galml import catalogs

__all__ = [
    "measure_catalog",
    "measure_collection",
    "measure_cube",
    "measure_survey",
]


def measure_collection(collection, **selection):
    """Measure the velocity maps of a `ccdproc.ImageFileCollection`, one at a time.

    Parameters
    ----------
    collection : `ccdproc.ImageFileCollection`
        Velocity maps with BUNIT.
    **selection
        Header keywords and the values that they must have.

    Returns
    -------
    `~astropy.table.QTable`
        A row for each map, with its file.
    """
    selected = collection.filter(**selection)
    table = galml.circularity(selected.ccds())
    table.add_column(list(selected.files), name="file", index=0)
    return table


def measure_cube(cube):
    """Measure one spectral cube, a `specutils.Spectrum`."""
    return galml.circularity(cube)


def measure_catalog(intensity, velocity, threshold, n_pixels=20):
    """Find the galaxies of a field and measure each, row by row of the catalog.

    Parameters
    ----------
    intensity, velocity : `~astropy.nddata.CCDData`
        Maps of the same field.
    threshold : float
        Detection threshold, in units of the intensity.
    n_pixels : int, optional
        Smallest number of pixels of a galaxy.

    Returns
    -------
    `~astropy.table.QTable`
        The table of the catalog with the results beside it.
    """
    segments = detect_sources(intensity.data, threshold, n_pixels)
    catalog = SourceCatalog(intensity.data, segments)
    maps = []
    for source in catalog:
        values = np.where(segments.data == source.label, velocity.data, np.nan)
        maps.append(values[source.slices] * velocity.unit)
    columns = ["label", "x_centroid", "y_centroid", "area"]
    return hstack([catalog.to_table(columns=columns), galml.circularity(maps)])


def measure_survey(catalog, images, output, scheduler=None):
    """Measure the spins of a survey, in partitions that a later call goes on with.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`, str or path-like
        Galaxies with ``id``, ``ra``, ``dec`` and ``r_eff``.
    images : mapping of str to str
        Tiles of each band, as patterns of files.
    output : str or path-like
        Folder of the results.
    scheduler : str or `distributed.Client`, optional
        Where it is computed.

    Returns
    -------
    table : `~astropy.table.QTable`
        A row for each galaxy, in order of the catalog.
    failures : `~astropy.table.QTable`
        Why some have no result.
    """
    tiles = catalogs.index(images)
    catalogs.run(
        "spin", catalog, images=tiles, output=output, scheduler=scheduler, seed=0
    )
    return catalogs.read(output), catalogs.failures(output)
