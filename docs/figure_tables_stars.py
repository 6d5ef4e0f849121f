# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tables of `figure_tables` that are about stars of galaxies."""

STAR_RELATIONS = {
    "kind": ("kind", ""),
    "galaxies": ("galaxies", ".0f"),
    "offset": ("mocks less published, dex", "+.3f"),
    "scatter": ("scatter, dex", ".3f"),
    "published_scatter": ("published", ".2f"),
}
INPUTS_AND_PREDICTIONS = {
    "kind": ("kind", ""),
    "mock": ("mocks", ".3g"),
    "published": ("published", ".3g"),
}
FLOWS = {
    "log_prob": ("log-likelihood", ".3f"),
    "c2st": ("told apart", ".1%"),
    "c2st_worst": ("worst galaxy", ".1%"),
    "mmd_gaussian": ("MMD², Gaussian", ".4f"),
    "sliced": ("sliced Wasserstein", ".3g"),
    "stars_per_second": ("stars per second", ",.0f"),
}
DIFFERENCES = {
    "median": ("median difference", "+.1%"),
    "rms": ("rms", ".1%"),
    "massive_median": ("massive galaxies: median", "+.1%"),
    "massive_rms": ("rms", ".1%"),
}
MOTIONS = {
    "r_50": "half-mass radius",
    "v_phi": "rotation, over the rms of its speed",
    "sigma_z_old": "σ_z of stars older than 8 Gyr",
}
LIKELIHOOD = {"log_likelihood": ("held-out log-likelihood", ".3f")}
SIMULATED = {
    "c2st": ("told apart", ".1%"),
    "mmd": ("MMD², linear", ".3f"),
    "mmd_gaussian": ("MMD², Gaussian", ".3f"),
    "sliced": ("sliced Wasserstein", ".2f"),
}
TRAINING = {"ours": ("these stars", ".2f"), "published": ("published", ".2f")}
STAR_SPEED = {
    "rate": ("stars per second", ",.0f"),
    "faster": ("galml is faster by", ".1f"),
}


def star_mocks(results):
    """Scaling relations of the galaxies whose stars are known."""
    thick = results["thick_to_thin"]
    note = (
        f"{results['galaxies']} galaxies of {results['stars']} stars. Thick disks have "
        f"{thick['slow']:.2f} times the mass of thin ones where rotation is below "
        f"120 km/s, and {thick['fast']:.2f} times above; dwarfs below "
        "10\\ :sup:`8.5` solar masses rotate at "
        f"{results['rotation_to_dispersion_dwarfs']:.1f} times their dispersion. Of "
        f"the sizes the four conditions leave {results['unexplained_size']:.3f} dex "
        "open. The fastest star has "
        f"{results['fastest_over_escape_speed']:.4f} of the escape speed where it is, "
        f"the furthest one lies at {results['furthest_over_extent']:.4f} of the extent."
    )
    return STAR_RELATIONS, results["relations"], note


def star_mocks_structure(results):
    """Components, orbits and rotation of galaxies of stars."""
    return INPUTS_AND_PREDICTIONS, results["structure"], ""


def star_mocks_near_the_sun(results):
    """Stars around R = 8 kpc in galaxies like the Milky Way."""
    return INPUTS_AND_PREDICTIONS, results["milky_way"], ""


def stars_mocks(results):
    """Flows by how they do on galaxies that they have not seen."""
    note = (
        f"{results['galaxies']} galaxies, {results['stars']} stars of each. Without "
        "their sizes the log-likelihood of the default is "
        f"{results['log_prob_without_size']:.3f}."
    )
    return FLOWS, results["flows"], note


def stars_mocks_motions(results):
    """Sizes and motions of sampled galaxies, relative to true ones."""
    found, sizes, domain = (results[key] for key in ("motions", "sizes", "domain"))
    rows = {MOTIONS[key]: found[key] for key in MOTIONS}
    swapped, own = domain["masses_swapped"], domain["as_they_are"]
    note = (
        f"{found['massive_galaxies']} galaxies are massive, above 10\\ :sup:`10.5` "
        "solar masses. The fastest of all stars has "
        f"{found['fastest_over_escape_speed']:.2f} of the escape speed where it is, "
        f"{found['share_of_unbound_stars']:.1e} of them are faster than that; the "
        f"farthest lies at {found['farthest_over_extent']:.2f} of the extent. True "
        f"sizes of {sizes['galaxies']} further galaxies among {sizes['draws']} drawn "
        f"ones of each: {sizes['central_68']:.0%} in the central 68 %, ranks even with "
        f"p = {sizes['p_uniform']:.2f}. Outside of the domain are {own['outside']:.0%} "
        f"of the galaxies, and {swapped['outside']:.0%} with the mass of another one; "
        f"{swapped['refused']:.0%} of those are refused."
    )
    return DIFFERENCES, rows, note


def stars_milky_way(results):
    """Densities of stars of one survey after the other."""
    rows = {
        f"{survey}, {found['stars']} stars: {name}": {"log_likelihood": value}
        for survey, found in results.items()
        for name, value in found["log_likelihood"].items()
    }
    return LIKELIHOOD, rows, ""


def stars_speed(results):
    """Rates of sampling, and memory."""
    rows = {
        name: {"rate": rate, "faster": results["galml_is_faster_by"][name]}
        for name, rate in results["stars_per_second"].items()
    }
    memory = ", ".join(
        f"{size:.0f} MB for {int(count):,}"
        for count, size in results["peak_memory_mb"].items()
    )
    note = (
        f"{results['stars']:,} stars of one galaxy, {results['threads']} thread(s). "
        f"Peak memory of streamed stars: {memory}."
    )
    return STAR_SPEED, rows, note


def stars_simulated(results):
    """Galaxies that were left out, by what draws their stars."""
    rows = {
        f"{name}: {way}": found
        for name, ways in results.items()
        if name not in ("published", "negative_log_likelihood")
        for way, found in ways.items()
        if way != "stars"
    }
    return SIMULATED, rows, ""


def stars_simulated_flows(results):
    """Training likelihoods of the flows beside the published ones."""
    rows = {
        name: {"ours": value, "published": results["published"].get(name)}
        for name, value in results["negative_log_likelihood"].items()
    }
    return TRAINING, rows, ""


STAR_TABLES = {
    "star_mocks": star_mocks,
    "star_mocks near_the_sun": star_mocks_near_the_sun,
    "star_mocks structure": star_mocks_structure,
    "stars_milky_way": stars_milky_way,
    "stars_mocks": stars_mocks,
    "stars_mocks motions": stars_mocks_motions,
    "stars_simulated": stars_simulated,
    "stars_simulated flows": stars_simulated_flows,
    "stars_speed": stars_speed,
}
