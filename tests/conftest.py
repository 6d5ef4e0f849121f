# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared():
    """Folder of the observed data that is not part of the package."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("GALML_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip(f"observed data not found in {folder}: set GALML_SHARED")
    return folder
