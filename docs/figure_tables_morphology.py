# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tables of `figure_tables` that are about morphology."""

import numpy as np
from figure_tables_mergers import by_numbers

ZOO = {
    "three classes": ("three classes", ".3f"),
    "elliptical": ("elliptical, AUC", "s"),
    "merger": ("merger, AUC", "s"),
    "few": ("1 % of the labels", ".3f"),
    "outliers": ("outliers, AUC", "s"),
}
MIRROR = {
    "area": ("AUC", "s"),
    "accuracy": ("balanced accuracy", ".3f"),
}
SIMILAR = {
    "precision": ("of five", ".2f"),
    "chance": ("by chance", ".2f"),
    "best": ("at best", ".2f"),
    "queries": ("searches", ".0f"),
    "with": ("galaxies", ".0f"),
}
STRANGE = {"ranks": ("ranks", "s"), "ordinary": ("ordinary galaxies", ".0f")}
PAIRS = {
    "galaxies": ("galaxies", ".0f"),
    "distance": ("distance", ".2f"),
    "rank": ("rank of the partner", ".0f"),
    "first": ("first", ".0%"),
    "accuracy": ("accuracy", ".3f"),
    "denoised": ("error, drawn over image", ".2f"),
}
CHANGED = {key: PAIRS[key] for key in ("galaxies", "distance", "rank", "first")}
SPEED = {
    "rate": ("galaxies per second", ".0f"),
    "ratio": ("end to end over it", ".2f"),
    "processor_ratio": ("in time of the processor", ".2f"),
}
TABLES = {
    "galaxies": ("galaxies", ".0f"),
    "seconds": ("seconds", ".1f"),
    "gigabytes": ("memory, GB", ".1f"),
}
#: Who learns from a few labels.
FEW = "galml.classify, self-training"
DRAWN = {
    "ssim": ("SSIM", ""),
    "mse": ("mean square, 10⁻⁴", ""),
    "ours_more_similar": ("default model better in", ".0%"),
}
SIZES = {
    "ssim": ("SSIM", ""),
    "error": ("error", ".4f"),
}
SPIN = {
    "scatter": ("error on mocks", ".3f"),
    "coverage": ("in 68 %", ".1%"),
    "c2st": ("told apart", ".2f"),
    "early type": ("early types", ""),
    "spiral": ("spirals", ""),
    "area": ("AUC of both", ".3f"),
}
#: What learns from what, as the results call it and as the table does.
SYSTEMS = {
    ("components", "linear"): "components, linear",
    ("components", "forest"): "components, forest",
    ("latents", "linear"): "latents, linear",
    ("latents", "forest"): "latents, forest",
}


def with_error(row):
    """Write an area and its error."""
    return f"{row['value']:.3f} ± {row['error']:.3f}"


def of_halves(results):
    """Items of the halves, the one that is reported first."""
    return [(half, results[half]) for half in ("reporting", "development")]


def zoo(results):
    """What classifiers tell of the classes of the Galaxy Zoo."""
    rows = {}
    for half, figures in of_halves(results):
        for (part, kind), name in SYSTEMS.items():
            told = figures[part][kind]
            row = {"three classes": told["three classes"]}
            row |= {key: with_error(told[key]) for key in ("elliptical", "merger")}
            if kind == "linear":
                row["few"] = figures[part]["few labels"][FEW]["value"]
                odd = figures[part]["outliers"]["without ratings"]
                row["outliers"] = with_error(odd)
            rows[f"{half}: {name}"] = row
        told = figures["network"]
        rows[f"{half}: network"] = {"three classes": told["three classes"]} | {
            key: with_error(told[key]) for key in ("elliptical", "merger")
        }
    for (part, kind), name in SYSTEMS.items():
        told = results["both"][part][kind]
        rows[f"both: {name}"] = {"three classes": told["three classes"]} | {
            key: with_error(told[key]) for key in ("elliptical", "merger")
        }
    figures = results["reporting"]
    latents = figures["latents"]
    few, top = latents["few labels"][FEW], latents["outliers"]["top"]
    note = (
        f"{figures['galaxies']} galaxies in the reporting half, "
        f"{results['development']['galaxies']} in the other one; 1 % are "
        f"{few['labels']} labels. Of the {top['seen']} galaxies that come next when "
        f"{top['rated']} have been rated, {top['with ratings']} are no ordinary ones; "
        f"{top['without ratings']} without the ratings, and {top['by chance']:.1f} by "
        "chance."
    )
    looked = results["development"]["judged"]
    if looked.get("looked at"):
        note += (
            f" Of the {looked['looked at']} largest disagreements between labels and "
            "latents of the development half that were looked at, "
            f"{looked['label']} are the label's fault, {looked['latents']} that of "
            f"the latents, and {looked['neither']} galaxies that could be either."
        )
    return ZOO, rows, note


def mirror(results):
    """Clockwise spirals against others."""
    rows = {
        f"{half}: {name}": {"area": with_error(row), "accuracy": row["accuracy"]}
        for half, figures in of_halves(results)
        for name, row in figures["latents"]["mirror"].items()
    }
    views = [row for _, part in of_halves(results) for row in part["turned"].values()]
    largest = max(row["largest"] for row in views)
    changed = np.mean([row["changed"] for row in views])
    note = (
        f"Latents of mirrored and turned pictures are the same to {largest:.0e} of "
        "their scatter where the effective radius is given. Where it is measured, "
        f"latents of {changed:.0%} of the pictures differ by more than 1e-5."
    )
    return MIRROR, rows, note


def surveys_of(results):
    """Items of examples by survey and half."""
    return [(key, part) for key, part in results.items() if key != "model"]


def similar(results):
    """How many of the most similar examples have the same answer."""
    rows = {
        f"{key}: {answer}": row
        for key, part in surveys_of(results)
        for answer, row in part["similar"].items()
    }
    return SIMILAR, rows, ""


def strange(results):
    """Ranks of strange examples among ordinary ones."""
    rows = {}
    for key, part in surveys_of(results):
        found = dict(part["strange"])
        ordinary, area = found.pop("ordinary"), found.pop("area", None)
        for answer, row in found.items():
            ranks = ", ".join(map(str, row["ranks"]))
            rows[f"{key}: {answer.lower()}"] = {"ranks": ranks, "ordinary": ordinary}
        if area:
            rows[f"{key}: all, AUC"] = {"ranks": with_error(area)}
    return STRANGE, rows, ""


def changed(results):
    """The same mock galaxies in other images."""
    return CHANGED, results["changed images"], ""


def pairs(results):
    """The same galaxies in two surveys, before and after models are adapted."""
    rows = dict(results["galaxies in KiDS and SDSS"])
    names = {"two surveys": "DECaLS to BASS/MzLS", "SDSS": "SDSS, degraded"}
    for part, name in names.items():
        for key, row in results[part].items():
            rows[f"{name}: {key}"] = row
    return PAIRS, rows, ""


def drawn(results):
    """How well images are drawn again, beside the published network."""
    rows = {}
    for way, systems in results["figures"].items():
        for name, row in systems.items():
            label = {"ours": "default model", "components": "40 components"}
            rows[f"{way}: {label.get(name, name)}"] = {
                "ssim": f"{row['ssim']:.3f} ± {row['ssim_error']:.3f}",
                "mse": f"{1e4 * row['mse']:.1f} ± {1e4 * row['mse_error']:.1f}",
            }
            if name != "ours":
                better = row["ours_more_similar"]
                rows[f"{way}: {label.get(name, name)}"]["ours_more_similar"] = better
    card = results["models"]["xu2023"]["card"]
    note = (
        f"{results['galaxies']} galaxies of the reporting half. The published network "
        f"was trained for {card['best_epoch'] + 1} epochs, until it no longer improved."
    )
    return DRAWN, rows, note


def sizes(results):
    """How well images are drawn again from more or fewer latents."""
    rows = {
        f"{size} latents": {
            "ssim": f"{row['ssim']:.3f} ± {row['ssim_error']:.3f}",
            "error": row["error"],
        }
        for size, row in by_numbers(results["sizes"]).items()
    }
    note = (
        f"{results['training']} galaxies in {results['epochs']} epochs; "
        f"{results['galaxies']} pictures of the reporting half."
    )
    return SIZES, rows, note


def spins(results):
    """Spins by models that know observed pixels."""
    names = {
        "before": "default model",
        "after": "adapted without labels",
        "latents": "regressor on latents",
    }
    rows = {}
    for key, name in names.items():
        if key not in results:
            continue
        figures, sky = results[key]["color_mocks"], results[key]["reporting"]
        told = {k: figures[k] for k in ("scatter", "coverage") if k in figures}
        rows[name] = {
            **told,
            "c2st": sky["c2st"],
            "area": sky["area"],
            **_by_type(sky),
        }
    rows["SAMI"] = {"area": results["sami"]["area"], **_by_type(results["sami"])}
    return SPIN, rows, ""


def _by_type(figures):
    """Write the median and 68 % of the spins of both types."""
    result = {}
    for kind in ("early type", "spiral"):
        low, middle, high = figures["distributions"][kind]["quantiles"]
        result[kind] = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    return result


def speed(results):
    """Speed of `galml.latents`."""
    note = (
        f"{results['galaxies']} galaxies in three bands, {results['threads']} threads."
    )
    return SPEED, results["latents"], note


def tables(results):
    """Time and memory of operations on tables."""
    return TABLES, results["tables"], ""


MORPHOLOGY_TABLES = {
    "morphology/gz1": zoo,
    "morphology/gz1 mirror": mirror,
    "morphology/examples": similar,
    "morphology/examples strange": strange,
    "morphology/pairs": pairs,
    "morphology/pairs changed": changed,
    "morphology/xu2023_gz1": drawn,
    "morphology/latent_size": sizes,
    "morphology/adapted_spin": spins,
    "morphology/tables_speed": speed,
    "morphology/tables_speed tables": tables,
}
