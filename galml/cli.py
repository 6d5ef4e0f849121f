# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``galml``: operations on files, from a shell."""

import argparse
import sys
import warnings
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path

import galml
from galml._field import add_field_options, run_field
from galml._output import (
    FORMATS,
    UsageError,
    add_names,
    check_figures,
    failed,
    finish,
    open_journal,
    positive,
    show,
    stem,
    table_format_of,
)
from galml._stars import add_stars, demo_stars

__all__ = ["main"]

# Options that every operation takes as keywords of the same name.
COMMON = ("device", "hdu", "n_samples", "seed", "unit")


@dataclass(frozen=True)
class Operation:
    """What the command line has to know of an operation.

    Attributes
    ----------
    name : str
        Name of the public function in `galml`.
    summary : str
        One line for the help.
    plots : str
        Module with ``plot_galaxy`` and ``plot_table``.
    options : dict
        Further options, with what `argparse` needs; each is a keyword of the function.
    paired : dict
        The same for options that name one file for each input file.
    examples : str
        Pattern of the example files that the demonstration uses.
    field : bool
        Whether the files are images of one field in several bands, of which galaxies
        are cut out, and not one galaxy each.
    """

    name: str
    summary: str
    plots: str
    options: dict
    paired: dict
    examples: str
    field: bool = False


OPERATIONS = (
    Operation(
        name="circularity",
        summary="how much of the gas' motion is ordered rotation, from velocity maps",
        plots="galml.gas_kinematics.plots",
        options={
            "redshift": {
                "type": float,
                "metavar": "Z",
                "help": "divide the velocities by 1 + Z",
            }
        },
        paired={"dispersion": {"help": "maps of the velocity dispersion"}},
        examples="mock-*.fits",
    ),
    Operation(
        name="spin",
        summary="stellar spin of the galaxies in images of a field",
        plots="galml.stellar_spin.plots",
        options={},
        paired={},
        examples="field-*.fits",
        field=True,
    ),
)


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0 when all went well, 1 when a galaxy failed, 2 when the command could not be
        carried out, 130 when it was interrupted.
    """
    args = _parser().parse_args(argv)

    from galml.core.exceptions import GalmlError

    try:
        return args.run(args)
    except (UsageError, GalmlError, OSError) as error:
        print(f"galml: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("galml: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="galml", description="Deep learning on galaxies."
    )
    parser.add_argument(
        "--version", action="version", version=f"galml {galml.__version__}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for operation in OPERATIONS:
        _add_operation(commands, operation)
    add_stars(commands)
    demo = commands.add_parser("demo", help="every operation on example data")
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("galml-demo"),
        metavar="FOLDER",
        help="where tables and figures go (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)
    models = commands.add_parser("models", help="the models that can be named")
    models.set_defaults(run=_models)
    return parser


def _add_operation(commands, operation):
    parser = commands.add_parser(
        operation.name, help=operation.summary, description=operation.summary
    )
    add = parser.add_argument
    contents = "one band each" if operation.field else "one galaxy each"
    add("files", nargs="+", metavar="FILE", help=f"FITS files, {contents}")
    if operation.field:
        add_field_options(add)
    add(
        "-o",
        "--output",
        type=Path,
        help=f"table to write, its format by its suffix ({' '.join(FORMATS)}); an "
        "interrupted run goes on where it stopped. Without it the table goes to the "
        "standard output",
    )
    add("--format", choices=sorted(set(FORMATS.values())), help="format of the table")
    add("--overwrite", action="store_true", help="replace an existing table")
    add("--figures", type=Path, metavar="FOLDER", help="write figures there")
    add("--model", default="default", help="name or file of the model")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add("--hdu", type=_hdu, help="extension to read, by name or number")
    add("--unit", help="unit of the values where the files do not say")
    add(
        "--n-samples",
        type=int,
        default=0,
        metavar="N",
        help="posterior samples for each galaxy (default: 0)",
    )
    add("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    add(
        "--chunk",
        type=positive,
        default=256,
        metavar="N",
        help="galaxies between two saves (default: 256)",
    )
    add("--quiet", action="store_true", help="show no progress")
    for name, options in operation.options.items():
        add(f"--{name}", **options)
    for name, options in operation.paired.items():
        add(f"--{name}", nargs="+", metavar="FILE", **options)
    run = run_field if operation.field else _run
    parser.set_defaults(run=run, operation=operation)


def _hdu(text):
    return int(text) if text.isdecimal() else text


def _run(args):
    table_format = table_format_of(args)
    inputs = _inputs(args)
    check_figures(args)
    model = galml.load_model(args.model, operation=args.operation.name)
    keywords = {
        name: getattr(args, name) for name in (*COMMON, *args.operation.options)
    }
    configuration = [args.operation.name, model.sha256, keywords, _paired(args)]
    journal = open_journal(args, configuration)
    table = _compute(args, inputs, journal, keywords | {"model": model})
    if args.figures is not None:
        _write_figures(args, table)
    return finish(args, table, table_format, journal)


def _inputs(args):
    """Tuples of an input file and the files that go with it."""
    columns = [args.files]
    for name in _paired(args):
        files = getattr(args, name)
        if len(files) != len(args.files):
            raise UsageError(
                f"--{name}: got {len(files)} files for {len(args.files)} galaxies"
            )
        columns.append(files)
    inputs = list(zip(*columns, strict=True))
    if len(set(inputs)) != len(inputs):
        raise UsageError("a file is given twice")
    return inputs


def _paired(args):
    """Those options with a file for each input file that were given."""
    return [name for name in args.operation.paired if getattr(args, name)]


def _compute(args, inputs, journal, keywords):
    """Results of all inputs, in their order, from the journal where it has them."""
    from tqdm import tqdm

    from galml.core.exceptions import GalmlWarning

    paired = _paired(args)
    journal.load(["file", *(f"{name}_file" for name in paired)])
    pending = [one for one in inputs if one not in journal.done]
    function = getattr(galml, args.operation.name)
    with tqdm(
        total=len(inputs),
        initial=len(inputs) - len(pending),
        desc=args.operation.name,
        unit="galaxy",
        disable=args.quiet,
    ) as progress:
        for start in range(0, len(pending), args.chunk):
            chunk = pending[start : start + args.chunk]
            files, *partners = map(list, zip(*chunk, strict=True))
            keywords |= dict(zip(paired, partners, strict=True))
            with warnings.catch_warnings():
                # What it says of each chunk is reported once, at the end.
                warnings.simplefilter("ignore", GalmlWarning)
                table = function(files, **keywords)
            add_names(table, files)
            journal.add(table, chunk)
            progress.update(len(chunk))
    return journal.table(inputs)


def _write_figures(args, table):
    """Write a figure for each galaxy that has a result, and one for the table."""
    from matplotlib.figure import Figure

    plots = import_module(args.operation.plots)
    args.figures.mkdir(parents=True, exist_ok=True)
    names = [stem(file) for file in table["file"]]
    if len(set(names)) < len(names):
        names = [f"{number:06d}_{name}" for number, name in enumerate(names)]
    for row, name in zip(table, names, strict=True):
        if not failed(row):
            figure = plots.plot_galaxy(
                str(row["file"]), row, hdu=args.hdu, unit=args.unit, figure=Figure()
            )
            figure.savefig(args.figures / f"{name}.png")
    figure = plots.plot_table(table, figure=Figure())
    figure.savefig(args.figures / f"{args.operation.name}.png")


def _models(args):
    show(galml.list_models())
    return 0


def _demo(args):
    from astropy.table import QTable

    args.output.mkdir(parents=True, exist_ok=True)
    status = 0
    for operation in OPERATIONS:
        examples = resources.files("galml") / "data" / "examples"
        files = sorted(str(path) for path in Path(examples).glob(operation.examples))
        if not files:
            continue
        output = args.output / f"{operation.name}.ecsv"
        figures = args.output / operation.name
        command = [operation.name, *files, "-o", str(output), "--overwrite"]
        status = max(status, main([*command, "--figures", str(figures)]))
        if output.exists():
            table = QTable.read(output)
            if "file" in table.colnames:
                table.remove_column("file")
            show(table)
        print(f"Table: {output}\nFigures: {figures}")
    return max(status, demo_stars(main, Path(examples), args.output))
