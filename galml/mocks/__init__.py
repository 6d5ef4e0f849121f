# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated galaxies made of particles, and how instruments see them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=[
        "chemistry",
        "dynamics",
        "light",
        "merger_dynamics",
        "scaling_relations",
        "surveys",
    ],
    submod_attrs={
        "chemo_recipe": [
            "STAR_TABLE_POPULATION",
            "UNEXPLAINED_SCATTER",
            "build_star_galaxies",
            "draw_star_galaxies",
        ],
        "crowded": ["CrowdedImages", "observe_crowded"],
        "deep_fields": ["DEEP_FIELDS", "observe_deep"],
        "deep_light": ["deep_starlight"],
        "galaxy": [
            "COMPONENTS",
            "Batch",
            "DustDisk",
            "Galaxy",
            "Kinematics",
            "kinematics",
            "random_orientation",
            "rotation_matrix",
        ],
        "gas_map": ["GasMaps", "gas_radius", "observe_gas", "project_gas"],
        "gas_recipe": ["POPULATION", "build_gas", "draw_gas"],
        "ifu": [
            "Shape",
            "SpinTruth",
            "half_light_ellipse",
            "manga_beam",
            "observe_ifu",
            "spin_truth",
        ],
        "images": ["LightImages", "observe_light"],
        "light": ["starlight"],
        "lookalikes": ["build_projections", "draw_clumpy"],
        "merger_recipe": [
            "MERGER_POPULATION",
            "STAGES",
            "MergerTruth",
            "build_mergers",
            "draw_mergers",
        ],
        "merger_stream": ["merger_galaxies"],
        "star_recipe": ["STAR_POPULATION", "TYPES", "build_stars", "draw_stars"],
        "star_table": ["StarTables", "observe_stars", "star_particles"],
        "streams": [
            "ImageTruth",
            "galaxy_images",
            "gas_maps",
            "star_galaxies",
            "star_images",
            "star_tensors",
        ],
        "surveys": ["GAS_SURVEYS", "IMAGING_SURVEYS"],
    },
)
