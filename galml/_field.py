# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands on images of a field: cut galaxies out, then ask the operation."""

import os
import warnings
from importlib import import_module
from pathlib import Path

import galml
from galml._output import (
    UsageError,
    add_names,
    check_figures,
    failed,
    finish,
    open_journal,
    table_format_of,
)

__all__ = ["add_field_options", "run_field"]

#: Side of the cutouts in effective radii, and in pixels: those of the network's grid.
SIZE, PIXELS = 8.48, 72
KEYWORDS = ("device", "n_samples", "seed")


def add_field_options(add):
    """Add the options that tell what the images show."""
    add(
        "--catalog",
        metavar="TABLE",
        help="galaxies, with ra and dec (or x and y) and, if known, r_eff; by default "
        "they are detected on the first image",
    )
    add(
        "--bands",
        nargs="+",
        metavar="BAND",
        help="band of each file; by default BAND or FILTER of the headers, or what "
        "follows the last _ in the file name",
    )
    add(
        "--psf",
        nargs="+",
        type=float,
        metavar="FWHM",
        help="FWHM of the PSF in each file, in arcsec",
    )


def run_field(args):
    """Carry out a command on the images of a field."""
    table_format = table_format_of(args)
    check_figures(args)
    images = _images(args)
    psf = _psf(args, images)
    model = galml.load_model(args.model, operation=args.operation.name)
    catalog = _catalog(args, images)
    keywords = {name: getattr(args, name) for name in KEYWORDS}
    changed = [os.stat(file).st_mtime_ns for file in args.files]
    told = [args.operation.name, model.sha256, keywords, args.hdu, args.unit]
    told += [images, changed, args.catalog, args.psf]
    journal = open_journal(args, told)
    table = _compute(args, images, psf, catalog, journal, keywords | {"model": model})
    if args.figures is not None:
        _plots(args).plot_table(table, figure=_figure()).savefig(
            args.figures / f"{args.operation.name}.png"
        )
    return finish(args, table, table_format, journal)


def _images(args):
    """Files by their bands."""
    from astropy.io import fits

    bands = args.bands
    if bands is None:
        bands = []
        for file in args.files:
            header = fits.getheader(file, args.hdu or 0)
            name = header.get("BAND", header.get("FILTER"))
            bands.append(str(name or Path(file).name.split(".")[0].rpartition("_")[2]))
    if len(bands) != len(args.files):
        raise UsageError(f"--bands: got {len(bands)} for {len(args.files)} files")
    if len(set(bands)) < len(bands):
        raise UsageError(f"a band is there twice: {' '.join(bands)}")
    return dict(zip(bands, args.files, strict=True))


def _psf(args, images):
    """FWHM of the PSF of each band."""
    import astropy.units as u

    if args.psf is None:
        return None
    if len(args.psf) != len(images):
        raise UsageError(f"--psf: got {len(args.psf)} for {len(images)} files")
    return dict(zip(images, args.psf * u.arcsec, strict=True))


def _catalog(args, images):
    """Galaxies of the catalog, or those that are detected."""
    from astropy.table import QTable

    from galml.cutouts import detect

    if args.catalog is not None:
        return QTable.read(args.catalog)
    first = next(iter(images.values()))
    return detect(first, unit=args.unit, hdu=args.hdu)


def _compute(args, images, psf, catalog, journal, keywords):
    """Results of all galaxies in their order, from the journal where it has them."""
    from tqdm import tqdm

    from galml.core.exceptions import GalmlWarning
    from galml.cutouts.extract import iter_cutouts
    from galml.cutouts.targets import R_EFF

    keys = [(str(row),) for row in range(1, len(catalog) + 1)]
    if not keys:
        raise UsageError("there is no galaxy in the images")
    journal.load(["row"])
    pending = [i for i, key in enumerate(keys) if key not in journal.done]
    chunks = [
        pending[start : start + args.chunk]
        for start in range(0, len(pending), args.chunk)
    ]
    function = getattr(galml, args.operation.name)
    with (
        tqdm(
            total=len(keys),
            initial=len(keys) - len(pending),
            desc=args.operation.name,
            unit="galaxy",
            disable=args.quiet,
        ) as progress,
        warnings.catch_warnings(),
    ):
        # What it says of each chunk is reported once, at the end.
        warnings.simplefilter("ignore", GalmlWarning)
        stacks = iter_cutouts(
            images,
            catalog[pending],
            size=SIZE * R_EFF,
            n_pixels=PIXELS,
            psf=psf,
            unit=args.unit,
            hdu=args.hdu,
            chunk=args.chunk,
        )
        for chunk, stack in zip(chunks, stacks, strict=False):
            table = function(stack, **keywords)
            add_names(table, [f"galaxy {i + 1}" for i in chunk])
            _add_places(table, stack)
            if args.figures is not None:
                _write_figures(args, stack, table)
            journal.add(table, [keys[i] for i in chunk])
            progress.update(len(chunk))
    table = journal.table(keys)
    table["row"] = table["row"].astype(int)
    return table


def _add_places(table, stack):
    """Say where on the sky the galaxies are."""
    import astropy.units as u
    import numpy as np

    middle = (stack.data.shape[-1] - 1) / 2
    places = [
        (np.nan, np.nan) if wcs is None else wcs.wcs_pix2world(middle, middle, 0)
        for wcs in stack.wcs
    ]
    for index, key in enumerate(("ra", "dec")):
        column = [float(place[index]) for place in places] * u.deg
        table.add_column(column, name=key, index=1 + index)


def _write_figures(args, stack, table):
    """Write a figure for each galaxy that has a result."""
    args.figures.mkdir(parents=True, exist_ok=True)
    for one, row in zip(stack, table, strict=True):
        if not failed(row):
            figure = _plots(args).plot_galaxy(one, row, figure=_figure())
            name = str(row["name"]).replace("/", "_").replace(" ", "_")
            figure.savefig(args.figures / f"{name}.png")


def _plots(args):
    return import_module(args.operation.plots)


def _figure():
    from matplotlib.figure import Figure

    return Figure()
