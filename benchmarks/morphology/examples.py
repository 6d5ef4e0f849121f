# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Examples by which the Galaxy Zoo taught its volunteers: strange ones, and like to like.

    python benchmarks/morphology/examples.py [--report] [--page FILE]

(1) Galaxies with a ring, a lens, a dust lane or another galaxy in front of them, by
their outlier score among ordinary examples of the same survey. (2) For each example
with an answer, how many of the five most similar galaxies of the survey have it, too.
An example has answers to a few questions only, so that some of those that count as
wrong are right. Files are divided by a hash of their names; by default, and on the
page, examples of the development half alone are ranked or searched for, among all.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from astropy.table import QTable
from matplotlib.figure import Figure
from probing import area, encode, usable

import galml
from galml.core.weights import load_model

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import HALVES, half_of, opened, shared_data, write_figures

#: Answers that make a galaxy a strange one; others that are not ordinary, either; and
#: what is no galaxy.
STRANGE = ("Ring", "Lens or arc", "Dust lane", "Overlapping")
UNUSUAL = ("Irregular", "Other", "Merging", "Tidal debris", "Both")
ARTIFACT = "Star or artifact"
#: What is searched for: answers of which one is enough.
SOUGHT = {
    "ring": ("Ring",),
    "bar": ("Bar",),
    "spiral arms": ("Spiral",),
    "edge-on": ("Yes",),
    "cigar": ("Cigar shaped",),
    "round": ("Completely round",),
    "overlapping": ("Overlapping",),
    "merger": ("Merging", "Tidal debris", "Both"),
}
NEAREST = 5


def read_examples():
    """Names, files, surveys and sets of answers of all galaxies."""
    folder = shared_data("galaxy_zoo_examples")
    answers = {}
    for row in QTable.read(folder / "labels.csv", format="ascii.csv"):
        answers.setdefault(str(row["file"]), set()).add(str(row["answer"]))
    files = sorted(file for file, given in answers.items() if ARTIFACT not in given)
    return QTable(
        {
            "name": [Path(file).stem for file in files],
            "path": [str(folder / "images" / file) for file in files],
            # A name begins with the survey whose image it is.
            "survey": [file.partition("-")[0] for file in files],
            "answers": np.array([answers[file] for file in files], dtype=object),
        }
    )


def having(table, wanted):
    """Tell which galaxies have one of some answers."""
    return np.array([bool(given & set(wanted)) for given in table["answers"]])


def ranking(table, score, chosen):
    """Outlier scores of strange galaxies among ordinary ones.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Galaxies of one survey.
    score : `~numpy.ndarray`
        Shape (n,).
    chosen : `~numpy.ndarray`
        Strange galaxies that are ranked.

    Returns
    -------
    dict
        By answer: the ``rank`` of each, 1 being the strangest, in what would be a list
        of the ordinary galaxies and itself; of all, the area under the curve.
    """
    ordinary = ~having(table, STRANGE + UNUSUAL)
    figures = {"ordinary": int(ordinary.sum())}
    for answer in STRANGE:
        rows = np.flatnonzero(having(table, (answer,)) & chosen)
        if len(rows):
            ranks = [1 + int((score[ordinary] > score[row]).sum()) for row in rows]
            figures[answer] = {"ranks": sorted(ranks)}
    strange = having(table, STRANGE) & chosen
    if strange.any():
        judged = ordinary | strange
        figures["area"] = area(score[judged], strange[judged])
    return figures


def retrieval(table, chosen):
    """Share of the nearest galaxies that have an answer, too.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Latents and answers of galaxies of one survey.
    chosen : `~numpy.ndarray`
        Galaxies that are searched for.

    Returns
    -------
    figures : dict
        By what is searched for: ``precision``, what it would be by ``chance`` and at
        ``best``, and number of ``queries`` and galaxies ``with`` the answer.
    found : dict of int to list of int
        Nearest galaxies of each.
    """
    nearest = galml.similar(table, table, NEAREST)["neighbor"]
    nearest = np.asarray(nearest).reshape(len(table), NEAREST)
    figures, found = {}, {}
    for key, answers in SOUGHT.items():
        member = having(table, answers)
        queries = np.flatnonzero(member & chosen)
        others = member.sum() - 1
        if not len(queries) or not others:
            continue
        figures[key] = {
            "precision": float(member[nearest[queries]].mean()),
            "chance": float(others / (len(table) - 1)),
            "best": float(min(others, NEAREST) / NEAREST),
            "queries": len(queries),
            "with": int(member.sum()),
        }
        found |= {int(query): nearest[query].tolist() for query in queries}
    return figures, found


def draw_page(path, table, found):
    """Show galaxies, and what is most similar to each."""
    rows = len(found)
    figure = Figure(figsize=(2 * NEAREST + 2, 1.6 * rows), layout="constrained")
    axes = figure.subplots(rows, NEAREST + 1, squeeze=False)
    for line, (query, nearest) in zip(axes, found.items(), strict=True):
        for axis, row in zip(line, (query, *nearest), strict=True):
            axis.imshow(opened(table["path"][row]))
            axis.set_title(", ".join(sorted(table["answers"][row])), size=5)
            axis.set_axis_off()
    figure.savefig(path, dpi=60)


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    model = load_model(args.model, "latents")
    examples = read_examples()
    table = encode(list(examples["path"]), model)
    for name in ("name", "path", "survey", "answers"):
        table[name] = examples[name]
    table = table[usable(table)]
    figures = {}
    for survey in np.unique(table["survey"]):
        some = table[table["survey"] == survey]
        score = np.asarray(galml.outliers(some)["outlier_score"])
        halves = np.array([half_of(name) for name in some["name"]])
        for half in HALVES if args.report else HALVES[:1]:
            chosen = halves == half
            similar, found = retrieval(some, chosen)
            figures[f"{survey}, {half}"] = {
                "strange": ranking(some, score, chosen),
                "similar": similar,
            }
            if args.page and half == HALVES[0] and survey == "gama":
                draw_page(args.page, some, found)
    for name, parts in figures.items():
        for part, rows in parts.items():
            print(f"{name}, {part}:")
            for key, row in rows.items():
                print(f"    {key}: {row}")
    if args.report and args.model == "default":
        write_figures("morphology/examples", figures | {"model": model.sha256})


if __name__ == "__main__":
    main()
