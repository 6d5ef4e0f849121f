# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How to cite galml and the methods that it offers."""

__all__ = ["citation"]

#: The package itself.
SOFTWARE = """\
@software{galml,
  author = {{The galml developers}},
  title = {galml: deep learning on galaxies for Astropy},
  version = {VERSION},
  year = {2026},
}"""

#: Papers by their key.
PAPERS = {
    "Dawson2020": """\
@article{Dawson2020,
  author = {Dawson, James M. and Davis, Timothy A. and Gomez, Edward L. and
            Schock, Justus and Zabel, Nikki and Williams, Thomas G.},
  title = {Using machine learning to study the kinematics of cold gas in galaxies},
  journal = {MNRAS},
  volume = {491},
  pages = {2506},
  year = {2020},
  doi = {10.1093/mnras/stz3097},
}""",
    "Sales2012": """\
@article{Sales2012,
  author = {Sales, Laura V. and others},
  title = {The origin of discs and spheroids in simulated galaxies},
  journal = {MNRAS},
  volume = {423},
  pages = {1544},
  year = {2012},
  doi = {10.1111/j.1365-2966.2012.20975.x},
}""",
    "Emsellem2007": """\
@article{Emsellem2007,
  author = {Emsellem, Eric and others},
  title = {The SAURON project - IX. A kinematic classification for early-type galaxies},
  journal = {MNRAS},
  volume = {379},
  pages = {401},
  year = {2007},
  doi = {10.1111/j.1365-2966.2007.11752.x},
}""",
    "Graham2018": """\
@article{Graham2018,
  author = {Graham, Mark T. and others},
  title = {SDSS-IV MaNGA: stellar angular momentum of about 2300 galaxies: unveiling
           the bimodality of massive galaxy properties},
  journal = {MNRAS},
  volume = {477},
  pages = {4711},
  year = {2018},
  doi = {10.1093/mnras/sty504},
}""",
    "Ferreira2022": """\
@article{Ferreira2022,
  author = {Ferreira, Leonardo and others},
  title = {A Simulation-driven Deep Learning Approach for Separating Mergers and
           Star-forming Galaxies: The Formation Histories of Clumpy Galaxies in All of
           the CANDELS Fields},
  journal = {ApJ},
  volume = {931},
  pages = {34},
  year = {2022},
  doi = {10.3847/1538-4357/ac66ea},
}""",
    "Saerens2002": """\
@article{Saerens2002,
  author = {Saerens, Marco and Latinne, Patrice and Decaestecker, Christine},
  title = {Adjusting the Outputs of a Classifier to New a Priori Probabilities: A Simple
           Procedure},
  journal = {Neural Computation},
  volume = {14},
  pages = {21},
  year = {2002},
  doi = {10.1162/089976602753284446},
}""",
    "Xu2023": """\
@article{Xu2023,
  author = {Xu, Quanfeng and others},
  title = {From Images to Features: Unbiased Morphology Classification via Variational
           Auto-Encoders and Domain Adaptation},
  journal = {MNRAS},
  volume = {526},
  pages = {6391},
  year = {2023},
  doi = {10.1093/mnras/stad3181},
}""",
    "Wolf2023": """\
@article{Wolf2023,
  author = {Wolf, Luca and Buck, Tobias},
  title = {GalacticFlow: Learning a Generalized Representation of Galaxies with
           Normalizing Flows},
  journal = {arXiv e-prints},
  eprint = {2312.06017},
  archivePrefix = {arXiv},
  year = {2023},
}""",
}

#: Keys of the papers of each operation.
METHODS = {
    "circularity": ("Dawson2020", "Sales2012"),
    "spin": ("Emsellem2007",),
    "lambda_r": ("Emsellem2007", "Graham2018"),
    "merger": ("Ferreira2022",),
    "contamination": ("Ferreira2022",),
    "fraction": ("Saerens2002",),
    "latents": ("Xu2023",),
    "reconstruct": ("Xu2023",),
    "outliers": ("Xu2023",),
    "similar": ("Xu2023",),
    "classify": ("Xu2023",),
    "project": ("Xu2023",),
    "explore": (),
    "sample_stars": ("Wolf2023",),
    "star_log_prob": ("Wolf2023",),
    "extract_cutouts": (),
}


def citation(operation=None):
    """Tell how to cite the package, and the papers of a method.

    Parameters
    ----------
    operation : str, optional
        Name of an operation, such as "circularity".

    Returns
    -------
    str
        BibTeX: the package first, then the papers of the operation.

    Raises
    ------
    galml.core.InputError
        When there is no such operation.

    Examples
    --------
    >>> import galml
    >>> print(galml.citation("spin"))
    @software{galml,
    ...
    @article{Emsellem2007,
    ...
    """
    import galml

    if operation is not None and operation not in METHODS:
        from galml.core.exceptions import InputError

        raise InputError("operation", repr(operation), f"one of {sorted(METHODS)}")
    software = SOFTWARE.replace("VERSION", galml.__version__)
    keys = () if operation is None else METHODS[operation]
    return "\n\n".join([software, *(PAPERS[key] for key in keys)])
