# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys
import tracemalloc

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable

from galml.core.exceptions import InputError, InputUnitError
from galml.stars import metrics

SHIFT = np.array([1.0, -0.5, 0.0, 0.3])


@pytest.fixture(scope="module")
def normal():
    """Two samples of one Gaussian, of different sizes."""
    random = np.random.default_rng(0)
    return random.normal(size=(3000, 4)), random.normal(size=(4000, 4))


def gaussian_mmd(shift, width, features=4):
    """Squared discrepancy of two unit Gaussians at a distance."""
    overlap = (width**2 / (width**2 + 2)) ** (features / 2)
    return 2 * overlap * (1 - np.exp(-(shift**2).sum() / (2 * (width**2 + 2))))


@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_mmd_of_equal_distributions(normal, kernel):
    assert metrics.mmd(*normal, kernel=kernel) == pytest.approx(0, abs=4e-3)


def test_linear_mmd_is_the_squared_distance_of_means(normal):
    truth = normal[1]
    scale = truth.std(axis=0)
    found = metrics.mmd(truth + SHIFT * scale, truth)
    assert found == pytest.approx((SHIFT**2).sum(), rel=1e-10)


@pytest.mark.parametrize("width", [1.0, 2.5])
def test_gaussian_mmd_of_shifted_gaussians(normal, width):
    sample, truth = normal
    found = metrics.mmd(sample + SHIFT, truth, kernel="gaussian", bandwidth=width)
    assert found == pytest.approx(gaussian_mmd(SHIFT, width), rel=0.06)


def test_gaussian_mmd_sees_more_than_means(normal):
    sample, truth = normal
    assert metrics.mmd(2 * sample, truth) < 0.01
    assert metrics.mmd(2 * sample, truth, kernel="gaussian") > 0.05


def test_gaussian_mmd_is_exact(monkeypatch):
    random = np.random.default_rng(1)
    first, second = random.normal(size=(7, 2)), random.normal(size=(9, 2))
    one, two = metrics.standardized(first, second)

    def kernel(a, b):
        return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(axis=2) / 0.7**2)

    wanted = (kernel(one, one).sum() - 7) / 42 + (kernel(two, two).sum() - 9) / 72
    wanted -= 2 * kernel(one, two).mean()
    for pairs in (metrics.PAIRS, 1, 20):
        monkeypatch.setattr(metrics, "PAIRS", pairs)
        found = metrics.mmd(first, second, kernel="gaussian", bandwidth=0.7)
        assert found == pytest.approx(wanted, abs=1e-12)


def test_gaussian_mmd_takes_little_memory(normal, monkeypatch):
    monkeypatch.setattr(metrics, "PAIRS", 100_000)
    tracemalloc.start()
    metrics.mmd(*normal, kernel="gaussian", bandwidth=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 < 8 * 3000 * 4000


def test_sliced_wasserstein_of_shifted_gaussians(normal):
    sample, truth = normal
    assert metrics.sliced_wasserstein(sample, truth) < 0.06
    found = metrics.sliced_wasserstein(truth + SHIFT * truth.std(axis=0), truth)
    assert found == pytest.approx(np.sqrt((SHIFT**2).sum() / 4), rel=1e-10)


def test_sliced_wasserstein_of_scaled_gaussians(normal):
    sample, truth = normal
    assert metrics.sliced_wasserstein(3 * sample, truth) == pytest.approx(2, rel=0.04)


def test_sliced_wasserstein_of_unequal_numbers():
    truth = np.array([[0.0, 0], [1, 1]])
    sample = np.repeat(truth, 3, axis=0)
    assert metrics.sliced_wasserstein(sample, truth) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("classifier", ["boosting", "neural"])
def test_c2st(normal, classifier):
    sample, truth = (values[:1000] for values in normal)
    equal = metrics.c2st(sample, truth, classifier=classifier)
    assert equal == pytest.approx(0.5, abs=0.05)
    assert metrics.c2st(sample + 20, truth, classifier=classifier) > 0.995


def test_c2st_of_shifted_gaussians_is_what_the_best_classifier_reaches(normal):
    from scipy.stats import norm
    from sklearn.linear_model import LogisticRegression

    sample, truth = normal
    found = metrics.c2st(sample + SHIFT, truth, classifier=LogisticRegression())
    best = norm.cdf(np.linalg.norm(SHIFT) / 2)
    assert found == pytest.approx(best, abs=0.015)
    again = metrics.c2st(sample + SHIFT, truth, classifier=LogisticRegression())
    assert again == found


def table(values):
    units = {"x": u.kpc, "v_x": u.km / u.s, "age": u.Gyr}
    places = enumerate(units.items())
    return QTable({name: values[:, i] * unit for i, (name, unit) in places})


def test_tables_are_compared_in_the_scale_of_the_truth(normal):
    sample, truth = (table(values[:, :3]) for values in normal)
    wanted = metrics.summarize(normal[0][:500, :3], normal[1][:500, :3])
    sample["x"] = sample["x"].to(u.pc)
    found = metrics.summarize(sample[:500], truth[:500])
    assert found == pytest.approx(wanted, rel=1e-9)
    assert set(found) == {
        "mmd_linear",
        "mmd_gaussian",
        "sliced_wasserstein",
        "quantile_error",
        "c2st",
    }


def test_columns_of_any_name(normal):
    sample, truth = normal
    stars = [
        QTable({"a": v[:, 0] * u.rad, "b": v[:, 1]}) for v in (sample + SHIFT, truth)
    ]
    found = metrics.mmd(*stars, axes=["a", "b"])
    assert found == pytest.approx(metrics.mmd(sample[:, :2] + SHIFT[:2], truth[:, :2]))


def test_unknown_stars_do_not_count(normal):
    sample, truth = (values[:50, :3].copy() for values in normal)
    sample[3, 1] = np.nan
    one, two = metrics.standardized(sample, truth)
    assert one.shape == (49, 3) and two.shape == (50, 3)
    stars = table(sample), table(truth)
    np.testing.assert_allclose(metrics.standardized(*stars)[0], one)


def test_quantile_error(normal):
    truth = normal[1]
    found = metrics.quantile_error(truth + SHIFT * truth.std(axis=0), truth)
    assert found == pytest.approx(np.sqrt((SHIFT**2).mean()))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kernel": "cubic"}, "kernel: got 'cubic'"),
        ({"bandwidth": 0.0, "kernel": "gaussian"}, "bandwidth: got 0.0"),
    ],
)
def test_wrong_options(normal, change, match):
    with pytest.raises(InputError, match=match):
        metrics.mmd(*normal, **change)


def test_wrong_samples(normal):
    sample, truth = normal
    with pytest.raises(InputError, match="sample: got 3 axes"):
        metrics.mmd(sample[:, :3], truth)
    with pytest.raises(InputError, match="truth: got equal values along axes"):
        metrics.mmd(sample, truth * np.array([1, 1, 0, 1]))
    with pytest.raises(InputError, match="sample: got shape"):
        metrics.mmd(sample[0], truth)
    with pytest.raises(InputError, match="sample: got 1 known stars"):
        metrics.mmd(sample[:1], truth)
    with pytest.raises(InputError, match="sample: got no numbers"):
        metrics.mmd([["a"]], truth)
    with pytest.raises(InputError, match="classifier: got 'forest'"):
        metrics.c2st(sample, truth, classifier="forest")
    with pytest.raises(InputError, match="at least 5"):
        metrics.c2st(sample[:4], truth)
    with pytest.raises(InputError, match="sample: got no axis"):
        metrics.mmd(QTable({"a": [1.0]}), QTable({"a": [1.0]}))
    with pytest.raises(InputError, match="truth: got no column 'b'"):
        metrics.mmd(QTable({"a": [1.0]}), QTable({"a": [1.0]}), axes=["b"])
    with pytest.raises(InputUnitError, match=r"sample\['x'\]"):
        metrics.mmd(QTable({"x": [1, 2] * u.s}), QTable({"x": [1, 2] * u.kpc}))


def test_importing_needs_no_scikit_learn():
    code = (
        "import sys, galml.stars.metrics\n"
        "assert not {'sklearn', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
