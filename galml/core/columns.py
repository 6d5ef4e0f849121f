# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the columns of results mean, and with how many digits they are printed."""

import astropy.units as u

__all__ = ["DESCRIPTIONS", "describe"]

#: One line for each quantity; those of its error, bounds and samples follow from it.
DESCRIPTIONS = {
    "name": "Name of the object",
    "ra": "Right ascension of the galaxy (ICRS)",
    "dec": "Declination of the galaxy (ICRS)",
    "flags": "Bits of galml.core.Flag; galml.core.decode_flags names them",
    # Motions
    "circularity": "Fraction of kinetic energy in ordered rotation",
    "disturbed_probability": "Probability of a circularity below 0.5",
    "position_angle": "Position angle, east of north where the WCS is celestial",
    "inclination": "Inclination, 0 face-on",
    "map_quality": "Probability that angle and circularity are right (10 deg, 0.15)",
    "rotating": "1 where the gas is in ordered rotation, else 0",
    "spin": "Stellar spin parameter lambda_R inside the half-light ellipse",
    "lambda_r": "Stellar spin parameter lambda_R inside the aperture",
    "lambda_r_corrected": "lambda_R corrected for seeing",
    "v_over_sigma": "V/sigma of the stars inside the aperture",
    "systemic_velocity": "Velocity of the whole galaxy",
    "fast_rotator_probability": "Probability of a fast rotator (Emsellem+ 2011)",
    "coverage": "Part of the aperture that spaxels cover",
    # Light
    "ellipticity": "1 - b/a of the ellipse",
    "novelty": "Distance from the training images; 1 is exceeded by one in a hundred",
    "filter": "Filter of the image",
    "field": "Deep field of the image",
    "merger_probability": "Probability of a merger",
    "merger_class": "Most probable class",
    "stage_probability": "Probability of each stage, in order of galml.mergers.STAGES",
    "entropy_data": "Uncertainty from the data, in bits",
    "entropy_model": "Uncertainty from the model, in bits",
    "time_since_merger": "Time since the galaxies have merged",
    "contamination": "Part of the light inside the aperture that is of others",
    "aperture": "Radius of the aperture",
    "quality": "Whether the contamination is below the limit",
    "fraction": "Fraction of mergers",
    "rate": "Mergers of a galaxy per time",
    "n_galaxies": "Number of galaxies with a probability",
    "n_unknown": "Number of galaxies without one",
    # Appearance
    "latent": "Latent variables, what the network keeps of the image",
    "pose": "What changes its sign in mirror images: sense of arms, asymmetries",
    "reconstruction_error": "Root mean square between image and reconstruction",
    "ssim": "Structural similarity of image and reconstruction",
    "outlier_score": "How unusual the galaxy is; 1 is the median",
    "false_alarm_rate": "Share of ordinary galaxies with a score as high",
    "interest": "Expected rating, around 0 to 1",
    "rank": "1 for the highest interest, where there are ratings, or score",
    "label": "Class: yours where there is one, else the most probable",
    "labeled": "Whether the class is yours",
    "probability": "Probability of each class, in order of CLASS_1... of the metadata",
    "entropy": "Entropy of the probabilities, 0 certain, 1 a guess",
    "projection": "Place among the galaxies, by their latents",
    "query": "Row of the galaxy that was asked for",
    "query_name": "Name of the galaxy that was asked for",
    "neighbor": "Row of the similar galaxy",
    "neighbor_name": "Name of the similar galaxy",
    "distance": "Distance of the latents",
    "index_a": "Row of the galaxy in the first survey",
    "index_b": "Row of the galaxy in the second survey",
    "name_a": "Name of the galaxy in the first survey",
    "name_b": "Name of the galaxy in the second survey",
    "separation": "Angle between the positions in both surveys",
    "partner_rank": "Place of the partner among all of the second survey, by distance",
    "shape": "Smooth galaxies: round, in-between or cigar-shaped",
    "edge_on": "Whether a galaxy with features is a disk seen edge-on",
    "bar": "Bar of a disk: none or strong",
    "spiral_arms": "Whether a disk has spiral arms",
    "winding": "How tight spiral arms wind",
    "merger": "Whether the galaxy is disturbed or a merger",
    # Stars
    "galaxy_id": "Galaxy that the star belongs to",
    "x": "Position relative to the galaxy",
    "y": "Position relative to the galaxy",
    "z": "Position relative to the galaxy, along its angular momentum",
    "v_x": "Velocity along x, relative to the galaxy",
    "v_y": "Velocity along y, relative to the galaxy",
    "v_z": "Velocity along z, relative to the galaxy",
    "metal_mass_fraction": "Mass fraction of metals",
    "fe_h": "[Fe/H]",
    "o_fe": "[O/Fe]",
    "age": "Age of the star",
    "mass": "Mass that the star stands for",
    "log_prob": "Natural logarithm of the probability density",
}
_ENDINGS = {
    "_err": "1 sigma error of {}",
    "_lo": "Lower end of the 68 % interval of {}",
    "_hi": "Upper end of the 68 % interval of {}",
    "_samples": "Draws from the distribution of {}",
}
#: Columns of an operation that are something else elsewhere, or that a user's table may
#: have.
_OTHERS = {
    "detect": {
        "id": "Number of the source",
        "x": "Pixel x of the center, counted from 0",
        "y": "Pixel y of the center, counted from 0",
        "sky": "Position on the sky",
        "flux": "Flux inside two Petrosian radii",
        "flux_err": "1 sigma error of flux",
        "r_eff": "Semi-major axis that holds half of the light",
        "r_petro": "Petrosian radius, semi-major axis",
        "snr": "Signal to noise inside r_eff",
    }
}


def describe(table, operation):
    """Give the columns of a result a description and a number of digits, in place.

    The digits are those of printing: files hold all of them.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        The result.
    operation : str
        Name of the operation.
    """
    for name in table.colnames:
        info = table[name].info
        found = _OTHERS.get(operation, {}).get(name) or _description(name)
        info.description = found or info.description
        if getattr(info.dtype, "kind", "O") == "f":
            unit = getattr(table[name], "unit", None)
            info.format = _digits(name, unit)


def _description(name):
    """Give the description of a column; None where there is none."""
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name]
    for ending, text in _ENDINGS.items():
        quantity = name.removesuffix(ending)
        if quantity != name and quantity in DESCRIPTIONS:
            return text.format(quantity)
    return None


def _digits(name, unit):
    """Choose the format of floating point numbers."""
    if name in ("ra", "dec"):
        return ".5f"
    return ".1f" if unit in (u.deg, u.km / u.s) else ".4g"
