# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figures of the gallery: those that an example gives a name."""

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

__all__ = ["save_figures"]


def save_figures(block, block_vars, gallery_conf):
    """Save figures that a block has made; called by sphinx-gallery after each."""
    found = block_vars["example_globals"]
    saved = found.setdefault("_saved", [])
    paths = []
    for figure in list(found.values()):
        if isinstance(figure, Figure) and figure not in saved:
            saved.append(figure)
            paths.append(next(block_vars["image_path_iterator"]))
            figure.savefig(paths[-1], dpi=110, facecolor="white")
    return figure_rst(paths, gallery_conf["src_dir"])
