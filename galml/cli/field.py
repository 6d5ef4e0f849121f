# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands whose files are images of one field, out of which galaxies are cut."""

import os

from galml.cli import objects
from galml.cli.journal import open_journal, resume
from galml.cli.options import add_files, add_options, keywords_of
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
from galml.core.runs import content_of, identity

__all__ = ["add_arguments", "cutout_grid", "run"]

#: Of images of a field there are no planes to choose from.
EXTENSION = {"type": "extension", "help": "extension to read, by name or number"}
#: Options that say how the images of a field are cut, and those for images of one
#: galaxy each alone.
OF_FIELDS, OF_GALAXIES = ("bands", "psf_fwhm"), ("pixel_scale", "r_eff")


def add_arguments(parser, operation):
    """Add what such a command takes.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    operation : `~galml.core.domain.Operation`
        Its row of the registry.
    """
    add_files(parser, operation)
    parser.add_argument(
        "--catalog",
        metavar="TABLE",
        help="galaxies, with ra and dec (or x and y) and, if known, r_eff; by default "
        "they are detected on the first image",
    )
    add_options(parser, operation, hdu=EXTENSION)
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
    from galml.imaging.rgb import is_color_file

    pictures = [is_color_file(file) for file in args.files]
    cubes = [not any(pictures) and _is_cube(file, args.hdu) for file in args.files]
    _check_options(args, pictures, cubes)
    if all(pictures) or all(cubes):
        if hasattr(args, "bands"):
            args.bands = ",".join(args.bands)
        return objects.run(args)
    inputs = args.files if args.catalog is None else [*args.files, args.catalog]
    table_format = table_format_of(args, inputs)
    check_figures(args)
    images = _images(args)
    psf = _psf(args, images)
    model = galml.load_model(args.model, operation=args.operation.name)
    catalog = _catalog(args, images)
    if len(catalog) == 0:
        raise UsageError("there is no galaxy in the images")
    keywords = keywords_of(args)
    for name in OF_FIELDS:
        keywords.pop(name, None)
    configuration = [args.operation.name, model.sha256, keywords, psf]
    configuration += [{band: identity(file) for band, file in images.items()}]
    if args.catalog is not None:
        configuration.append(content_of(args.catalog))
    reading = {name: keywords.pop(name, None) for name in ("unit", "hdu")}
    function = getattr(galml, args.operation.name)
    drawn = set()

    def compute(chunks):
        rows = [row for chunk in chunks for row in chunk]
        stacks = _cutouts(args, images, catalog[rows], psf, model, reading)
        for chunk, stack in zip(chunks, stacks, strict=True):
            table = function(stack, model=model, **keywords)
            add_names(table, [f"galaxy {row + 1}" for row in chunk])
            if args.figures is not None:
                _write_figures(args, stack, table, drawn)
            yield table

    numbers = list(range(1, len(catalog) + 1))
    with open_journal(args, configuration) as journal:
        table, reasons, computed = resume(args, journal, numbers, compute)
        table.add_column(numbers, name="row", index=0)
        status = finish(args, table, table_format, journal, reasons, computed)
    if args.figures is not None:
        figure = plots_of(args).plot_table(table)
        save_figure(args, figure, args.operation.command.name)
    return status


def _is_cube(file, hdu):
    """Tell whether a file holds images in several bands."""
    from galml.core.exceptions import GalmlError
    from galml.core.files import find_hdu, open_fits, readable

    try:
        with readable("FILE", file), open_fits(file, "FILE") as hdus:
            shape = find_hdu(hdus, hdu, None, (2, 3), "FILE").shape
    except (GalmlError, OSError):
        return False
    return sum(length > 1 for length in shape) == 3


def _check_options(args, pictures, cubes):
    """Raise where kinds of files are mixed, or an option is for the others."""
    for kind, those in (("pictures", pictures), ("cubes", cubes)):
        if any(those) and not all(those):
            raise UsageError(
                f"{kind} have no place in a field: pass them by themselves"
            )
    others = OF_GALAXIES
    if all(pictures):
        others = ("bands", "catalog")
    elif all(cubes):
        others = ("catalog",)
    for name in others:
        if getattr(args, name, None) is not None:
            kind = (
                "pictures and cubes" if others is OF_GALAXIES else "images of a field"
            )
            raise UsageError(f"--{name.replace('_', '-')} is for {kind}")


def _images(args):
    """Files by their bands."""
    from galml.core.files import open_fits, readable

    bands = getattr(args, "bands", None)
    if bands is None:
        bands = []
        for file in args.files:
            with readable("FILE", file), open_fits(file, "FILE") as hdus:
                header = hdus[args.hdu or 0].header
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
    widths = getattr(args, "psf_fwhm", None)
    if widths is None:
        return None
    if len(widths) != len(images):
        raise UsageError(f"--psf-fwhm: got {len(widths)} for {len(images)} files")
    return {band: width for band, (width,) in zip(images, widths, strict=True)}


def _catalog(args, images):
    """Galaxies of the catalog, or those that are detected."""
    from galml.core.table_files import read_table
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


def _write_figures(args, stack, table, drawn):
    """Write a figure for each galaxy that has a result; note their names."""
    for one, row in zip(stack, table, strict=True):
        if not failed(row):
            name = str(row["name"])
            while name in drawn:
                name += "_again"
            drawn.add(name)
            save_figure(args, plots_of(args).plot_galaxy(one, row), name)
