# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The shipped weights, on mocks and on observed images."""

import io
import tarfile

import numpy as np
import pytest
import torch
from astropy.table import Table

import galml
from galml.core.fitting import evaluate, new_network
from galml.core.metrics import area_under_curve, coverage
from galml.core.networks import standardize
from galml.core.weights import list_models, load_model
from galml.imaging import MIRRORS
from galml.stellar_spin.fitting import forget
from galml.stellar_spin.metrics import agreement
from galml.stellar_spin.mock_data import mock_data_set
from galml.stellar_spin.network import SpinNet
from galml.stellar_spin.posterior import UNCALIBRATED, interval, posterior

#: Of mocks that no training has seen.
SEED = 2718
OPTIONS = {"n_particles": 2000, "n_pixels": 64, "survey": "SDSS"}


@pytest.fixture(scope="module")
def mocks():
    """384 galaxies in g, r and i."""
    return mock_data_set(6, seed=SEED, bands=("g", "r", "i"), **OPTIONS)


@pytest.fixture(scope="module")
def color_images():
    """128 galaxies in color images, with radii that mostly are measured."""
    return mock_data_set(2, seed=SEED, first=6, color_images=1.0, **OPTIONS)


@pytest.fixture(scope="module")
def single_band(mocks):
    """The galaxies of the mocks in r alone."""
    data = mocks | {key: mocks[key].clone() for key in ("image", "scalars")}
    for group in ("blue", "red"):
        forget(data["image"], data["scalars"], slice(None), group)
    return data


def judge(network, calibration, data):
    """Agreement with the truth, coverage, and error of the ellipticity."""
    result = posterior(evaluate(network, data, MIRRORS, device="cpu"), calibration)
    truth, spin = data["spin"].numpy(), result["spin_mean"].numpy()
    error = result["ellipticity"] - data["ellipticity"]
    return agreement(spin, truth) | {
        "bias": float(np.mean(spin - truth)),
        "coverage": coverage(truth, *interval("spin", result)),
        "ellipticity": float(error.abs().median()),
    }


def judge_model(name, data):
    model = load_model(name, "spin")
    return judge(model.network, model.config["calibration"], data)


def test_default_model_on_mocks(mocks):
    figures = judge_model("default", mocks)
    assert figures["pearson"] > 0.78 and figures["spearman"] > 0.76
    assert figures["mean_square"] < 0.02 and abs(figures["bias"]) < 0.06
    assert 0.6 < figures["coverage"] < 0.76
    assert figures["ellipticity"] < 0.065


def test_default_model_on_color_images(color_images):
    figures = judge_model("default", color_images)
    assert figures["pearson"] > 0.7 and abs(figures["bias"]) < 0.08
    assert 0.55 < figures["coverage"] < 0.8


@pytest.mark.parametrize("name", ["default", "stellar-spin-single-band-3"])
def test_models_in_one_band(single_band, name):
    figures = judge_model(name, single_band)
    assert figures["pearson"] > 0.75 and abs(figures["bias"]) < 0.06
    assert 0.58 < figures["coverage"] < 0.78


def test_these_bounds_tell_trained_from_random_weights(mocks):
    network = new_network(SpinNet, seed=1)
    standardize(network, mocks["scalars"])
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network({key: mocks[key][:48].float() for key in ("image", "scalars")})
    figures = judge(network.eval(), UNCALIBRATED, mocks)
    assert figures["pearson"] < 0.6
    assert figures["mean_square"] > 0.02 and figures["ellipticity"] > 0.1


def test_all_shipped_models_are_tested():
    names = list_models("spin")["name"].tolist()
    assert sorted(names) == ["stellar-spin-3", "stellar-spin-single-band-3"]


def test_disks_turn_faster_than_ellipticals_on_observed_images(shared):
    """On images of SDSS with types by Galaxy Zoo; a guess would have 0.5."""
    image = pytest.importorskip("PIL.Image")
    labels = Table.read(shared / "gz1_sdss" / "labels.csv", format="ascii.csv")
    kinds = {str(row["objid"]): int(row["class"]) for row in labels}
    images, disks = [], []
    with tarfile.open(shared / "gz1_sdss" / "images.tar") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2].removesuffix(".jpg")
            # 0 are ellipticals, 1 and 2 spirals, 3 edge-on disks.
            if not member.isfile() or kinds.get(name, 9) > 3:
                continue
            with image.open(io.BytesIO(archive.extractfile(member).read())) as jpeg:
                images.append(np.asarray(jpeg.convert("RGB"))[::-1])
            disks.append(kinds[name] > 0)
            if len(images) == 200:
                break
    table = galml.spin(images)
    spin, disks = np.asarray(table["spin"]), np.array(disks)
    known = np.isfinite(spin)
    assert known.mean() > 0.95 and 40 < disks.sum() < 160
    assert area_under_curve(spin[known], disks[known]) > 0.8
    means = [np.median(spin[known & (disks == kind)]) for kind in (True, False)]
    assert means[0] - means[1] > 0.15
