# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operations: one row for each, with all that other parts need to know of it."""

from galml.core.domain import Architecture, Command, Operation, register

__all__ = ["MODELS", "OPERATIONS"]

#: Public functions about models, which no single operation has.
MODELS = (
    "galml.citations:citation",
    "galml.core.adaptation:adapt",
    "galml.core.weights:import_weights",
    "galml.core.weights:list_models",
    "galml.core.weights:load_model",
)

#: Options of commands whose files are images of one galaxy each.
_IMAGE_OPTIONS = {
    "bands": {
        "metavar": "BAND,BAND",
        "help": "bands of the images in a cube, such as g,r,i, or of all images, where "
        "the headers do not say",
    },
    "pixel_scale": {
        "type": "value",
        "nargs": "+",
        "metavar": "SIDE",
        "help": "side of a pixel, such as 0.06arcsec, where the headers do not say; "
        "one for all, or one for each file, as for the following",
    },
    "psf_fwhm": {
        "type": "width",
        "nargs": "+",
        "metavar": "FWHM",
        "help": "width of the PSF, such as 0.18arcsec or 3pix",
    },
}
_FILTER = {"help": "filter of the images, or of cubes the one to look at"}
_EFFECTIVE_RADIUS = {
    "type": "value",
    "nargs": "+",
    "metavar": "R",
    "help": "effective radius, such as 3arcsec or 12pix, where the headers do not say",
}
#: What the files of operations on latents are.
_LATENTS = "table with latents of galaxies, as galml latents writes it"
#: Where a galaxy is in its map.
_CENTER = {
    "type": "center",
    "nargs": "+",
    "metavar": "X,Y",
    "help": "pixel of the center, counted from 0, or its place on the sky, such as "
    "150.1deg,2.2deg (default: found in the map)",
}

OPERATIONS = (
    Operation(
        name="circularity",
        function="galml.gas_kinematics.operation:circularity",
        architectures={
            "kinematic": Architecture(
                "galml.gas_kinematics.network:KinematicNet",
                "galml.gas_kinematics.kinematic:KinematicDomain",
                "galml.gas_kinematics.fitting:KinematicRecipe",
            ),
            "merlin": Architecture(
                "galml.gas_kinematics.published:MerlinAutoencoder",
                "galml.gas_kinematics.published:MerlinDomain",
                "galml.gas_kinematics.fitting:MerlinRecipe",
            ),
        },
        importers={"merlin": "galml.gas_kinematics.published:import_weights"},
        plots="galml.gas_kinematics.plots",
        command=Command(
            name="circularity",
            summary="how much of the gas is in ordered rotation, from velocity maps",
            kind="objects",
            files="FITS files with a velocity map or a cube of one galaxy each",
            options={
                "center": _CENTER,
                "redshift": {
                    "type": float,
                    "nargs": "+",
                    "metavar": "Z",
                    "help": "divide the velocities by 1 + Z; one for all, or one for "
                    "each file, as for the following",
                },
                "beam": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "FWHM",
                    "help": "width of the beam or PSF, such as 0.5arcsec or 3pix, "
                    "where the headers do not say",
                },
                "rest_value": {
                    "type": "value",
                    "metavar": "REST",
                    "help": "rest frequency or wavelength of cubes of one line whose "
                    "headers do not tell it, such as 1420.405752MHz",
                },
                "tracer": {
                    "choices": ("gas", "stars"),
                    "help": "what was observed",
                },
                "line": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "REST",
                    "help": "of cubes with continuum or many lines, the one to "
                    "measure, such as 656.46nm in vacuum or 230.538GHz",
                },
                "dispersion_hdu": {
                    "type": "hdu",
                    "metavar": "HDU",
                    "help": "extension of the dispersions, where it is another one",
                },
            },
            paired={"dispersion": {"help": "maps of the velocity dispersion"}},
            examples="mock-*.fits",
        ),
    ),
    Operation(
        name="spin",
        function="galml.stellar_spin.operation:spin",
        architectures={
            "spin": Architecture(
                "galml.stellar_spin.network:SpinNet",
                "galml.stellar_spin.operation:SpinDomain",
                "galml.stellar_spin.fitting:SpinRecipe",
            ),
            "duckworth2020": Architecture(
                "galml.stellar_spin.published:Duckworth2020",
                "galml.stellar_spin.published:DuckworthDomain",
                "galml.stellar_spin.fitting:DuckworthRecipe",
            ),
        },
        plots="galml.stellar_spin.plots",
        command=Command(
            name="spin",
            summary="stellar spin of the galaxies in images of a field",
            kind="field",
            files="FITS images of a field, one band each; or cubes of bands (FITS) or "
            "pictures (JPEG, PNG) of one galaxy each",
            options={
                "bands": {
                    "nargs": "+",
                    "metavar": "BAND",
                    "help": "bands of a field's images, or of those in a cube, such as "
                    "g,r,i; by default those of the headers; of a field's images also "
                    "what follows the last _ in the name",
                },
                "psf_fwhm": {
                    "type": "width",
                    "nargs": "+",
                    "metavar": "FWHM",
                    "help": "width of the PSF in each FILE, such as 1.3arcsec or 3pix",
                },
                "pixel_scale": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "SIDE",
                    "help": "side of the pixels of pictures and cubes, such as "
                    "0.396arcsec, where the headers do not say",
                },
                "r_eff": _EFFECTIVE_RADIUS
                | {
                    "help": "effective radius in pictures and cubes, such as 3arcsec "
                    "or 12pix, where the headers do not say"
                },
            },
            examples="field-*.fits",
        ),
    ),
    Operation(
        name="lambda_r",
        function="galml.stellar_kinematics.operation:lambda_r",
        plots="galml.stellar_kinematics.plots",
        command=Command(
            name="lambda-r",
            summary="spin of the stars, measured on maps of their velocities",
            kind="objects",
            files="FITS maps of the light of one galaxy each, or tables of its spaxels",
            options={
                "hdu": {
                    "help": "extension to read, by name or number; or "
                    "flux=A,velocity=B,dispersion=C where each FILE holds all maps",
                },
                "r_eff": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "R",
                    "help": "semi-major axis of the ellipse, such as 5arcsec or 10pix; "
                    "one for all, or one for each file, as for the following",
                },
                "center": _CENTER,
                "ellipticity": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "E",
                    "help": "1 - b/a of the ellipse; none measures it (default: 0)",
                },
                "position_angle": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "PA",
                    "help": "of the major axis, such as 30deg (default: measured)",
                },
                "psf_fwhm": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "FWHM",
                    "help": "width of the PSF, such as 2.5arcsec or 5pix, to correct "
                    "for seeing",
                },
                "sersic_index": {
                    "type": float,
                    "nargs": "+",
                    "metavar": "N",
                    "help": "Sersic index, to correct for seeing",
                },
                "radius": {
                    "choices": ("circular", "elliptical"),
                    "help": "which distance from the center counts (default: circular)",
                },
                "n_samples": {
                    "default": 100,
                    "help": "Monte Carlo draws for the errors (default: %(default)s)",
                },
            },
            paired={
                "velocity": {"help": "maps of the velocity, unless FILE holds all"},
                "dispersion": {"help": "maps of the velocity dispersion"},
            },
        ),
    ),
    Operation(
        name="merger",
        function="galml.mergers.operation:merger",
        architectures={
            "merger": Architecture(
                "galml.mergers.network:MergerNet",
                "galml.mergers.operation:MergerDomain",
                "galml.mergers.fitting:MergerRecipe",
            ),
            "ferreira2022": Architecture(
                "galml.mergers.published:Ferreira2022",
                "galml.mergers.operation:FerreiraDomain",
                "galml.mergers.fitting:FerreiraRecipe",
            ),
        },
        plots="galml.mergers.plots",
        command=Command(
            name="merger",
            summary="whether galaxies have merged, from images of one band",
            kind="objects",
            files="FITS, JPEG or PNG images of one galaxy each",
            options={
                "filter": _FILTER,
                **_IMAGE_OPTIONS,
                "field": {
                    "help": "deep field that the images are of, such as COSMOS, where "
                    "the headers do not say",
                },
                "n_samples": {
                    "default": 50,
                    "help": "random passes of the network (default: %(default)s)",
                },
            },
            examples="merger-*.fits",
        ),
    ),
    Operation(
        name="contamination",
        function="galml.mergers.operation:contamination",
        models="merger",
        command=Command(
            name="contamination",
            summary="how much of the light in images is not that of the galaxy",
            kind="objects",
            files="FITS, JPEG or PNG images of one galaxy each",
            options={
                "filter": _FILTER,
                **_IMAGE_OPTIONS,
                "limit": {
                    "type": float,
                    "metavar": "C",
                    "help": "largest contamination of images of good quality "
                    "(default: 0.1)",
                },
                "n_samples": {
                    "default": 50,
                    "help": "random passes of the network (default: %(default)s)",
                },
            },
            examples="merger-*.fits",
        ),
    ),
    Operation(
        name="fraction",
        function="galml.mergers.fractions:fraction",
        command=Command(
            name="merger-fraction",
            summary="how many of the galaxies of a sample have merged, and how often",
            kind="catalog",
            files="table with probabilities of mergers, as galml merger writes it",
            options={
                "by": {
                    "nargs": "+",
                    "metavar": "COLUMN",
                    "help": "columns that divide the sample, such as filter,field",
                },
                "prior": {
                    "type": float,
                    "nargs": "+",
                    "metavar": "ALPHA,BETA",
                    "help": "beta distribution that the fraction is expected to have "
                    "(default: 0.5,0.5)",
                },
                "timescale": {
                    "type": "value",
                    "nargs": "+",
                    "metavar": "TIME",
                    "help": "for how long a merger is recognized, such as 0.5Gyr, or "
                    "0.5Gyr,0.1Gyr with its error, for rates",
                },
            },
            rows="sample",
            lacks=("chunk", "seed"),
        ),
        public=False,
    ),
    Operation(
        name="latents",
        function="galml.morphology.operation:latents",
        architectures={
            "morphology": Architecture(
                "galml.morphology.network:MorphologyNet",
                "galml.morphology.operation:MorphologyDomain",
                "galml.morphology.fitting:MorphologyRecipe",
            ),
            "xu2023": Architecture(
                "galml.morphology.published:Xu2023",
                "galml.morphology.published:XuDomain",
                "galml.morphology.published:XuRecipe",
            ),
            "encoder": Architecture(
                "galml.morphology.encoders:Encoder",
                "galml.morphology.encoders:EncoderDomain",
            ),
        },
        plots="galml.morphology.plots",
        command=Command(
            name="latents",
            summary="what galaxies look like, as a few numbers",
            kind="objects",
            files="FITS, JPEG or PNG images of one galaxy each",
            options={
                **_IMAGE_OPTIONS,
                "r_eff": _EFFECTIVE_RADIUS,
            },
            examples="merger-*.fits",
            lacks=("n_samples", "seed"),
        ),
    ),
    Operation(
        name="reconstruct",
        function="galml.morphology.operation:reconstruct",
        models="latents",
    ),
    Operation(
        name="outliers",
        function="galml.morphology.outlier_scores:outliers",
        command=Command(
            name="outliers",
            summary="galaxies that look like few others",
            kind="catalog",
            files=_LATENTS,
            options={
                "by": {
                    "metavar": "COLUMN",
                    "help": "column with classes, for scores within them",
                },
                "ratings": {
                    "metavar": "COLUMN",
                    "help": "column that says how interesting some galaxies are, from "
                    "0 to 1 or to 5, for ranks by interest",
                },
                "reference": {
                    "type": "table",
                    "metavar": "FILE",
                    "help": "table with latents of ordinary galaxies to compare with",
                },
            },
            lacks=("chunk",),
        ),
    ),
    Operation(
        name="similar",
        function="galml.morphology.similarity:similar",
        command=Command(
            name="similar",
            summary="galaxies that look the most like others",
            kind="catalog",
            files=_LATENTS,
            options={
                "query": {
                    "required": True,
                    "nargs": "+",
                    "metavar": "NAME",
                    "help": "names of the galaxies to search for, separated by commas",
                },
                "k": {
                    "type": "positive",
                    "metavar": "K",
                    "help": "number of neighbors of each (default: 10)",
                },
            },
            named="query",
            lacks=("chunk", "seed"),
        ),
    ),
    Operation(
        name="classify",
        function="galml.morphology.classification:classify",
        command=Command(
            name="classify",
            summary="classes of galaxies, after the example of some with labels",
            kind="catalog",
            files=_LATENTS,
            options={
                "labels": {
                    "required": True,
                    "metavar": "COLUMN",
                    "help": "column with the classes of some galaxies, else empty",
                },
                "classifier": {
                    "metavar": "NAME",
                    "help": "linear (logistic regression, the default), forest, or "
                    "self-training",
                },
                "prior": {
                    "metavar": "NAME",
                    "help": "equal shares of classes (the default), or those of the "
                    "labels",
                },
            },
            lacks=("chunk",),
        ),
    ),
    Operation(
        name="project",
        function="galml.morphology.projection:project",
        command=Command(
            name="project",
            summary="latents laid out in a plane",
            kind="catalog",
            files=_LATENTS,
            options={
                "method": {
                    "metavar": "NAME",
                    "help": "pca (principal components, the default), tsne or umap",
                },
                "n_neighbors": {
                    "type": "positive",
                    "metavar": "N",
                    "help": "neighbors that t-SNE or UMAP keep together (default: 30 "
                    "or 15)",
                },
            },
            lacks=("chunk",),
        ),
    ),
    Operation(
        name="explore",
        function="galml.morphology.explorer:explore",
        command=Command(
            name="explore",
            summary="a page on which galaxies are seen in the plane of their latents",
            kind="page",
            files="table with latents of galaxies, as galml latents writes it, or with "
            "their places in a plane, as galml project does",
            options={
                "columns": {
                    "nargs": "+",
                    "metavar": "COLUMN",
                    "help": "columns that are shown of each galaxy",
                },
                "color": {
                    "metavar": "COLUMN",
                    "help": "column that colors the points at first",
                },
                "side": {
                    "type": "positive",
                    "metavar": "N",
                    "help": "side of the images in pixels (default: 64)",
                },
                "title": {"help": "title of the page"},
                "bands": _IMAGE_OPTIONS["bands"],
            },
            paired={
                "cutouts": {
                    "help": "images of all galaxies, in the order of the table, such "
                    "as 'stamps/*.fits' (default: its column file)",
                },
            },
            lacks=("seed",),
        ),
        public=False,
    ),
    Operation(
        name="sample_stars",
        function="galml.stars.operation:sample_stars",
        models="stars",
        architectures={
            "coupling": Architecture("galml.stars.network:StarFlow"),
            "ensemble": Architecture("galml.stars.network:Ensemble"),
            "mixture": Architecture("galml.stars.mixture:MixtureFlow"),
            "galacticflow": Architecture("galml.stars.published:GalacticFlow"),
            "maf": Architecture("galml.stars.published:MAF"),
            "nice": Architecture("galml.stars.published:NICE"),
            "nsf": Architecture("galml.stars.published:NSF"),
            "sospf": Architecture("galml.stars.published:SOSPF"),
        },
        importers={
            "galacticforge-maf": "galml.stars.published:import_maf",
            "galacticforge-nice": "galml.stars.published:import_nice",
        },
        plots="galml.stars.plots",
        command=Command(
            name="stars",
            summary="stars of galaxies, drawn from what is known of the galaxies",
            kind="catalog",
            files="table with a row for each galaxy: stellar_mass, median_age, "
            "age_percentile_10, metallicity, and r_eff where it is known, with units",
            options={
                "n": {
                    "type": "value",
                    "metavar": "N",
                    "help": "stars of each galaxy; or a column with them; or the mass "
                    "of a star, such as 1e5solMass (default: the column n_stars, else "
                    "10000)",
                },
                "components": {
                    "nargs": "+",
                    "metavar": "AXIS",
                    "help": "axes wanted (default: all)",
                },
            },
            examples="galaxies.ecsv",
            writer="galml.stars:write_stars",
            drawn={"n": 20_000, "components": None},
        ),
    ),
    Operation(
        name="star_log_prob",
        function="galml.stars.operation:star_log_prob",
        models="stars",
    ),
    Operation(
        name="extract_cutouts",
        function="galml.cutouts.extract:extract_cutouts",
    ),
)

register(*OPERATIONS)
