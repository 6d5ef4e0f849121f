# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Stars of simulated galaxies, each left out once.

    python benchmarks/stars_simulated.py [--skip-flows]

Three analogues of M31 of Illustris-1: a flow learns from two of them with their
conditions and draws the third. Beside it a mixture of Gaussians without conditions,
and, as a ceiling, a flow that has seen one half of the third galaxy and is judged by
the other. Then every flow after the same small training on all three: the negative
log-likelihood of a star in standardized units, as GalacticForge and GalacticFlow gave
it. Such numbers do not compare across data: they were of ten axes of 80 NIHAO galaxies,
where [Fe/H] and [O/Fe] nearly follow from the metal mass fraction, so that the density
has no upper bound, and of other standard deviations; here there are eight axes.
At last a galaxy of IllustrisTNG and the small ones of SimSpin, by their own halves.
"""

import argparse
import warnings

import astropy.units as u
import h5py
import numpy as np
from astropy.cosmology import FlatLambdaCDM
from astropy.table import QTable, vstack
from common import shared_data, write_figures
from sklearn.mixture import GaussianMixture

import galml
from galml.core.exceptions import GalmlWarning
from galml.physics import STAR_AXES, star_table
from galml.stars import fit, prepare
from galml.stars.metrics import c2st, mmd, sliced_wasserstein
from galml.stars.preparation import read_stars

ILLUSTRIS = ("417175", "420815", "426280")
ILLUSTRIS_H = 0.704
COSMOLOGY = FlatLambdaCDM(H0=70.4, Om0=0.2726, Ob0=0.0456)
#: Final negative log-likelihoods of GalacticForge and GalacticFlow, standardized units.
PUBLISHED = {"galacticflow": 0.67, "nice": 10.48, "sospf": 11.95, "maf": 12.17}
FLOWS = ("coupling", "galacticflow", "nsf", "maf", "nice", "sospf")
COMPONENTS = (5, 10, 20, 40)
TRAINING = {"batch_size": 512, "learning_rate": 2e-3, "weight_decay": 1e-3, "seed": 0}
FLOW_EPOCHS = 5
#: From two galaxies: their conditions tell next to nothing of a third.
OTHERS = TRAINING | {"epochs": 8, "smoothing": 1.0}
#: From few stars of one galaxy; stars for each Gaussian to start from.
HALF = TRAINING | {"network": "mixture", "epochs": 60, "batch_size": 256}
STARS_PER_GAUSSIAN, MOST = 150, 20
#: Fewest stars of a galaxy that is fitted.
FEWEST = 800
SIMSPIN = {
    # Name: file, and its columns of age and metals with their units.
    "EAGLE": ("EAGLE", "StellarFormationTime", "SmoothedMetallicity"),
    "IllustrisTNG": ("IllustrisTNG", "GFM_StellarFormationTime", "GFM_Metallicity"),
    "Horizon-AGN": ("HorizonAGN", "StellarFormationTime", "SmoothedMetallicity"),
    "COLIBRE": ("Colibre", "BirthScaleFactors", "MetalMassFractions"),
}


def illustris(name):
    """Stars and conditions of an analogue of M31."""
    rows = np.load(shared_data("stars") / f"illustris1_m31_analog_{name}.npy")
    rows = rows.astype(float)
    place, speed = ("x", "y", "z"), ("v_x", "v_y", "v_z")
    table = QTable({k: rows[:, i] * u.kpc for i, k in enumerate(place)})
    for i, key in enumerate(speed):
        table[key] = rows[:, 3 + i] * u.km / u.s
    table["mass"] = rows[:, 6] * 1e10 * u.Msun
    table["formation_scale_factor"] = rows[:, 7]
    table["metal_mass_fraction"] = rows[:, 8]
    table = table[rows[:, 8] > 0]
    return prepare(table, h=ILLUSTRIS_H, cosmology=COSMOLOGY, galaxy_id=name)


def tng():
    """Stars of a galaxy of IllustrisTNG: place and motion alone."""
    rows = np.load(shared_data("stars") / "tng_394242_stars.npy")
    table = QTable({"mass": rows[:, 0] * u.Msun})
    for i, key in enumerate(("x", "y", "z")):
        table[key] = rows[:, 1 + i] * u.kpc
        table["v_" + key] = rows[:, 4 + i] * u.km / u.s
    return prepare(table, galaxy_id="TNG 394242")[0]


def simspin(name):
    """Stars of a small cutout of a simulation, in physical units."""
    file, formed, metals = SIMSPIN[name]
    with h5py.File(shared_data("stars") / f"SimSpin_example_{file}.hdf5") as found:
        stars, head = found["PartType4"], dict(found["Header"].attrs)
        redshift = float(np.ravel(head["Redshift"])[0])
        h, a = float(np.ravel(head["HubbleParam"])[0]), 1 / (1 + redshift)

        def physical(key, unit):
            """Take a column in a unit, by the factors that the file tells."""
            attrs = {k.lower(): v for k, v in stars[key].attrs.items()}

            def value_of(*words):
                key = next((k for k in attrs if all(w in k for w in words)), None)
                return 0.0 if key is None else float(np.ravel(attrs[key])[0])

            factor = (
                value_of("cgs")
                * a ** value_of("a", "scal")
                * h ** value_of("h", "scal")
            )
            return stars[key][()] * factor * unit.cgs

        speed = "Velocities" if "Velocities" in stars else "Velocity"
        mass = "Masses" if "Masses" in stars else "Mass"
        place = physical("Coordinates", u.cm).to(u.kpc)
        motion = physical(speed, u.cm / u.s).to(u.km / u.s)
        table = QTable({"mass": physical(mass, u.g).to(u.Msun)})
        table["formation_scale_factor"] = stars[formed][()].astype(float)
        table["metal_mass_fraction"] = stars[metals][()].astype(float)
    for i, key in enumerate(("x", "y", "z")):
        table[key], table["v_" + key] = place[:, i], motion[:, i]
    table = table[table["metal_mass_fraction"] > 0]
    return prepare(table, redshift=redshift, galaxy_id=name)[0]


def axes_of(table):
    """Names of the axes that a table has."""
    return [name for name in STAR_AXES if name in table.colnames]


def scales(values):
    """Mean and standard deviation of each axis."""
    return values.mean(axis=0), values.std(axis=0)


def values_of(table, axes):
    """Plain numbers of the axes."""
    return read_stars(table, {name: STAR_AXES[name] for name in axes})[0]


def gaussians(train, truth, count, axes):
    """Draw from the mixture that does best on a fifth of what it is given."""
    values = values_of(train, axes)
    mean, spread = scales(values)
    values = np.random.default_rng(0).permutation((values - mean) / spread)
    split = len(values) // 5
    best = max(
        (GaussianMixture(k, random_state=0).fit(values[split:]) for k in COMPONENTS),
        key=lambda fitted: fitted.score(values[:split]),
    )
    log_prob = best.score((values_of(truth, axes) - mean) / spread)
    drawn = best.sample(count)[0] * spread + mean
    return star_table(drawn, {name: STAR_AXES[name] for name in axes}), log_prob, spread


def measures(sample, truth):
    """Distances of two samples."""
    few = slice(0, 5000)
    return {
        "c2st": c2st(sample, truth),
        "mmd": mmd(sample, truth),
        "mmd_gaussian": mmd(sample[few], truth[few], kernel="gaussian"),
        "sliced": sliced_wasserstein(sample, truth),
    }


def standard_log_prob(model, stars, conditions, spread):
    """Mean log-likelihood of stars per standard deviation of each axis."""
    found = galml.star_log_prob(stars, conditions, model=model)["log_prob"]
    known = np.isfinite(found)
    return float(np.mean(found[known]) + np.log(spread).sum())


def halves(table, seed=0):
    """Divide stars into two at random."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table[order[::2]], table[order[1::2]]


def left_out(galaxies, name):
    """Rows of the table for one galaxy that is left out."""
    stars, conditions = galaxies[name]
    axes = axes_of(stars)
    others = [galaxies[key] for key in galaxies if key != name]
    train = vstack([table for table, _ in others], metadata_conflicts="silent")
    given = QTable(vstack([row for _, row in others], metadata_conflicts="silent"))
    sample, log_prob, spread = gaussians(train, stars, len(stars), axes)
    rows = {"mixture of the others": measures(sample, stars) | {"log_prob": log_prob}}
    model = fit(train, given, axes=axes, **OTHERS)
    sample = galml.sample_stars(conditions, len(stars), model=model, seed=0)
    rows["galml from the others"] = measures(sample, stars) | {
        "log_prob": standard_log_prob(model, stars, conditions, spread)
    }
    first, second = halves(stars)
    return rows | ceiling(first, second, axes, spread)


def ceiling(train, truth, axes, spread=None):
    """Mixture and flow of one half of a galaxy, judged by the other."""
    sample, log_prob, own = gaussians(train, truth, len(truth), axes)
    spread = own if spread is None else spread
    log_prob = log_prob + np.log(spread / own).sum()
    rows = {"mixture of its half": measures(sample, truth) | {"log_prob": log_prob}}
    start = min(MOST, len(train) // STARS_PER_GAUSSIAN)
    options = {"components": start, "layers": 4, "width": 64}
    model = fit(train, axes=axes, options=options, **HALF)
    sample = galml.sample_stars(None, len(truth), model=model, seed=0)
    rows["galml from its half"] = measures(sample, truth) | {
        "log_prob": standard_log_prob(model, truth, None, spread)
    }
    rows["its half itself"] = measures(train, truth) | {"log_prob": np.nan}
    return rows


def show(title, rows):
    """Print rows of measures, and give them as plain numbers."""
    table = QTable(rows=[{"stars": name} | row for name, row in rows.items()])
    for name in table.colnames[1:]:
        table[name].info.format = ".4f"
    print(title)
    table.pprint(max_lines=-1, max_width=-1)
    return {name: {k: float(v) for k, v in r.items()} for name, r in rows.items()}


def flows(galaxies):
    """Negative log-likelihood of training stars after the same small training."""
    train = vstack([t for t, _ in galaxies.values()], metadata_conflicts="silent")
    given = QTable(vstack([c for _, c in galaxies.values()]))
    axes, found = axes_of(train), {}
    spread = scales(values_of(train, axes))[1]
    for name in FLOWS:
        model = fit(
            train, given, axes=axes, network=name, epochs=FLOW_EPOCHS, **TRAINING
        )
        found[name] = -standard_log_prob(model, train, given, spread)
        published = PUBLISHED.get(name, np.nan)
        print(f"{name}: {found[name]:.2f} per star (published elsewhere: {published})")
    return found


def main():
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip-flows", action="store_true")
    parser.add_argument("--galaxies", nargs="+", default=[*ILLUSTRIS, "TNG", *SIMSPIN])
    args = parser.parse_args()
    # Conditions of three galaxies cannot hold those of a fourth.
    warnings.simplefilter("ignore", GalmlWarning)
    galaxies = {name: illustris(name) for name in ILLUSTRIS}
    figures = {"published": PUBLISHED}
    for name in args.galaxies:
        if name in galaxies:
            count = len(galaxies[name][0])
            rows = left_out(galaxies, name)
        else:
            stars = tng() if name == "TNG" else simspin(name)
            count = len(stars)
            if count < FEWEST:
                print(f"{name}: {count} stars are too few")
                continue
            rows = ceiling(*halves(stars), axes_of(stars))
        figures[name] = {"stars": count} | show(f"{name}: {count} stars", rows)
    if not args.skip_flows:
        figures["negative_log_likelihood"] = flows(galaxies)
    write_figures("stars_simulated", figures)


if __name__ == "__main__":
    main()
