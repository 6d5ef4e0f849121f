# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``python -m galml``."""

import sys

from galml.cli import main

sys.exit(main())
