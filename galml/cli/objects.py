# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands whose files hold one galaxy each."""

from galml.cli.journal import open_journal, resume
from galml.cli.options import add_files, add_options, keywords_of, value
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
from galml.core.runs import identity

__all__ = ["add_arguments", "run"]


def add_arguments(parser, operation):
    """Add what such a command takes.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    operation : `~galml.core.domain.Operation`
        Its row of the registry. Options with ``nargs="+"`` have one value for all
        galaxies, or one for each.
    """
    add_files(parser, operation)
    add_options(parser, operation)
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
    from galml.core.results import text_of

    partners = _partners(args)
    inputs = [args.files, *partners.values()]
    table_format = table_format_of(args, [file for files in inputs for file in files])
    check_figures(args)
    _check_files(args, inputs)
    keywords, series = _keywords(args)
    configuration = [args.operation.name, keywords, sorted(partners), sorted(series)]
    if hasattr(args, "model"):
        model = galml.load_model(args.model, operation=args.operation.name)
        configuration.append(model.sha256)
        keywords = keywords | {"model": model}
    keys = [
        [[identity(file) for file in files], values]
        for files, *values in zip(
            zip(*inputs, strict=True), *series.values(), strict=True
        )
    ]
    function = getattr(galml, args.operation.name)
    series = partners | series

    def compute(chunks):
        for chunk in chunks:
            files = [args.files[index] for index in chunk]
            own = {name: [one[i] for i in chunk] for name, one in series.items()}
            table = function(files, **keywords, **own)
            add_names(table, files)
            yield table

    with open_journal(args, configuration) as journal:
        table, reasons, computed = resume(args, journal, keys, compute)
        columns = ["file", *(f"{name}_file" for name in partners)]
        for index, (name, files) in enumerate(zip(columns, inputs, strict=True)):
            table.add_column([text_of(file) for file in files], name=name, index=index)
        status = finish(args, table, table_format, journal, reasons, computed)
    if args.figures is not None:
        _write_figures(args, table, keywords, series)
    return status


def _partners(args):
    """Files that go with the input files, by the names of their options."""
    given = {name: getattr(args, name, None) for name in args.operation.command.paired}
    partners = {name: files for name, files in given.items() if files}
    for name, files in partners.items():
        if len(files) != len(args.files):
            raise UsageError(
                f"--{name}: got {len(files)} files for {len(args.files)} galaxies: "
                f"quote a pattern (--{name} 'maps/*.fits'), or repeat the option"
            )
    return partners


def _check_files(args, inputs):
    """Raise where files are given twice, or what was meant for an option is a file."""
    import os

    if len(set(zip(*inputs, strict=True))) != len(args.files):
        raise UsageError("a file is given twice")
    for file in args.files:
        if not os.path.exists(file) and _is_number(file):
            raise UsageError(
                f"there is no file {file}: values of an option are separated by commas"
            )


def _is_number(text):
    """Tell whether text is a number, with a unit or without."""
    return not isinstance(value(text), str | None)


def _keywords(args):
    """Values for all galaxies, and lists of values for each."""
    keywords, series = {}, {}
    for name, given in keywords_of(args).items():
        if isinstance(given, list) and len(given) > 1:
            if len(given) != len(args.files):
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag}: got {len(given)} values for {len(args.files)} galaxies"
                )
            series[name] = given
        else:
            keywords[name] = given[0] if isinstance(given, list) else given
    return keywords, series


def _write_figures(args, table, keywords, series):
    """Write a figure for each galaxy that has a result, and one for the table."""
    from inspect import signature

    from galml.core.files import file_stem
    from galml.core.results import text_of

    plots = plots_of(args)
    names = [text_of(file_stem(file)) for file in args.files]
    if len(set(names)) < len(names):
        names = [f"{number:06d}_{name}" for number, name in enumerate(names)]
    # What tells how a galaxy is read, not what is done with it.
    known = signature(plots.plot_galaxy).parameters
    keywords = {name: value for name, value in keywords.items() if name in known}
    for index, (row, name) in enumerate(zip(table, names, strict=True)):
        if not failed(row):
            own = {
                name: values[index] for name, values in series.items() if name in known
            }
            figure = plots.plot_galaxy(args.files[index], row, **keywords, **own)
            save_figure(args, figure, name)
    save_figure(args, plots.plot_table(table), args.operation.command.name)
