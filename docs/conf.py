# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Configuration of Sphinx; what is not set here is shared by Astropy's packages."""

import sys
import urllib.request
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx_astropy.conf.v2 import *  # noqa: F403
from sphinx_astropy.conf.v2 import (
    exclude_patterns,
    extensions,
    html_theme_options,
    intersphinx_mapping,
    suppress_warnings,
)

project = "galml"
author = "The galml developers"
project_copyright = f"2026, {author}"
release = installed_version("galml")
version = ".".join(release.split(".")[:2])

html_title = f"galml {version}"
htmlhelp_basename = "galmldoc"
html_static_path = []
# The pages have no sections of their own to navigate.
html_sidebars = {"**": []}
html_theme_options |= {"navbar_align": "left"}

intersphinx_mapping |= {
    "ccdproc": ("https://ccdproc.readthedocs.io/en/stable/", None),
    "photutils": ("https://photutils.readthedocs.io/en/stable/", None),
    "reproject": ("https://reproject.readthedocs.io/en/stable/", None),
    "specutils": ("https://specutils.readthedocs.io/en/stable/", None),
    "torch": ("https://docs.pytorch.org/docs/stable/", None),
}
for alias in ("astropy.org", "pythonloc"):
    intersphinx_mapping.pop(alias)
try:
    inventory = f"{intersphinx_mapping['astropy'][0]}objects.inv"
    urllib.request.urlopen(inventory, timeout=10).close()
except OSError:
    # Without the internet, references into other projects become plain text.
    intersphinx_mapping.clear()

# Every reference to galml has to resolve; those to other projects depend on whether
# their inventories could be had.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!galml).*")]

# A directive of our own shows what the benchmarks have measured.
sys.path.insert(0, str(Path(__file__).parent))
extensions += ["figure_tables", "sphinx_gallery.gen_gallery"]
exclude_patterns += ["_templates", "api/README*", "examples/*"]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "image_scrapers": ("gallery_figures.save_figures",),
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 60,
    "write_computation_times": False,
}
suppress_warnings += ["config.cache"]

plot_formats = [("png", 150)]
plot_html_show_formats = False
plot_html_show_source_link = False
