# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The directive ``galml-figures``: a table of what a benchmark has measured."""

import json
from pathlib import Path

from docutils import nodes
from figure_tables_catalogs import CATALOG_TABLES
from figure_tables_mergers import MERGER_TABLES, by_numbers
from figure_tables_morphology import MORPHOLOGY_TABLES
from figure_tables_stars import STAR_TABLES
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"

#: Keys of the results with heading and format.
REALISM = {
    "observed": ("observed, 16 to 84 %", ""),
    "mocks": ("mocks", ""),
    "c2st": ("told apart", ".2f"),
}
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
PSF = {
    "number": ("number", ".0f"),
    "size": ("σ, pixels", ".3f"),
    "ellipticity": ("ellipticity", ".3f"),
    "light inside 1.5": ("light in 1.5 pixels", ".3f"),
    "light inside 4": ("in 4", ".3f"),
    "light inside 10": ("in 10", ".3f"),
}
SKY = {
    "number": ("stamps", ".0f"),
    "noise": ("noise of a pixel, nJy", ".3f"),
    "correlation 1": ("correlation of neighbors", ".2f"),
    "correlation 2": ("two pixels away", ".2f"),
    "correlation diagonal": ("diagonal", ".2f"),
    "other sources per square arcmin": ("other sources / arcmin²", ".0f"),
}
HOT = {
    "count": ("maps", ".0f"),
    "circularity_scatter": ("κ, 68 %", ".3f"),
    "circularity_err": ("error given", ".3f"),
    "circularity_coverage": ("κ in 68 %", ".1%"),
}
ACROSS = {
    "accuracy": ("balanced accuracy", ".3f"),
    "oracle": ("oracle", ".3f"),
    "scatter": ("κ, 68 %", ".3f"),
    "oracle_scatter": ("oracle", ".3f"),
}
KINMS = {
    "count": ("disks", ".0f"),
    "circularity_bias": ("κ, bias", "+.3f"),
    "circularity_scatter": ("κ, 68 %", ".3f"),
    "circularity_coverage": ("κ in 68 %", ".0%"),
    "position_angle_scatter": ("PA, 68 %", ".2f°"),
}
HALVES = {
    "maps": ("maps", ".0f"),
    "difference_68": ("difference, 68 %", ".1f°"),
    "joint_error": ("joint error", ".1f°"),
    "within_1_sigma": ("within it", ".0%"),
}
CUBE_PIXELS = {
    "pixels": ("pixels", ".0f"),
    "velocity_bias": ("velocity, bias (km/s)", "+.2f"),
    "velocity_coverage": ("in 68 %", ".0%"),
    "dispersion_bias": ("dispersion, bias (km/s)", "+.2f"),
    "dispersion_relative_bias": ("relative", "+.1%"),
    "dispersion_coverage": ("in 68 %", ".0%"),
}
CUBES = {
    "count": ("disks", ".0f"),
    "circularity_bias": ("κ, bias", "+.3f"),
    "circularity_scatter": ("κ, 68 %", ".3f"),
    "circularity_coverage": ("κ in 68 %", ".0%"),
}
SIMULATED = {
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
SPIN = {
    "pearson": ("Pearson", ".3f"),
    "spearman": ("Spearman", ".3f"),
    "mean_square": ("MSE", ".4f"),
    "scatter": ("λ_R, 68 %", ".3f"),
    "coverage": ("λ_R in 68 %", ".1%"),
    "ellipticity_scatter": ("ε, 68 %", ".3f"),
    "ellipticity_coverage": ("ε in 68 %", ".1%"),
}
SPIN_BINS = {
    "count": ("galaxies", ".0f"),
    "pearson": ("Pearson", ".3f"),
    "scatter": ("λ_R, 68 %", ".3f"),
    "bias": ("bias", "+.3f"),
    "coverage": ("λ_R in 68 %", ".1%"),
}
DETECTION = {"found": ("galaxies found", ".0%"), "others": ("other sources", ".1f")}
LIMITS = {
    "signal to noise": ("signal to noise", "s"),
    "resolution": ("FWHM of the PSF across it", "s"),
    "size": ("pixels across it", "s"),
}
STEPS = {
    "error": ("error, 68 %", ".3f"),
    "coverage": ("in 68 %", ".0%"),
    "separation": ("AUC - 0.5", ".3f"),
    "moved": ("latents moved", ".2f"),
    "number": ("number", ".0f"),
}
BUSY = {
    "calm": ("alone", ".2f"),
    "all_threads": ("beside others, all threads", ".2f"),
    "free": ("free processors", ".2f"),
    "ratio": ("over alone", ".1f"),
}
#: Properties of the bins, where their values need a name.
BINNED = {
    "log_snr": "log S/N",
    "log_psf": "log FWHM / Rₑ",
    "log_pixels": "log Rₑ / pixel",
    "inclination": "inclination (°)",
}
SURVEYS = {
    "pearson": ("Pearson", ".3f"),
    "mean_square": ("MSE", ".4f"),
    "scatter": ("difference, 68 %", ".3f"),
    "quoted": ("quoted error", ".3f"),
}
AREA = {
    "area": ("AUC", ".3f"),
    "area_equal_ellipticity": ("at equal ellipticity", ".3f"),
}
SDSS = {
    "predicted": ("predicted means", "s"),
    "drawn": ("draws", "s"),
    "prior": ("draws, with prior", "s"),
    "sami": ("SAMI", "s"),
    "atlas3d": ("ATLAS3D", "s"),
}
SPIN_DOMAIN = {
    "count": ("galaxies", ".0f"),
    "error": ("median error", ".3f"),
    "scatter": ("λ_R, 68 %", ".3f"),
    "bias": ("bias", "+.3f"),
    "coverage": ("λ_R in 68 %", ".1%"),
}
TWO_SAMPLES = {
    "galaxies": ("galaxies", ".0f"),
    "mocks": ("mocks", ".0f"),
    "ks_spin": ("KS, λ_R", ".3f"),
    "ks_ellipticity": ("KS, ε", ".3f"),
    "energy_distance": ("energy distance", ".3f"),
    "c2st": ("told apart", ".1%"),
}
KAPPA = {
    "galaxies": ("galaxies", ".0f"),
    "kappa": ("κ", ".2f"),
    "scatter": ("scatter of λ_R", ".3f"),
}
CUTOUTS = {
    "ms_per_galaxy": ("ms per galaxy", ".1f"),
    "ms_per_galaxy_loop": ("of the loop", ".1f"),
    "faster": ("ratio", ".0f"),
    "peak_difference_exact": ("from exact", ".0e"),
    "peak_difference": ("from loop", ".2f"),
    "flux_difference": ("total flux", ".3f"),
}
SPIN_SPEED = {
    "rate": ("galaxies per second", ".0f"),
    "ratio": ("galml over it", ".2f"),
}
SPEED = {"rate": ("maps per second", ".0f"), "ratio": ("galml over it", ".2f")}


def mocks(results):
    """Systems against figures, without noise; the best possible ones last."""
    beside = results["beside"]
    rows = {key: row for key, row in beside.items() if not key.startswith("oracle")}
    default = sorted(results["default"].items(), key=lambda item: len(item[0]))
    for tracer in ("gas", "stars"):
        for key, sets in default:
            rows[f"{tracer}: {key}"] = sets["noise free"][tracer]
    note = f"{results['maps']} maps, of which a quarter is free of noise."
    return MOCKS, rows | beside, note


def in_order(bins):
    """Items of bins by their lower edges."""
    return sorted(bins.items(), key=lambda item: float(item[0].split(" - ")[0]))


def hot(results):
    """Coverage and error in bins of dispersion over rotation."""
    rows = {
        f"{tracer}, {key}: {edges}": row
        for tracer in ("gas", "stars")
        for key in ("velocity", "with dispersion, beam, error")
        for edges, row in in_order(results["default"][key][f"sigma_over_v, {tracer}"])
    }
    return HOT, rows, ""


def across(results):
    """Network and oracle on gas without noise, in bins of beams across."""
    rows = {}
    for key, oracle in (
        ("velocity", "oracle velocity"),
        ("with dispersion, beam, error", "oracle velocity and dispersion"),
    ):
        bins = results["default"][key]["noise free gas, beams_across"]
        for edges, row in in_order(bins):
            best = results["beside"][oracle]["beams_across"][edges]
            rows[f"{key}: {edges}"] = {
                "accuracy": row["balanced_accuracy_prior"],
                "oracle": best["balanced_accuracy"],
                "scatter": row["circularity_scatter"],
                "oracle_scatter": best["circularity_scatter"],
            }
    return ACROSS, rows, ""


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


def simulated(results):
    """Galaxies seen in gas and stars, with and without dispersion."""
    rows = {
        key.replace("illustris1_m31_analog_", "Illustris ").replace("tng_", "TNG ")
        + f" ({row['half']})": row
        for key, row in results.items()
        if key != "directions"
    }
    return SIMULATED, rows, f"{results['directions']} directions."


def halves(results):
    """Compare halves of observed maps, and stars with gas."""
    rows = {name.replace("_", " "): row for name, row in results.items()}
    return HALVES, rows, ""


def cube_pixels(results):
    """Judge moments of noisy cubes, pixel by pixel."""
    found = by_numbers(results["pixels"]).items()
    rows = {name.replace("_", " "): row for name, row in found}
    return CUBE_PIXELS, rows, ""


def cubes(results):
    """Judge circularities of noisy cubes."""
    found = by_numbers(results["circularity"]).items()
    rows = {name.replace("_", " "): row for name, row in found}
    return CUBES, rows, ""


def kinms(results):
    """Disks of KinMS in bins of their dispersion."""
    rows = {}
    for key in ("velocity", "with dispersion"):
        rows[key] = results[key]["all"]
        for edges, row in in_order(results[key]["dispersion"]):
            rows[f"{key}: {edges} km/s"] = row
    return KINMS, rows, f"{results['disks']} disks."


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


def spin_mocks(results):
    """Systems against figures, and what their forward passes cost."""
    cost = results["forward"]
    own, published = cost["default"], cost["published"]
    note = (
        f"{results['galaxies']} galaxies in g, r and i. With all views, the default "
        f"network takes {own['flops'] / 1e6:.0f} million operations for a galaxy and "
        f"the published one {published['flops'] / 1e6:.0f} million, "
        f"{published['flops'] / own['flops']:.0f} times as many: "
        f"{1e3 * own['seconds']:.2f} against {1e3 * published['seconds']:.2f} ms."
    )
    return SPIN, results["figures"], note


def spin_bins(results):
    """The default model in bins of what an image is like."""
    rows = {
        f"{BINNED.get(name, '')} {edges}".strip(): row
        for name, bins in results["bins"].items()
        for edges, row in by_numbers(bins).items()
    }
    return SPIN_BINS, rows, ""


def image_realism(results):
    """Features of observed and mock images."""
    rows = {
        name: {
            kind: f"{row[kind][2]:.2f} ({row[kind][1]:.2f} to {row[kind][3]:.2f})"
            for kind in ("observed", "mocks")
        }
        | {"c2st": row["c2st"]}
        for name, row in results["features"].items()
    }
    rows["all twelve"] = {"c2st": results["c2st"]}
    note = f"{results['observed']} observed galaxies and {results['mocks']} mocks."
    return REALISM, rows, note


def spin_surveys(results):
    """The same galaxies in different surveys."""
    return SURVEYS, results["surveys"], ""


def spin_sdss(results):
    """Spins by class and ellipticity, predicted and measured."""
    columns = {
        "predicted": results["predicted"]["distributions"],
        "drawn": results["predicted"]["distributions_drawn"],
        "prior": results["predicted_with_prior"]["distributions_drawn"],
        "sami": results["sami"]["distributions"],
        "atlas3d": results["atlas3d"],
    }
    rows = {
        kind: {
            name: ", ".join(f"{value:.2f}" for value in column[kind]["quantiles"])
            for name, column in columns.items()
            if kind in column
        }
        for kind in columns["predicted"]
    }
    note = (
        f"{results['galaxies']} galaxies, with a median error of "
        f"{results['error']:.2f}; 16 %, 50 % and 84 % of each class, by ellipticity."
    )
    return SDSS, rows, note


def spin_sdss_areas(results):
    """How well spirals are told from early types, by predicted and measured spins."""
    rows = {
        "predicted": results["predicted"],
        "predicted, with the sample's prior": results["predicted_with_prior"],
        "SAMI": results["sami"],
        "SAMI, brighter than r = 15.5": results["sami_bright"],
    }
    return AREA, rows, ""


def spin_domain(results):
    """Errors against the distance from the images of the training."""
    rows = {
        f"{name}, {key}": row
        for name, figures in results["sets"].items()
        for key, row in figures.items()
    }
    flagged = {k: v["all"]["flagged"] for k, v in results["sets"].items()}
    shares = ", ".join(f"{share:.1%} of {name}" for name, share in flagged.items())
    return SPIN_DOMAIN, rows, f"Flagged as ``out_of_domain`` by distance: {shares}."


def spin_speed(results):
    """Rates of the whole way and of the networks alone."""
    note = (
        f"{results['galaxies']} galaxies in three bands, {results['pixels']} pixels a "
        "side. The second column is the time of the whole way over that of the row."
    )
    return SPIN_SPEED, results["rows"], note


def spin_population(results):
    """Mocks against surveys."""
    rows = {name: row for name, row in results.items() if name != "population"}
    return TWO_SAMPLES, rows, ""


def lambda_r_tables(results):
    """The constant that tells which R a table has used."""
    simulated = results["simulated_galaxy"]
    rows = {
        "ATLAS3D": results["atlas3d_by_distance"],
        "SAMI, Sérsic photometry": results["sami_by_semi_major_axis"],
        "SAMI, MGE photometry": results["sami_mge_by_semi_major_axis"],
        "simulated galaxy, by distance": simulated["circular"],
        "simulated galaxy, by semi-major axis": simulated["elliptical"],
    }
    whole, half = (
        results[f"atlas3d_class_within_r_eff_over_{part}"]["agreement"]
        for part in (1, 2)
    )
    slow, two = results["slow_rotators_sami"], results["sami_two_photometries"]
    note = (
        f"The criteria of fast rotators give the published class to {whole:.0%} of "
        f"ATLAS3D inside one effective radius, and to {half:.0%} inside half of it. By "
        f"the first {slow['emsellem_2011']:.1%} of SAMI rotate slowly, and "
        f"{slow['cappellari_2016']:.1%} by that of Cappellari (2016). The two "
        f"photometries of SAMI change λ_R by {two['scatter_68']:.3f} (68 %), where "
        f"the median quoted error is {two['median_quoted_error']:.3f}."
    )
    return KAPPA, rows, note


def deep_fields(results):
    """Point spread functions of ACS."""
    note = (
        "Pixels are of 0.03 arcsec; σ and ellipticity are by moments under a Gaussian "
        "of 2 pixels, shares of light are of that inside of 15."
    )
    return PSF, results["psf"], note


def deep_fields_sky(results):
    """Noise and neighbors in stamps."""
    note = (
        "Neighbors are sources more than 20 pixels from the middle. Noise is measured "
        "after waves longer than about 10 pixels are taken away."
    )
    return SKY, results["sky"], note


def cutouts_speed(results):
    """Both ways to cut galaxies out, and the memory of a large file."""
    rows = {
        "bands on one grid": results["one_grid"],
        "bands on three grids": results["three_grids"],
        "three grids, with uncertainties": results["three_grids_uncertainty"],
    }
    first, large = results["one_grid"], results["large_file"]
    note = (
        f"{first['galaxies']} galaxies in {first['bands']} bands, {first['pixels']} "
        f"pixels a side. Out of a file of 20 000 by 20 000 pixels a galaxy takes "
        f"{large['ms_per_galaxy']:.1f} ms; the peak of memory is "
        f"{large['peak_mb']:.0f} MB."
    )
    return CUTOUTS, rows, note


def busy_machine(results):
    """Tell what operations take beside busy processes."""
    return BUSY, results["rows"], ""


def detection(results):
    """Galaxies and other sources that are found, by the least size of a source."""
    rows = results["rows"]

    def place(key):
        *words, areas = key.removesuffix(" areas").split()
        return words, int(areas)

    return DETECTION, {key: rows[key] for key in sorted(rows, key=place)}, ""


def limits(results):
    """Tell how good data have to be for each answer."""
    rows = {}
    for name, figures in results.items():
        row = rows[f"`~galml.{name}`"] = {}
        for key, limit in figures["limits"].items():
            least = limit == min(float(step) for step in figures["steps"][key])
            row[key] = f"{limit:g}" + " or less" * least
    return LIMITS, rows, ""


def limits_steps(results):
    """All steps behind the limits."""
    rows = {
        f"{name}, {key} {step}": row
        for name, figures in results.items()
        for key, steps in figures["steps"].items()
        for step, row in sorted(steps.items(), key=lambda item: -float(item[0]))
    }
    return STEPS, rows, ""


TABLES = {
    "image_realism": image_realism,
    "busy_machine": busy_machine,
    "detection_fields": detection,
    "limits": limits,
    "limits steps": limits_steps,
    "circularity_mocks": mocks,
    "circularity_manga": manga,
    "circularity_mocks dispersion": hot,
    "circularity_mocks beams": across,
    "circularity_simulated": simulated,
    "circularity_kinms": kinms,
    "circularity_halves": halves,
    "circularity_cubes": cubes,
    "circularity_cubes pixels": cube_pixels,
    "circularity_population": population,
    "circularity_parity": parity,
    "circularity_speed": speed,
    "mocks_speed": mocks_speed,
    "spin_mocks": spin_mocks,
    "spin_mocks bins": spin_bins,
    "spin_mocks surveys": spin_surveys,
    "spin_sdss": spin_sdss,
    "spin_sdss areas": spin_sdss_areas,
    "spin_domain": spin_domain,
    "spin_speed": spin_speed,
    "spin_population": spin_population,
    "lambda_r_tables": lambda_r_tables,
    "cutouts_speed": cutouts_speed,
    "deep_fields": deep_fields,
    "deep_fields sky": deep_fields_sky,
    **CATALOG_TABLES,
    **MERGER_TABLES,
    **MORPHOLOGY_TABLES,
    **STAR_TABLES,
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
    """The figures of the benchmark that the argument names, or a part of them."""

    required_arguments = 1
    optional_arguments = 1

    def run(self):
        """Make the table from ``benchmarks/results/NAME.json``."""
        name, table = self.arguments[0], " ".join(self.arguments)
        path = RESULTS / f"{name}.json"
        self.env.note_dependency(str(path))
        if not path.exists():
            text = f"Not measured: run ``python benchmarks/{name}.py``."
            return self.parse_text_to_nodes(text)
        results = json.loads(path.read_text(encoding="utf-8"))
        found = self.parse_text_to_nodes(as_rst(*TABLES[table](results)))
        return [nodes.container("", *found)]


def setup(app):
    """Register the directive."""
    app.add_directive("galml-figures", Figures)
    return {"parallel_read_safe": True, "version": "1"}
