# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``galml``: operations on files, from a shell.

The commands are made from the rows of ``galml.registry``. What a command does depends
on its kind, which is a module of this package.
"""

import argparse
import os
import re
import sys
from importlib import import_module

import galml
from galml.registry import OPERATIONS

__all__ = ["main"]


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
    args = _parsed(argv)

    from galml.cli.output import UsageError, hints
    from galml.core.exceptions import GalmlError

    for stream in (sys.stdout, sys.stderr):
        # Names of files may hold what a terminal cannot show.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return args.run(args)
    except BrokenPipeError:
        # Who reads the table wants no more of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    # What is missing of the optional requirements is said by name.
    except (UsageError, GalmlError, OSError, ImportError) as error:
        print(f"galml: error: {error}", file=sys.stderr)
        for hint in hints(args, [str(error)]):
            print(f"galml: hint: {hint}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        # torch has no type of its own for memory that the processor lacks.
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        print(
            f"galml: error: not enough memory ({error}): choose a smaller --chunk or "
            "fewer --n-samples",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("galml: interrupted", file=sys.stderr)
        return 130


def _parsed(argv):
    """Parse arguments; files may stand anywhere among the options."""
    from galml.cli.options import read_files

    parser = _parser()
    args, others = parser.parse_known_args(
        _with_negatives(sys.argv[1:] if argv is None else argv)
    )
    error = getattr(args, "error", parser.error)
    if others and (not hasattr(args, "files") or any(o[:1] == "-" for o in others)):
        words = f"unrecognized arguments: {' '.join(others)}"
        if all(os.path.exists(one) for one in others):
            words += " (quote the pattern of an option, such as '*.fits')"
        error(words)
    if hasattr(args, "files"):
        try:
            groups = args.files + [read_files(text) for text in others]
        except argparse.ArgumentTypeError as problem:
            error(str(problem))
        args.files = [file for group in groups for file in group]
    return args


def _with_negatives(arguments):
    """Join values below zero, such as ``-5,3``, to their options.

    No option begins with a digit, but argparse takes all for options that are more than
    one number.
    """
    joined = []
    for text in arguments:
        option = joined[-1] if joined else ""
        if re.match(r"-\.?\d", text) and re.fullmatch(r"--[a-z][a-z-]*", option):
            joined[-1] = f"{option}={text}"
        else:
            joined.append(text)
    return joined


def _parser():
    """Make the parser, with a command for each row that has one."""
    parser = argparse.ArgumentParser(
        prog="galml", description="Deep learning on galaxies."
    )
    version = f"galml {galml.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for operation in OPERATIONS:
        if operation.command is not None:
            _add_operation(commands, operation)
    large = commands.add_parser(
        "run",
        help="an operation over a large catalog",
        description="Carry out an operation over a catalog that is larger than memory, "
        "or than one machine, and go on with it where it was interrupted.",
        epilog="Example: galml run spin galaxies.parquet --images 'tiles/*.fits' "
        "--set bands=r -o results",
    )
    import_module("galml.cli.survey").add_arguments(large)
    demo = commands.add_parser(
        "demo",
        help="the operations on example data",
        description="Carry out each operation on simulated galaxies that come with "
        "the package, beside what is true of them: tables and figures of all.",
        epilog="Example: galml demo -o galml-demo",
    )
    demo.add_argument(
        "-o",
        "--output",
        default="galml-demo",
        metavar="FOLDER",
        help="where tables and figures go (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)
    models = commands.add_parser(
        "models",
        help="the models that can be named",
        description="List the models that --model can name: what each is for, on what "
        "data, and whether it comes with the package.",
        epilog="Example: galml models",
    )
    models.set_defaults(run=_models)
    return parser


def _add_operation(commands, operation):
    """Add the command of an operation, after its kind."""
    command = operation.command
    parser = commands.add_parser(
        command.name, help=command.summary, description=command.summary
    )
    import_module(f"galml.cli.{command.kind}").add_arguments(parser, operation)
    parser.set_defaults(operation=operation, error=parser.error)


def _models(args):
    from galml.cli.output import show

    show(galml.list_models())
    return 0


def _demo(args):
    from galml.cli.demo import run

    return run(main, args.output)
