# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands whose files are images of one field, out of which galaxies are cut."""

import os

from galml.cli.journal import RESUMED, open_journal, resume
from galml.cli.options import add_options, keywords_of
from galml.cli.output import (
    UsageError,
    add_names,
    check_figures,
    failed,
    finish,
    plots_of,
    save_figure,
    table_format_of,
)

__all__ = ["add_arguments", "cutout_grid", "run"]

#: Of images of a field there are no planes to choose from.
EXTENSION = {"type": "extension", "help": "extension to read, by name or number"}


def add_arguments(parser, operation):
    """Add what such a command takes.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    operation : `~galml.core.domain.Operation`
        Its row of the registry.
    """
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help=operation.command.files)
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
        "--psf-fwhm",
        nargs="+",
        type=float,
        metavar="FWHM",
        help="FWHM of the PSF in each file, in arcsec",
    )
    add_options(parser, operation, hdu=EXTENSION)
    parser.epilog = RESUMED
    parser.set_defaults(run=run)


def run(args):
    """Carry out the command.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.

    Returns
    -------
    int
        Exit code.
    """
    import galml

    table_format = table_format_of(args)
    check_figures(args)
    images = _images(args)
    psf = _psf(args, images)
    model = galml.load_model(args.model, operation=args.operation.name)
    catalog = _catalog(args, images)
    if len(catalog) == 0:
        raise UsageError("there is no galaxy in the images")
    keywords = keywords_of(args)
    changed = [os.stat(file).st_mtime_ns for file in args.files]
    configuration = [args.operation.name, model.sha256, keywords]
    configuration += [images, changed, args.catalog, args.psf_fwhm]
    journal = open_journal(args, configuration)
    reading = {name: keywords.pop(name, None) for name in ("unit", "hdu")}
    function = getattr(galml, args.operation.name)
    drawn = set()

    def compute(chunks):
        rows = [row for chunk in chunks for row in chunk]
        stacks = _cutouts(args, images, catalog[rows], psf, model, reading)
        for chunk, stack in zip(chunks, stacks, strict=True):
            table = function(stack, model=model, **keywords)
            add_names(table, [f"galaxy {row + 1}" for row in chunk])
            _add_places(table, stack)
            if args.figures is not None:
                _write_figures(args, stack, table, drawn)
            yield table

    keys = [(str(row),) for row in range(1, len(catalog) + 1)]
    table = resume(args, journal, ["row"], keys, compute)
    table["row"] = table["row"].astype(int)
    status = finish(args, table, table_format, journal)
    if args.figures is not None:
        figure = plots_of(args).plot_table(table)
        save_figure(args, figure, args.operation.command.name)
    return status


def _images(args):
    """Files by their bands."""
    from astropy.io import fits

    bands = args.bands
    if bands is None:
        bands = []
        for file in args.files:
            header = fits.getheader(file, args.hdu or 0)
            name = header.get("BAND", header.get("FILTER"))
            stem = os.path.basename(file).split(".")[0]
            bands.append(str(name or stem.rpartition("_")[2]))
    if len(bands) != len(args.files):
        raise UsageError(f"--bands: got {len(bands)} for {len(args.files)} files")
    if len(set(bands)) < len(bands):
        raise UsageError(f"a band is there twice: {' '.join(bands)}")
    return dict(zip(bands, args.files, strict=True))


def _psf(args, images):
    """FWHM of the PSF of each band."""
    import astropy.units as u

    widths = args.psf_fwhm
    if widths is None:
        return None
    if len(widths) != len(images):
        raise UsageError(f"--psf-fwhm: got {len(widths)} for {len(images)} files")
    return dict(zip(images, widths * u.arcsec, strict=True))


def _catalog(args, images):
    """Galaxies of the catalog, or those that are detected."""
    from galml.core.files import read_table
    from galml.cutouts import detect

    if args.catalog is not None:
        return read_table(args.catalog, argument="--catalog")
    first = next(iter(images.values()))
    return detect(first, unit=args.unit, hdu=args.hdu)


def cutout_grid(model):
    """Give the grid of cutouts, which is that of what a network is shown.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        The model.

    Returns
    -------
    size : float
        Side in effective radii.
    n_pixels : int
        Pixels on a side.

    Raises
    ------
    `~galml.cli.output.UsageError`
        If the model was not shown images of a size in effective radii.
    """
    spec = model.input_spec
    if not (spec.grid and spec.half_width and spec.width_unit == "r_eff"):
        raise UsageError(f"{model.name}: a model whose images have no fixed size")
    cells = max(spec.grid)
    # Wider than the grid where an image is turned before it is shown.
    n_pixels = int(spec.parameters.get("wide_cells", cells))
    return 2 * spec.half_width * n_pixels / cells, n_pixels


def _cutouts(args, images, catalog, psf, model, reading):
    """Cut galaxies out, chunk by chunk."""
    from galml.cutouts.extract import iter_cutouts
    from galml.cutouts.targets import R_EFF

    if len(catalog) == 0:
        return ()
    size, n_pixels = cutout_grid(model)
    return iter_cutouts(
        images,
        catalog,
        size=size * R_EFF,
        n_pixels=n_pixels,
        psf=psf,
        chunk=args.chunk,
        **reading,
    )


def _add_places(table, stack):
    """Say where on the sky the galaxies are."""
    import astropy.units as u
    import numpy as np

    center = (stack.data.shape[-1] - 1) / 2
    places = [
        (np.nan, np.nan) if wcs is None else wcs.wcs_pix2world(center, center, 0)
        for wcs in stack.wcs
    ]
    for index, key in enumerate(("ra", "dec")):
        column = [float(place[index]) for place in places] * u.deg
        table.add_column(column, name=key, index=1 + index)


def _write_figures(args, stack, table, drawn):
    """Write a figure for each galaxy that has a result; note their names."""
    for one, row in zip(stack, table, strict=True):
        if not failed(row):
            name = str(row["name"])
            while name in drawn:
                name += "_again"
            drawn.add(name)
            save_figure(args, plots_of(args).plot_galaxy(one, row), name)
