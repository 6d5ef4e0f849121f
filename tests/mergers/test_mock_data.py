# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.mergers import mock_data
from galml.mergers.mock_data import KINDS, mock_data_set, stage_of
from galml.mergers.posterior import STAGES
from galml.mergers.preparation import FILTERS
from galml.mocks import DEEP_FIELDS, MergerTruth

#: Fewer galaxies of each kind, so that tests are fast.
FEW = {"deep": (1, 4, 2, 4), "near": (1, 3, 3, 4)}


@pytest.fixture(scope="module")
def made():
    patch = pytest.MonkeyPatch()
    patch.setattr(mock_data, "NUMBERS", FEW)
    sets = {
        where: mock_data_set(2, seed=5, where=where, n_particles=800, cutouts=True)
        for where in FEW
    }
    patch.undo()
    return sets


@pytest.mark.parametrize("where", list(FEW))
def test_shapes_and_truths(made, where):
    data = made[where]
    n = 2 * (1 * 6 * 3 + sum(FEW[where][1:])) * (2 if where == "deep" else 1)
    assert {len(value) for value in data.values()} == {n}
    assert data["image"].shape[1:] == (5, 64, 64)
    assert torch.isfinite(data["image"]).all() and torch.isfinite(data["scalars"]).all()
    share = data["contamination"]
    assert ((share >= 0) & (share <= 1)).all() and share.std() > 0.05
    merges = data["kind"] == 0
    torch.testing.assert_close(merges, data["stage"] > 0)
    torch.testing.assert_close(merges, torch.isfinite(data["mass_ratio"]))
    torch.testing.assert_close(data["stage"] > 2, torch.isfinite(data["time"]))
    names = [list(FILTERS)[i] for i in data["filter"].unique().tolist()]
    if where == "deep":
        assert "F814W" in names and "r" not in names
        assert ((data["field"] >= 0) & (data["field"] < len(DEEP_FIELDS))).all()
    else:
        assert names == ["r"] and (data["field"] == -1).all()
        assert set(data["colored"].tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("where", list(FEW))
def test_projections_are_contaminated(made, where):
    data = made[where]
    projected = data["kind"] == KINDS.index("projection")
    others = ~projected
    median = data["contamination"][projected].median()
    assert median > data["contamination"][others].median() + 0.05


def test_brightness_tells_nothing(made):
    for data in made.values():
        merged = data["stage"] > 0
        means = [data["magnitude"][rows].mean() for rows in (merged, ~merged)]
        assert abs(means[0] - means[1]) < 0.8


def test_batches_depend_on_their_number_alone(monkeypatch):
    monkeypatch.setattr(mock_data, "NUMBERS", FEW)
    options = {"seed": 5, "where": "near", "n_particles": 400}
    both = mock_data_set(2, **options)
    second = mock_data_set(1, first=1, **options)
    for key, value in second.items():
        torch.testing.assert_close(
            both[key][-len(value) :], value, rtol=0, atol=0, equal_nan=True
        )
    systems = both["system"]
    assert not set(systems[: len(second["stage"])].tolist()) & set(
        second["system"].tolist()
    )


def test_views_of_an_encounter_have_one_number(made):
    data = made["near"]
    merges = data["kind"] == 0
    _, counts = np.unique(data["system"][merges], return_counts=True)
    assert (counts == 18).all()


@pytest.mark.parametrize(
    "passed, since, ratio, stage",
    [
        (0.1, -0.5, 1.0, "first passage"),
        (0.3, -0.1, 1.0, "between passages"),
        (0.7, 0.0, 0.25, "post-merger"),
        (0.7, 0.5, 0.9, "post-merger"),
        (0.7, 0.51, 0.9, "remnant"),
        (0.7, 0.1, 0.2, "remnant"),
    ],
)
def test_stages(passed, since, ratio, stage):
    nothing = dict.fromkeys(MergerTruth.__dataclass_fields__, torch.zeros(1))
    known = nothing | {
        "time_since_passage": torch.tensor([passed]),
        "time_since_coalescence": torch.tensor([since]),
        "mass_ratio": torch.tensor([ratio]),
    }
    assert STAGES[int(stage_of(MergerTruth(**known)))] == stage


def test_cutouts_are_in_units_of_the_noise(made):
    """Of deep images that are faint in most pixels."""
    cutouts = made["deep"]["cutout"].float()[:, 0]
    middle = cutouts.flatten(1).quantile(0.5, dim=1)
    low = cutouts.flatten(1).quantile(0.16, dim=1)
    spread = (middle - low)[made["deep"]["filter"] == 0]
    assert 0.6 < float(spread.median()) < 1.6
