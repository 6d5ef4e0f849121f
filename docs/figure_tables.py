# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The directive ``galml-figures``: a table of what a benchmark has measured."""

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"

#: Keys of the results with heading and format.
MOCKS = {
    "circularity_scatter": ("κ, 68 %", ".3f"),
    "balanced_accuracy": ("accuracy, median", ".3f"),
    "balanced_accuracy_prior": ("equal classes", ".3f"),
    "balanced_accuracy_clear": ("clear cases", ".3f"),
    "position_angle_scatter": ("PA, 68 %", ".1f°"),
    "circularity_coverage": ("κ in 68 %", ".1%"),
    "position_angle_coverage": ("PA in 68 %", ".1%"),
}
MANGA = {
    "auc": ("AUC", ".3f"),
    "clean_68": ("PA clean, 68 %", ".2f°"),
    "clean_95": ("95 %", ".1f°"),
    "messy_68": ("messy, 68 %", ".1f°"),
    "position_angle_coverage": ("PA in 68 %", ".1%"),
}
TNG = {
    "kappa_true": ("true κ", ".3f"),
    "kappa": ("κ", ".3f"),
    "kappa_scatter68": ("error, 68 %", ".3f"),
    "kappa_coverage68": ("κ in 68 %", ".0%"),
    "pa_scatter68": ("PA, 68 %", ".1f°"),
    "pa_coverage68": ("PA in 68 %", ".0%"),
    "quality": ("map quality", ".2f"),
}
ORACLE = {
    "circularity_scatter": ("κ, 68 %", ".3f"),
    "balanced_accuracy": ("balanced accuracy", ".3f"),
    "balanced_accuracy_clear": ("clear cases", ".3f"),
}
SPEED = {"rate": ("maps per second", ".0f"), "ratio": ("galml over it", ".2f")}


def mocks(results):
    """Systems against figures, without noise; the best possible ones last."""
    beside = results["beside"]
    rows = {key: row for key, row in beside.items() if not key.startswith("oracle")}
    for key, sets in sorted(results["default"].items(), key=lambda item: len(item[0])):
        rows[f"default, {key}"] = sets["noise free"]["all"]
    note = f"{results['maps']} maps, of which a quarter is free of noise."
    return MOCKS, rows | beside, note


def manga(results):
    """Tracers and methods against figures."""
    rows = {
        f"{tracer}: {method}": row
        for tracer in ("stellar", "H alpha")
        for method, row in results[tracer].items()
    }
    turn = results["misalignment"]
    note = (
        f"{results['maps']} maps. Of {turn['misaligned']} galaxies in which gas and "
        f"stars are misaligned, {turn['recall']:.0%} are found, and of those found "
        f"{turn['precision']:.0%} are right; 68 % of the angles between them are "
        f"within {turn['scatter_68']:.1f}°."
    )
    return MANGA, rows, note


def tng(results):
    """Gas and stars, with and without dispersion."""
    names = {
        "gas": "gas",
        "gas_dispersion": "gas, with dispersion",
        "stars": "stars",
        "stars_dispersion": "stars, with dispersion",
    }
    rows = {name: results[key] for key, name in names.items() if key in results}
    return TNG, rows, f"{results['directions']} directions."


def population(results):
    """What the oracle reaches."""
    rows = {
        "oracle, velocity": results["oracle_velocity"],
        "oracle, velocity and dispersion": results["oracle_velocity_and_dispersion"],
    }
    note = (
        f"{results['galaxies']} galaxies, {results['share_0.35_to_0.65']:.0%} of them "
        f"at 0.35 < κ < 0.65 and {results['share_below_0.5']:.0%} below 0.5."
    )
    return ORACLE, rows, note


def parity(results):
    """One sentence."""
    note = (
        f"Of {results['maps']} maps {results['same_class']} get the published class; "
        f"the largest difference of a latent is {results['largest_difference']:.1e}."
    )
    return {}, {}, note


def speed(results):
    """Rates, and what the whole way costs beside them."""
    ratio = results["end_to_end_over"]
    rows = {
        name: {"rate": rate, "ratio": ratio[name]}
        for name, rate in results["maps_per_second"].items()
    }
    memory = ", ".join(
        f"{value:.0f} MB for {count} maps"
        for count, value in results["peak_memory_mb"].items()
    )
    note = (
        f"{results['maps']} maps, {results['threads']} thread(s). The second column is "
        f"the time of the whole way over that of the row. Peak memory: {memory}."
    )
    return SPEED, rows, note


def mocks_speed(results):
    """One sentence."""
    note = (
        f"The recipe gives {results['maps_per_second']} maps a second with "
        f"{results['threads']} threads."
    )
    return {}, {}, note


TABLES = {
    "circularity_mocks": mocks,
    "circularity_manga": manga,
    "circularity_tng": tng,
    "circularity_population": population,
    "circularity_parity": parity,
    "circularity_speed": speed,
    "mocks_speed": mocks_speed,
}


def as_rst(columns, rows, note):
    """Write a table and what to say about it."""
    lines = []
    if rows:
        lines = [".. list-table::", "   :header-rows: 1", ""]
        headings = [heading for heading, _ in columns.values()]
        lines += _row(["", *headings])
        for name, row in rows.items():
            cells = (_cell(row.get(key), form) for key, (_, form) in columns.items())
            lines += _row([name, *cells])
    return "\n".join([*lines, "", note])


def _row(cells):
    first, *others = cells
    return [f"   * - {first}", *(f"     - {cell}" for cell in others)]


def _cell(value, form):
    if value is None or value != value:
        return "–"
    return f"{value:{form.rstrip('°')}}" + "°" * form.endswith("°")


class Figures(SphinxDirective):
    """The figures of the benchmark that the argument names."""

    required_arguments = 1

    def run(self):
        """Make the table from ``benchmarks/results/NAME.json``."""
        name = self.arguments[0]
        path = RESULTS / f"{name}.json"
        self.env.note_dependency(str(path))
        if not path.exists():
            text = f"Not measured: run ``python benchmarks/{name}.py``."
            return self.parse_text_to_nodes(text)
        results = json.loads(path.read_text(encoding="utf-8"))
        found = self.parse_text_to_nodes(as_rst(*TABLES[name](results)))
        return [nodes.container("", *found)]


def setup(app):
    """Register the directive."""
    app.add_directive("galml-figures", Figures)
    return {"parallel_read_safe": True, "version": "1"}
