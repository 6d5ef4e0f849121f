# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The shipped weights, on mocks that no training has seen and on observed images."""

import io
import tarfile

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image

import galml
from galml.core.fitting import evaluate, untrained_model
from galml.core.metrics import area_under_curve
from galml.core.weights import list_models, load_model
from galml.imaging import DIHEDRAL
from galml.mergers import mock_data
from galml.mergers.fitting import MergerRecipe, judge
from galml.mergers.mock_data import mock_data_set
from galml.mergers.posterior import calibrate

SEED = 2718
#: Fewer particles and galaxies than in the training, so that tests are fast.
NUMBERS = {"deep": (2, 18, 7, 11), "near": (2, 3, 28, 5)}


@pytest.fixture(scope="module")
def mocks():
    patch = pytest.MonkeyPatch()
    patch.setattr(mock_data, "NUMBERS", NUMBERS)
    data = mock_data_set(3, seed=SEED, where="deep", n_particles=4000)
    patch.undo()
    data["group"] = 10 * data["filter"] + data["field"] + 1
    return {key: value.float() for key, value in data.items()}


def outputs_of(network, mocks):
    return evaluate(network, mocks, DIHEDRAL, device="cpu", n_samples=20)


def test_default_model_on_mocks(mocks):
    model = load_model("default", "merger")
    figures = judge(outputs_of(model.network, mocks), model.config, mocks)
    assert figures["accuracy"] > 0.7 and figures["upsilon"] > 0.6
    assert figures["calibration_error"] < 0.15
    assert figures["contamination_error"] < 0.1
    assert 0.5 < figures["contamination_coverage"] < 0.85


def test_these_bounds_tell_trained_from_random_weights(mocks):
    network = untrained_model(MergerRecipe(), seed=1).network
    outputs = outputs_of(network, mocks)
    figures = judge(outputs, calibrate(outputs, mocks), mocks)
    assert figures["accuracy"] < 0.65
    assert figures["contamination_error"] > 0.1


def test_all_shipped_models_are_tested():
    assert list_models("merger")["name"].tolist() == ["merger-2"]


def test_mergers_of_the_galaxy_zoo(shared):
    """Color images of SDSS, by the types of the Galaxy Zoo; a guess would have 0.5."""
    labels = Table.read(shared / "gz1_sdss" / "labels.csv", format="ascii.csv")
    kinds = {str(row["objid"]): int(row["class"]) for row in labels}
    pictures, merged, others = [], [], 0
    with tarfile.open(shared / "gz1_sdss" / "images.tar") as archive:
        for member in archive:
            kind = kinds.get(member.name.rpartition("/")[2].partition(".")[0])
            if kind not in (0, 1, 2, 3, 5) or (kind != 5 and others >= 200):
                continue
            others += kind != 5
            content = archive.extractfile(member).read()
            picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            pictures.append(picture[::-1])
            merged.append(kind == 5)
    table = galml.merger(np.stack(pictures), seed=1, n_samples=10)
    score = 1 - table["stage_probability"][:, 0]
    assert area_under_curve(score, np.array(merged)) > 0.7
