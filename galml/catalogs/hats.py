# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""HATS catalogs, in partitions of the sphere, read and described through LSDB."""

import os

from galml.catalogs.plan import PLACES
from galml.catalogs.sources import check_units
from galml.core.exceptions import InputError
from galml.core.runs import identity

__all__ = ["PROPERTIES", "HatsSource", "finish_hats", "is_hats"]

#: Files of which a catalog, or a collection of one with its margins, has one.
PROPERTIES = "hats.properties", "properties", "collection.properties"


def is_hats(catalog):
    """Recognize the folder of a HATS catalog, or a catalog of LSDB."""
    if isinstance(catalog, str | os.PathLike):
        return any(os.path.isfile(os.path.join(catalog, name)) for name in PROPERTIES)
    return hasattr(catalog, "hc_structure")


class HatsSource:
    """A HATS catalog, whose partitions workers read by themselves.

    Parameters
    ----------
    catalog : str, path-like or `lsdb.catalog.Catalog`
        Folder or catalog.
    units : mapping or None
        Of columns whose catalog tells none.
    places_alone : bool
        Whether no more than names, positions and sizes are needed.

    Attributes
    ----------
    length : int or None
        Rows; None where that is not known before they are read.
    identity : list
        What tells it from others.
    pixels : list of (int, int)
        Order and number of the cell of each partition, in order.
    names : tuple of str
        Columns of right ascension and declination.

    Raises
    ------
    ImportError
        Where LSDB is not installed.
    galml.core.InputError
        For units of columns that are not there.
    """

    def __init__(self, catalog, units, places_alone):
        try:
            import lsdb
        except ImportError as error:
            message = "HATS catalogs need LSDB: pip install 'galml[distributed]'"
            raise ImportError(message) from error
        if isinstance(catalog, str | os.PathLike):
            catalog = lsdb.open_catalog(catalog, columns="all")
        info = catalog.hc_structure.catalog_info
        self.names = info.ra_column, info.dec_column
        check_units(units, list(catalog.columns))
        self.units = dict(units or {})
        try:
            self.length = len(catalog)
        except ValueError:
            self.length = None
        if places_alone:
            wanted = {*self.names, *PLACES, "name", "id"}
            catalog = catalog[[name for name in catalog.columns if name in wanted]]
        self._frames = catalog.to_delayed()
        found = catalog.get_ordered_healpix_pixels()
        self.pixels = [(int(pixel.order), int(pixel.pixel)) for pixel in found]
        margin = catalog.margin if places_alone else None
        self._margins = {}
        if margin is not None:
            cells = margin.get_ordered_healpix_pixels()
            self._margins = dict(zip(cells, margin.to_delayed(), strict=True))
        self._cells = found
        self.catalog = catalog
        firsts = [self._frames[0], *list(self._margins.values())[:1]]
        keys = [str(frame.key) for frame in firsts]
        self.identity = [*keys, self.pixels, *self._files(found)]
        if not self.pixels:
            raise InputError("catalog", "no partition", "one at least")

    def frames(self, number):
        """Give a partition as what is still to be read, by whoever computes it.

        With it comes what the catalog knows of galaxies beyond the edge of its cell.
        """
        import dask

        margin = self._margins.get(self._cells[number])
        frames = [self._frames[number], *([] if margin is None else [margin])]
        return dask.optimize(*frames)

    def _files(self, pixels):
        """Tell the files from what they were before."""
        from hats.io.paths import pixel_catalog_file

        base = self.catalog.hc_structure.catalog_path
        if base is None:
            return []
        suffix = self.catalog.hc_structure.catalog_info.npix_suffix
        files = [pixel_catalog_file(base, p, npix_suffix=suffix) for p in pixels]
        return [identity(str(file)) for file in files]


def finish_hats(catalog, folder, pixels):
    """Describe a folder of partitions as a HATS catalog.

    Parameters
    ----------
    catalog : `lsdb.catalog.Catalog`
        Whose result it is.
    folder : path
        With the partitions below ``dataset``; those without rows are not there.
    pixels : list of (int, int)
        Order and number of the cell of each partition.
    """
    import pyarrow.parquet as pq
    from hats.catalog import PartitionInfo
    from hats.io import write_parquet_metadata
    from hats.io.paths import pixel_catalog_file
    from hats.pixel_math import HealpixPixel

    cells, rows = [], []
    for cell in (HealpixPixel(order, pixel) for order, pixel in pixels):
        file = str(pixel_catalog_file(folder, cell))
        if os.path.exists(file):
            cells.append(cell)
            rows.append(pq.read_metadata(file).num_rows)
    if not rows:
        return
    write_parquet_metadata(folder, create_per_partition_stats=True)
    PartitionInfo(cells).write_to_file(folder / "partition_info.csv")
    properties = catalog.hc_structure.catalog_info.copy_and_update(
        catalog_name=folder.name,
        total_rows=sum(rows),
        ra_column="ra",
        dec_column="dec",
        default_columns=None,
        healpix_column="_healpix_29",
        healpix_order=29,
        hats_max_rows=max(rows),
        hats_order=max(cell.order for cell in cells),
        npix_suffix=".parquet",
        skymap_order=None,
        skymap_alt_orders=None,
    )
    properties.to_properties_file(folder)
