# Licensed under a 3-clause BSD style license - see LICENSE.rst
# The pages are tested; the scripts that build them need Sphinx.
collect_ignore_glob = ["*.py", "gallery/*"]
