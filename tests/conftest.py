# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import signal
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


@pytest.fixture
def interruptible():
    """Let processes be interrupted that tests start, as those in a terminal can be.

    Shells let what they start in the background ignore interrupts, and all that it
    starts itself.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
