# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands whose files hold one galaxy each."""

from galml.cli.journal import RESUMED, open_journal, resume
from galml.cli.options import KEYWORDS, add_options, keywords_of
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
    files = operation.command.files
    parser.add_argument("files", nargs="+", metavar="FILE", help=files)
    add_options(parser, operation)
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
    partners = _partners(args)
    keys = _keys(args, partners)
    keywords, series = _keywords(args)
    configuration = [args.operation.name, keywords, series, sorted(partners)]
    if hasattr(args, "model"):
        model = galml.load_model(args.model, operation=args.operation.name)
        configuration.append(model.sha256)
        keywords = keywords | {"model": model}
    journal = open_journal(args, configuration)
    function = getattr(galml, args.operation.name)
    series = partners | series

    def compute(chunks):
        for chunk in chunks:
            files = [args.files[index] for index in chunk]
            own = {name: [one[i] for i in chunk] for name, one in series.items()}
            table = function(files, **keywords, **own)
            add_names(table, files)
            yield table

    columns = ["file", *(f"{name}_file" for name in partners)]
    table = resume(args, journal, columns, keys, compute)
    status = finish(args, table, table_format, journal)
    if args.figures is not None:
        _write_figures(args, table, keywords, series)
    return status


def _partners(args):
    """Files that go with the input files, by the names of their options."""
    given = {name: getattr(args, name) for name in args.operation.command.paired}
    partners = {name: files for name, files in given.items() if files}
    for name, files in partners.items():
        if len(files) != len(args.files):
            raise UsageError(
                f"--{name}: got {len(files)} files for {len(args.files)} galaxies"
            )
    return partners


def _keys(args, partners):
    """Tuples of an input file and the files that go with it."""
    keys = list(zip(args.files, *partners.values(), strict=True))
    if len(set(keys)) != len(keys):
        raise UsageError("a file is given twice")
    return keys


def _keywords(args):
    """Values for all galaxies, and lists of values for each."""
    keywords, series = {}, {}
    for name, value in keywords_of(args).items():
        if isinstance(value, list) and len(value) > 1:
            if len(value) != len(args.files):
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag}: got {len(value)} values for {len(args.files)} galaxies"
                )
            series[name] = value
        else:
            keywords[name] = value[0] if isinstance(value, list) else value
    return keywords, series


def _write_figures(args, table, keywords, series):
    """Write a figure for each galaxy that has a result, and one for the table."""
    from galml.core.files import file_stem

    plots = plots_of(args)
    names = [file_stem(file) for file in args.files]
    if len(set(names)) < len(names):
        names = [f"{number:06d}_{name}" for number, name in enumerate(names)]
    # What tells how a galaxy is read, not what is done with it.
    others = {"model", *KEYWORDS} - {"hdu", "unit"}
    reading = {name: value for name, value in keywords.items() if name not in others}
    for index, (row, name) in enumerate(zip(table, names, strict=True)):
        if not failed(row):
            own = {name: values[index] for name, values in series.items()}
            figure = plots.plot_galaxy(args.files[index], row, **reading, **own)
            save_figure(args, figure, name)
    save_figure(args, plots.plot_table(table), args.operation.command.name)
