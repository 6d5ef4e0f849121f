# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``galml``: operations on files, from a shell.

The commands are made from the rows of ``galml.registry``. What a command does depends
on its kind, which is a module of this package.
"""

import argparse
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
    args = _parser().parse_args(argv)

    from galml.cli.output import UsageError
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
    demo = commands.add_parser("demo", help="the operations on example data")
    demo.add_argument(
        "-o",
        "--output",
        default="galml-demo",
        metavar="FOLDER",
        help="where tables and figures go (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)
    models = commands.add_parser("models", help="the models that can be named")
    models.set_defaults(run=_models)
    return parser


def _add_operation(commands, operation):
    """Add the command of an operation, after its kind."""
    command = operation.command
    parser = commands.add_parser(
        command.name, help=command.summary, description=command.summary
    )
    import_module(f"galml.cli.{command.kind}").add_arguments(parser, operation)
    parser.set_defaults(operation=operation)


def _models(args):
    from galml.cli.output import show

    show(galml.list_models())
    return 0


def _demo(args):
    from galml.cli.demo import run

    return run(main, args.output)
