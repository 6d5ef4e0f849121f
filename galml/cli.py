# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``galml``: operations on files, from a shell."""

import argparse
import sys
import warnings
from dataclasses import dataclass
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path

import galml
from galml._journal import Journal
from galml.core.flags import decode_flags

__all__ = ["main"]

FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
}
# Options that every operation takes as keywords of the same name.
COMMON = ("device", "hdu", "n_samples", "seed", "unit")


class UsageError(Exception):
    """A command line that cannot be carried out."""


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
    """

    name: str
    summary: str
    plots: str
    options: dict
    paired: dict
    examples: str


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
        examples="*.fits",
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
    add("files", nargs="+", metavar="FILE", help="FITS files, one galaxy each")
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
        type=_positive,
        default=256,
        metavar="N",
        help="galaxies between two saves (default: 256)",
    )
    add("--quiet", action="store_true", help="show no progress")
    for name, options in operation.options.items():
        add(f"--{name}", **options)
    for name, options in operation.paired.items():
        add(f"--{name}", nargs="+", metavar="FILE", **options)
    parser.set_defaults(run=_run, operation=operation)


def _hdu(text):
    return int(text) if text.isdecimal() else text


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _run(args):
    table_format = _table_format(args)
    inputs = _inputs(args)
    if args.figures is not None and find_spec("matplotlib") is None:
        raise UsageError("--figures needs matplotlib: pip install 'galml[all]'")
    model = galml.load_model(args.model, operation=args.operation.name)
    keywords = {
        name: getattr(args, name) for name in (*COMMON, *args.operation.options)
    }
    journal = Journal(
        args.output,
        [
            galml.__version__,
            args.operation.name,
            model.sha256,
            keywords,
            _paired(args),
        ],
    )
    if journal.is_other():
        if not args.overwrite:
            raise UsageError(
                f"{journal.folder} holds an interrupted run with other options: "
                "remove it, or pass --overwrite to start again"
            )
        journal.remove()
    table = _compute(args, inputs, journal, keywords | {"model": model})
    if args.figures is not None:
        _write_figures(args, table)
    if args.output is None:
        _print_table(table, table_format)
    else:
        _write_table(table, args.output, table_format)
        journal.remove()
    return _report(table)


def _table_format(args):
    """Format of the table; None to show it on a terminal."""
    output = args.output
    if output is None:
        if args.format not in (None, "ascii.ecsv", "votable"):
            raise UsageError(f"{args.format} needs a file: pass --output")
        return args.format or (None if sys.stdout.isatty() else "ascii.ecsv")
    if output.exists() and not args.overwrite:
        raise UsageError(f"{output} exists: pass --overwrite to replace it")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output.parent} is not a folder")
    table_format = args.format or FORMATS.get(output.suffix.lower())
    if table_format is None:
        raise UsageError(
            f"{output}: the suffix is none of {' '.join(FORMATS)}: pass --format"
        )
    if table_format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("parquet needs pyarrow: pip install 'galml[all]'")
    return table_format


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
            _add_names(table, files)
            journal.add(table, chunk)
            progress.update(len(chunk))
    return journal.table(inputs)


def _add_names(table, files):
    """Name each galaxy: as its data say, or after its file."""
    names = table["name"] if "name" in table.colnames else [""] * len(files)
    names = [str(name) or _stem(file) for name, file in zip(names, files, strict=True)]
    if "name" in table.colnames:
        table["name"] = names
    else:
        table.add_column(names, name="name", index=0)


def _stem(file):
    name = Path(file).name
    return name.removesuffix(".gz").rpartition(".")[0] or name


def _failed(row):
    from galml.core.flags import Flag

    return bool(int(row["flags"]) & (Flag.FAILED | Flag.UNREADABLE))


def _write_figures(args, table):
    """Write a figure for each galaxy that has a result, and one for the table."""
    from matplotlib.figure import Figure

    plots = import_module(args.operation.plots)
    args.figures.mkdir(parents=True, exist_ok=True)
    stems = [_stem(file) for file in table["file"]]
    if len(set(stems)) < len(stems):
        stems = [f"{number:06d}_{stem}" for number, stem in enumerate(stems)]
    for row, stem in zip(table, stems, strict=True):
        if not _failed(row):
            figure = plots.plot_galaxy(
                str(row["file"]), row, hdu=args.hdu, unit=args.unit, figure=Figure()
            )
            figure.savefig(args.figures / f"{stem}.png")
    figure = plots.plot_table(table, figure=Figure())
    figure.savefig(args.figures / f"{args.operation.name}.png")


def _write_table(table, output, table_format):
    """Write the table whole or not at all."""
    temporary = output.with_name(f".{output.name}.tmp")
    table.write(temporary, format=table_format, overwrite=True)
    temporary.replace(output)


def _print_table(table, table_format):
    if table_format is None:
        _show(table)
    else:
        table.write(sys.stdout, format=table_format)


def _show(table):
    """Print what a person can read of a table: few digits, flags by name."""
    shown = table[[name for name in table.colnames if table[name].ndim == 1]]
    for name in shown.colnames:
        if name == "flags":
            shown[name] = [" ".join(names) for names in decode_flags(table[name])]
            shown[name].info.format = "<"
        elif shown[name].dtype.kind == "f":
            angle = getattr(shown[name], "unit", None) is not None
            shown[name].info.format = ".1f" if angle else ".3f"
    shown.pprint(max_lines=-1, max_width=-1)


def _report(table):
    """Say on the standard error what failed; return the exit code."""
    failed = [row["file"] for row in table if _failed(row)]
    if not failed:
        return 0
    print(f"galml: {len(failed)} of {len(table)} failed:", file=sys.stderr)
    for file in failed:
        print(f"  {file}", file=sys.stderr)
    return 1


def _models(args):
    _show(galml.list_models())
    return 0


def _demo(args):
    from astropy.table import QTable

    args.output.mkdir(parents=True, exist_ok=True)
    status = 0
    for operation in OPERATIONS:
        examples = resources.files("galml") / "data" / "examples"
        files = sorted(str(path) for path in Path(examples).glob(operation.examples))
        output = args.output / f"{operation.name}.ecsv"
        figures = args.output / operation.name
        command = [operation.name, *files, "-o", str(output), "--overwrite"]
        status = max(status, main([*command, "--figures", str(figures)]))
        if output.exists():
            table = QTable.read(output)
            table.remove_column("file")
            _show(table)
        print(f"Table: {output}\nFigures: {figures}")
    return status
