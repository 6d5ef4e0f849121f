# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tables of `figure_tables` that are about mergers."""

import re

NUMBER = re.compile(r"-?\d+\.?\d*")

CLASSES = {
    "count": ("galaxies", ".0f"),
    "accuracy": ("accuracy", ".3f"),
    "upsilon": ("Υ", ".3f"),
    "auc": ("AUC", ".3f"),
    "recall at 5 %": ("recall at 5 %", ".3f"),
    "calibration error": ("calibration error", ".3f"),
}
CLASSICAL = {key: CLASSES[key] for key in ("accuracy", "upsilon", "auc")}
BINS = {
    "post-mergers": ("post-mergers", ".0f"),
    "recall": ("right among them", ".1%"),
    "specificity": ("right among non-mergers", ".1%"),
}
PROPERTIES = {
    "magnitude": "magnitude {}",
    "mass_ratio": "mass ratio {}",
    "time": "{} Gyr after coalescence",
    "inclination": "inclination {}°",
}
PLACES = {"deep": "deep fields", "near": "SDSS"}
CONTAMINATION = {
    "error": ("error, 68 %", ".3f"),
    "error below 0.2": ("where it is below 0.2", ".3f"),
    "of one galaxy": ("of one galaxy", ".3f"),
    "of two that merge": ("of two that merge", ".3f"),
    "of two by chance": ("of two by chance", ".3f"),
    "of one value for all": ("of one value for all", ".3f"),
    "coverage": ("in 68 %", ".1%"),
}
FRACTIONS = {
    "inside": ("in 68 %", ".1%"),
    "mean": ("mean", ".4f"),
    "scatter": ("scatter", ".4f"),
}
RECOVERY = {
    "coverage": ("in 68 %", ".1%"),
    "mean": ("mean", ".4f"),
    "scatter": ("scatter", ".4f"),
    "mean_error": ("mean error", ".4f"),
}
TRANSFER = {
    "counts": ("mergers, others", ""),
    "recipe": ("recipe", ""),
    "published": ("published orbits", ""),
    "fall": ("fall", ""),
    "published, recipe's threshold": ("at the recipe's threshold", ""),
    "false, recipe's threshold": ("false positives there", ""),
}
SKY = {"galaxies": ("mergers, others", ""), "figure": ("figure (68 %)", "")}
SPEED = {
    "rate": ("galaxies per second", ".0f"),
    "ratio": ("50 passes over it", ".2f"),
    "processor_ratio": ("in time of the processor", ".2f"),
}


def mocks(results):
    """Both classes, filter by filter and field by field."""
    note = "; ".join(
        f"{PLACES[where]}: {row['scatter']:.2f} Gyr, of a constant "
        f"{row['of the median']:.2f}, {row['coverage']:.0%} inside"
        for where, row in results["time"].items()
    )
    note = (
        f"Error of the time since coalescence (68 %), and share of intervals: {note}."
    )
    return CLASSES, results["filters"] | results["fields"], note


def properties(results):
    """Both classes, by what galaxies are like."""
    rows, kinds = {}, []
    for where, known in results["properties"].items():
        for name, form in PROPERTIES.items():
            for edges, row in known[name].items():
                rows[f"{PLACES[where]}, {form.format(edges)}"] = row
        shares = ", ".join(f"{k} {p:.1%}" for k, p in known["kind"].items())
        kinds.append(f"{PLACES[where]}: {shares}")
    return BINS, rows, f"Right among non-mergers of each kind: {'; '.join(kinds)}."


def stages(results):
    """Found stages of each true one."""
    names = results["stage names"]
    rows = {
        f"{filter_}: {name}": dict(enumerate(shares))
        for filter_, matrix in results["stages"].items()
        for name, shares in zip(names, matrix, strict=True)
    }
    return {i: (name, ".0%") for i, name in enumerate(names)}, rows, ""


def classical(results):
    """The network beside classical measures of the same images."""
    found = results["classical"]
    if not found:
        return {}, {}, "Not measured: it takes the option ``--classical``."
    rows = found["scores"] | {"the network": found["network"]}
    others, mergers = found["images"]
    return CLASSICAL, rows, f"{mergers} post-mergers and {others} other galaxies."


def contamination(results):
    """Contaminations, filter by filter."""
    return CONTAMINATION, results["contamination"], ""


def fractions(results):
    """Fractions of mocks that were found."""
    rows = {
        f"{name}, true fraction {float(true):.0%}": row
        for name, found in results["fractions"].items()
        for true, row in found.items()
    }
    drawn = [
        f"{mergers} of {systems} encounters in {name}"
        for name, (mergers, systems) in results["drawn from"].items()
    ]
    return FRACTIONS, rows, f"Post-mergers of the samples: {', '.join(drawn)}."


def recovery(results):
    """Fractions of classifiers that are calibrated, and that are not."""
    # All accuracies are alike in what is told.
    found = by_numbers(results["recovered"]).items()
    rows = {key: row for key, row in found if key.startswith("85%")}
    for key, name in (("with_passes", "passes tell"), ("without", "nothing tells")):
        for true, one in by_numbers(results["shifted"]).items():
            rows[f"shifted, {true}, {name}"] = one[key]
    for name, row in by_numbers(results["not_calibrated"]).items():
        rows[f"not calibrated: {name}"] = {"mean": row["fraction"]}
    return RECOVERY, rows, f"{results['draws']} samples."


def transfer(results):
    """Recalls between two simulators."""
    rows = {}
    for name, row in results["filters"].items():
        shares = {key: row[key] for key in TRANSFER if key in row}
        rows[name] = {key: _interval(v, ends) for key, (v, *ends) in shares.items()}
        counts = (
            f"{row[f'{one} mergers']}, {row[f'{one} others']}"
            for one in ("recipe", "published")
        )
        rows[name]["counts"] = "; ".join(counts)
    systems = results["systems"]
    note = (
        f"Of {systems['orbits']} systems {systems['merge']} merge, "
        f"{systems['major']} of these with a mass ratio of at least 1:4."
    )
    return TRANSFER, rows, note


def real_sky(results):
    """Mergers of the Galaxy Zoo and of Arp's kind against other galaxies."""
    rows = {}
    for half, scores in results["interacting"].items():
        for score, figures in scores.items():
            for kind, row in figures.items():
                what = "" if kind.startswith("area") else ", recall at 5 %"
                rows[f"interacting ({half}), {score}: {kind}{what}"] = _figure(row)
    for half, scores in results["galaxy_zoo"].items():
        for score, row in scores.items():
            rows[f"Galaxy Zoo ({half}), {score}: area"] = _figure(row)
    return SKY, rows, ""


def examples(results):
    """Examples of mergers among others, survey by survey."""
    rows = {
        f"{survey} ({half}), {score}: area": _figure(row)
        for survey, found in results["examples"].items()
        for half, scores in found.items()
        if half != "ranking"
        for score, row in scores.items()
        if score != "galaxies"
    }
    space = results["space"]
    note = (
        f"Of {space['images']} images of Hubble and Webb "
        f"{space['without_result']} have no result."
    )
    return SKY, rows, note


def speed(results):
    """Rates of the whole way and of the networks alone."""
    note = f"{results['galaxies']} galaxies, 128 pixels a side."
    return SPEED, results["rows"], note


def by_numbers(rows):
    """Sort rows by their names, and numbers in these as numbers."""

    def place(row):
        return NUMBER.sub("", row[0]), [*map(float, NUMBER.findall(row[0]))]

    return dict(sorted(rows.items(), key=place))


def _interval(value, ends):
    return f"{value:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"


def _figure(row):
    return {
        "galaxies": ", ".join(map(str, row["galaxies"])),
        "figure": _interval(row["value"], row["interval"]),
    }


def published(results):
    """The published network beside the default one."""
    card = results["published"]["card"]
    note = (
        f"{card['training_images']} images trained the published network in "
        f"{results['published']['epochs']} epochs."
    )
    return CLASSES, results["figures"], note


MERGER_TABLES = {
    "mergers/published": published,
    "mergers_mocks": mocks,
    "mergers_mocks properties": properties,
    "mergers_mocks stages": stages,
    "mergers_mocks classical": classical,
    "mergers_mocks contamination": contamination,
    "mergers_mocks fractions": fractions,
    "merger_fractions": recovery,
    "mergers_transfer": transfer,
    "mergers/real_sky": real_sky,
    "mergers/real_sky examples": examples,
    "mergers_speed": speed,
}
