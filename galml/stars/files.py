# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stars into files."""

import os
import warnings
from pathlib import Path
from uuid import uuid4

from galml.core.exceptions import InputError
from galml.core.table_files import write_parquet
from galml.core.threads import changing_filters
from galml.stars.operation import CHUNK, iter_stars, sample_stars

__all__ = ["FORMATS", "write_stars"]

#: Formats by suffix, as `astropy.table.Table.write` calls them.
FORMATS = {".parquet": "parquet", ".fits": "fits", ".ecsv": "ascii.ecsv"}


def write_stars(
    path,
    conditions=None,
    n=None,
    *,
    format=None,
    overwrite=False,
    chunk=CHUNK,
    seed=None,
    model="default",
    components=None,
    device="auto",
    batch_size=None,
    progress=False,
):
    """Draw the stars of galaxies into a file.

    Parameters
    ----------
    path : str or path-like
        Where to. A file that is not finished is not there under this name.
    conditions, n
        As for `galml.sample_stars`.
    format : {"parquet", "fits", "ascii.ecsv"}, optional
        By default the suffix tells: .parquet, .fits or .ecsv. Parquet needs pyarrow
        and is written table by table, in memory that does not grow with the number of
        stars; for the others all stars are in memory.
    overwrite : bool, optional
        Whether a file that is there may be replaced.
    chunk : int, optional
        Stars in memory at one time, where the format allows.
    seed, model, components, device, batch_size, progress
        As for `galml.sample_stars`.

    Returns
    -------
    int
        Number of stars written. `~astropy.table.QTable.read` reads them back with
        units and metadata.

    Raises
    ------
    OSError
        If the file is there and ``overwrite`` is false.
    galml.core.InputError
        If the format is unknown, and as `galml.sample_stars` does.
    """
    options = {
        "seed": seed,
        "model": model,
        "components": components,
        "device": device,
        "batch_size": batch_size,
        "progress": progress,
    }
    path = Path(path)
    if format is None:
        format = FORMATS.get(path.suffix.lower())
    if format not in FORMATS.values():
        raise InputError("path", path.name, f"a file named {' or '.join(FORMATS)}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: pass overwrite=True to replace it")
    # Of two runs that write one file at the same time, the last to end wins.
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        if format == "parquet":
            number = write_parquet(
                part, iter_stars(conditions, n, chunk=chunk, **options)
            )
        else:
            table = sample_stars(conditions, n, **options)
            with changing_filters, warnings.catch_warnings():
                # FITS has no dex; astropy notes it in a way that it reads back.
                warnings.filterwarnings("ignore", "The unit 'dex' could not be saved")
                table.write(part, format=format, overwrite=True)
            number = len(table)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return number
