# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operations: one row for each, with all that other parts need to know of it."""

from galml.core.domain import Architecture, Command, Operation, register

__all__ = ["MODELS", "OPERATIONS"]

#: Public functions about models, which no single operation has.
MODELS = (
    "galml.core.weights:import_weights",
    "galml.core.weights:list_models",
    "galml.core.weights:load_model",
)

OPERATIONS = (
    Operation(
        name="circularity",
        function="galml.gas_kinematics.operation:circularity",
        architectures={
            "kinematic": Architecture(
                "galml.gas_kinematics.network:KinematicNet",
                "galml.gas_kinematics.kinematic:KinematicDomain",
            ),
            "merlin": Architecture(
                "galml.gas_kinematics.published:MerlinAutoencoder",
                "galml.gas_kinematics.published:MerlinDomain",
            ),
        },
        importers={"merlin": "galml.gas_kinematics.published:import_weights"},
        plots="galml.gas_kinematics.plots",
        command=Command(
            name="circularity",
            summary="how much of the gas is in ordered rotation, from velocity maps",
            kind="objects",
            options={
                "redshift": {
                    "type": float,
                    "metavar": "Z",
                    "help": "divide the velocities by 1 + Z",
                }
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
            ),
            "duckworth2020": Architecture(
                "galml.stellar_spin.published:Duckworth2020",
                "galml.stellar_spin.published:DuckworthDomain",
            ),
        },
        plots="galml.stellar_spin.plots",
        command=Command(
            name="spin",
            summary="stellar spin of the galaxies in images of a field",
            kind="field",
            examples="field-*.fits",
        ),
    ),
    Operation(
        name="lambda_r",
        function="galml.stellar_kinematics.operation:lambda_r",
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
            examples="galaxies.ecsv",
            run="galml.cli.stars:run",
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
