# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table, vstack
from numpy.testing import assert_allclose
from scipy.special import expit, logit
from scipy.stats import beta, norm

import galml
from galml.core import GalmlWarning, InputError, InputUnitError, decode_flags
from galml.mergers.fractions import common_share, fraction

#: Distance of two normal distributions that 85 % can be told from each other.
DISTANCE = 2 * norm.ppf(0.85)


def as_given(probability, samples=None, prevalence=0.5, **columns):
    """Make a table as the operation gives it."""
    table = QTable({**columns, "merger_probability": probability})
    if samples is not None:
        table["merger_probability_samples"] = samples
    table.meta |= {"PREVALEN": prevalence, "MODEL": "merger-2", "MODELSHA": "ab12"}
    return table


def log_ratios(rng, count, true, distance=DISTANCE):
    """Logarithms of the ratio of likelihoods, of galaxies with a share of mergers."""
    merger = rng.uniform(size=count) < true
    score = rng.normal(size=count) + distance * merger
    return distance * score - distance**2 / 2


def inside(result, true):
    return (result["fraction_lo"] <= true) & (true <= result["fraction_hi"])


@pytest.mark.parametrize(("count", "mergers"), [(1, 0), (10, 3), (30_000, 60)])
def test_certain_classes_are_counted(count, mergers):
    """The beta distribution of a share, with the prior of Jeffreys and another."""
    certain = (np.arange(count) < mergers).astype(float)
    for prior, (a, b) in {None: (0.5, 0.5), (2, 5): (2, 5)}.items():
        (row,) = fraction(as_given(certain), prior)
        expected = beta(a + mergers, b + count - mergers)
        tolerance = 0.01 * expected.std()
        assert_allclose(row["fraction"], expected.mean(), atol=tolerance)
        assert_allclose(row["fraction_err"], expected.std(), atol=tolerance)
        assert_allclose(row["fraction_lo"], expected.ppf(0.16), atol=tolerance)
        assert_allclose(row["fraction_hi"], expected.ppf(0.84), atol=tolerance)


def test_distribution_is_that_of_the_mixture():
    """Against the integral over a plain grid of fractions."""
    probability = expit(log_ratios(np.random.default_rng(0), 300, 0.2))
    share = (np.arange(20_000) + 0.5) / 20_000
    each = np.outer(probability, share) + np.outer(1 - probability, 1 - share)
    weight = np.exp(np.log(each).sum(axis=0) - np.log(each).sum(axis=0).max())
    weight *= beta(3, 8).pdf(share)
    weight /= weight.sum()
    mean = weight @ share
    (row,) = fraction(as_given(probability), (3, 8))
    assert_allclose(row["fraction"], mean, atol=1e-4)
    error = np.sqrt(weight @ (share - mean) ** 2)
    assert_allclose(row["fraction_err"], error, rtol=0.01)
    ends = np.interp((0.16, 0.84), np.cumsum(weight), share)
    assert_allclose((row["fraction_lo"], row["fraction_hi"]), ends, atol=1e-3)


def test_galaxies_that_tell_nothing_leave_the_prior():
    (row,) = fraction(as_given(np.full(50, 0.5)), (2, 6))
    assert_allclose(row["fraction"], 0.25, atol=1e-3)
    assert_allclose(row["fraction_err"], beta(2, 6).std(), atol=1e-3)


def test_intervals_hold_true_fractions():
    """In 68 % of draws of a sample, whatever the fraction and the classifier."""
    draws, count, shares = 300, 3000, []
    for accuracy in (0.8, 0.9):
        rng, distance = np.random.default_rng(1), 2 * norm.ppf(accuracy)
        for true in (0.01, 0.05, 0.2):
            ratios = log_ratios(rng, draws * count, true, distance)
            draw = np.repeat(np.arange(draws), count)
            result = fraction(as_given(expit(ratios), draw=draw), by="draw")
            held = inside(result, true).mean()
            assert 0.61 <= held <= 0.75, (accuracy, true)
            # The mean of all draws is known to a fifteenth of the error of one.
            bias = result["fraction"].mean() - true
            assert abs(bias) < 0.25 * result["fraction_err"].mean(), (accuracy, true)
            shares.append(held)
    assert 0.65 <= np.mean(shares) <= 0.71


def test_counts_above_a_threshold_are_not_the_fraction():
    """What is corrected: most of what looks like a merger in such samples is none."""
    probability = expit(log_ratios(np.random.default_rng(2), 20_000, 0.01))
    (row,) = fraction(as_given(probability))
    assert (probability > 0.5).mean() > 0.14 and probability.mean() > 0.14
    assert abs(row["fraction"] - 0.01) < 3 * row["fraction_err"] < 0.01


def test_prevalence_does_not_matter_where_it_is_told():
    ratios = log_ratios(np.random.default_rng(3), 3000, 0.1)
    (even,) = fraction(as_given(expit(ratios)))
    (rare,) = fraction(as_given(expit(ratios + logit(0.02)), prevalence=0.02))
    (wrong,) = fraction(as_given(expit(ratios + logit(0.3))))
    assert_allclose(rare["fraction"], even["fraction"], rtol=1e-9)
    assert_allclose(rare["fraction_err"], even["fraction_err"], rtol=1e-9)
    assert wrong["fraction"] < even["fraction"] - 2 * even["fraction_err"]


def test_errors_in_common_widen_the_interval():
    """A network that sees mergers too often, or too rarely, everywhere."""
    rng = np.random.default_rng(4)
    draws, count, true, shift = 300, 1000, 0.05, 0.2
    ratios = log_ratios(rng, draws * count, true).reshape(draws, count)
    seen = ratios + shift * rng.normal(size=(draws, 1))
    passes = seen[..., None] + shift * rng.normal(size=(draws, 1, 20))
    table = as_given(
        expit(seen.ravel()),
        expit(passes.reshape(-1, 20)),
        draw=np.repeat(np.arange(draws), count),
    )
    told = fraction(table, by="draw")
    table.remove_column("merger_probability_samples")
    assert inside(fraction(table, by="draw"), true).mean() < 0.55
    assert 0.61 <= inside(told, true).mean() <= 0.75


def test_common_part_counts_by_its_share():
    rng = np.random.default_rng(5)
    ratios = log_ratios(rng, 3000, 0.2)
    shift = rng.normal(0, 0.4, 30)
    found = []
    for share in (0.0, 0.5, 1.0, None):
        table = as_given(expit(ratios), expit(ratios[:, None] + shift))
        if share is not None:
            table.meta["COMMON"] = share
        found.append(fraction(table)["fraction_err"][0])
    assert found[0] < found[1] < found[2] == found[3]
    alone = fraction(as_given(expit(ratios)))["fraction_err"][0]
    assert_allclose(found[0], alone, rtol=1e-3)


def test_common_part_is_that_of_the_filters_in_a_sample():
    rng = np.random.default_rng(5)
    ratios = log_ratios(rng, 600, 0.2)
    passes = expit(ratios[:, None] + rng.normal(0, 0.4, 30))
    band = np.repeat(["F814W", "F160W"], 300)
    table = as_given(expit(ratios), passes, filter=band)

    def error(common, rows, **options):
        part = table[rows]
        part.meta["COMMON"] = common
        return fraction(part, **options)["fraction_err"]

    text, whole = "F814W 0.1, F160W 0.5, r 1", slice(None)
    for rows, share in ((slice(300), 0.1), (slice(300, None), 0.5), (whole, 0.5)):
        assert error(text, rows) == error(share, rows)
    reverse = slice(None, None, -1)
    assert_allclose(error(text, reverse), error(text, whole), rtol=1e-12)
    each = [error(0.5, slice(300, None))[0], error(0.1, slice(300))[0]]
    assert error(text, whole, by="filter").tolist() == each
    # What is not in the list counts whole, and one number holds for all.
    assert error("F814W 0.1", whole) == error(1.0, whole)
    assert error("0.5", whole) == error(0.5, whole)
    table.remove_column("filter")
    assert error(text, whole) == error(1.0, whole)


def test_stacked_tables_have_the_same_fraction_in_any_order(tmp_path):
    rng = np.random.default_rng(6)
    parts = []
    for number, band in enumerate(("F814W", "r")):
        ratios = log_ratios(rng, 200, 0.2)
        passes = expit(ratios[:, None] + rng.normal(0, 0.4, 20))
        parts.append(as_given(expit(ratios), passes, filter=[band] * 200))
        parts[-1].meta["COMMON"] = "F814W 0.05, r 1"
        parts[-1].write(tmp_path / f"{number}.fits")
        parts[-1] = QTable.read(tmp_path / f"{number}.fits")
    found = [fraction(vstack(pair)) for pair in (parts, parts[::-1])]
    for key in ("fraction", "fraction_err"):
        assert_allclose(found[0][key], found[1][key], rtol=1e-12)
    assert found[0].meta["COMMON"] == "F814W 0.05, r 1"


@pytest.mark.parametrize("share", ["much", "r 2", "r", -0.1, 1.5, np.nan, True, [0.1]])
def test_shares_of_the_common_part(share):
    table = as_given(np.full(5, 0.4))
    table.meta["COMMON"] = share
    with pytest.raises(InputError, match="COMMON"):
        fraction(table)


def test_share_is_found_with_which_intervals_are_right():
    """Passes that disagree where the network is right count for nothing.

    Where calibrations on few galaxies differ, they count; and all of it, where each
    pass is as wrong as the others.
    """
    rng = np.random.default_rng(6)
    merged = np.arange(6000) % 2 == 1
    ratios = DISTANCE * (rng.normal(size=6000) + DISTANCE * merged) - DISTANCE**2 / 2
    passes = ratios[:, None] + rng.normal(0, 0.3, 12)
    passes += ratios.mean() - passes.mean()

    def found(shift, scatter):
        def calibrated(rng):
            return expit(passes + rng.normal(shift, scatter))

        return common_share(calibrated, merged, 0.5)

    right, differing = found(0.0, 0.0), found(0.0, 0.2)
    assert right <= 0.3
    assert right < differing < found(0.6, 0.0) == 1


def test_independent_passes_change_little():
    rng = np.random.default_rng(5)
    ratios = log_ratios(rng, 2000, 0.05)
    passes = expit(ratios[:, None] + 0.5 * rng.normal(size=(2000, 50)))
    (without,) = fraction(as_given(expit(ratios)))
    (row,) = fraction(as_given(expit(ratios), passes))
    assert_allclose(row["fraction"], without["fraction"], rtol=0.02)
    assert 0.98 < row["fraction_err"] / without["fraction_err"] < 1.1


def test_one_pass_and_missing_passes_tell_nothing():
    probability = expit(log_ratios(np.random.default_rng(6), 200, 0.2))
    (expected,) = fraction(as_given(probability))
    for samples in (probability[:, None], np.full((200, 4), np.nan)):
        (row,) = fraction(as_given(probability, samples))
        assert row["fraction_err"] == expected["fraction_err"]


def test_galaxies_without_a_result_are_left_out():
    probability = expit(log_ratios(np.random.default_rng(7), 100, 0.2))
    samples = np.full((100, 3), 0.5)
    (expected,) = fraction(as_given(probability, samples))
    assert (expected["n_galaxies"], expected["n_unknown"]) == (100, 0)
    assert decode_flags(expected["flags"]) == ()
    longer = np.append(probability, [np.nan, np.nan])
    more = np.append(samples, np.full((2, 3), np.nan), axis=0)
    masked = MaskedColumn(np.append(probability, [0.99, 1.0]), mask=np.isnan(longer))
    for column in (longer, masked):
        (row,) = fraction(as_given(column, more))
        assert (row["n_galaxies"], row["n_unknown"]) == (100, 2)
        assert decode_flags(row["flags"]) == ("nonfinite",)
        assert row["fraction"] == expected["fraction"]


def test_rate():
    table = as_given(expit(log_ratios(np.random.default_rng(8), 500, 0.1)))
    (plain,) = fraction(table, timescale=500 * u.Myr)
    value, error = plain["fraction"], plain["fraction_err"]
    assert plain["rate"].unit == 1 / u.Gyr
    assert_allclose(plain["rate"].value, 2 * value)
    assert_allclose(plain["rate_err"].value, 2 * error)
    (row,) = fraction(table, timescale=(0.5 * u.Gyr, 200 * u.Myr))
    assert_allclose(row["rate"].value, 2 * value)
    relative = np.hypot(error / value, 0.4)
    assert_allclose(row["rate_err"].value, 2 * value * relative)
    assert "rate" not in fraction(table).colnames


def test_parts_of_a_sample():
    rng = np.random.default_rng(9)
    band = np.repeat(["r", "F814W", "F814W"], 100)
    field = np.repeat(["", "UDS", "EGS"], 100)
    probability = expit(log_ratios(rng, 300, 0.2))
    table = as_given(probability, filter=band, field=field)
    result = fraction(table, by=("filter", "field"))
    assert result["filter"].tolist() == ["F814W", "F814W", "r"]
    assert result["field"].tolist() == ["EGS", "UDS", ""]
    (own,) = fraction(table[100:200])
    assert result["fraction"][1] == own["fraction"]
    result = fraction(table, by="filter")
    assert result.colnames[0] == "filter" and result["n_galaxies"].tolist() == [
        200,
        100,
    ]


def test_a_part_without_results():
    probability = np.array([0.2, 0.9, np.nan, np.nan])
    table = as_given(probability, filter=["r", "r", "F160W", "F160W"])
    with pytest.warns(GalmlWarning, match="1 of 2 rows have no result"):
        result = fraction(table, by="filter", timescale=1 * u.Gyr)
    assert np.isnan(result["fraction"][0]) and np.isnan(result["rate"][0])
    assert np.isfinite(result["fraction"][1])
    assert decode_flags(result["flags"]) == [("failed", "nonfinite"), ()]


def test_result_tells_where_it_comes_from():
    result = fraction(as_given([0.5, 0.9], prevalence=0.4), (1, 2))
    assert result.meta["OPERATN"] == "fraction"
    assert (result.meta["MODEL"], result.meta["MODELSHA"]) == ("merger-2", "ab12")
    assert result.meta["ARG_1"] == "prior=(1, 2)"
    assert result.meta["PREVALEN"] == 0.4
    assert result.meta["GALMLVER"] == galml.__version__


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_results_survive_files(tmp_path, suffix):
    table = as_given(np.array([0.1, 0.8, np.nan]), filter=["r", "r", "r"])
    table.write(tmp_path / f"in.{suffix}")
    read = QTable.read(tmp_path / f"in.{suffix}")
    result = fraction(read, timescale=0.5 * u.Gyr, by="filter")
    result.write(tmp_path / f"out.{suffix}")
    again = QTable.read(tmp_path / f"out.{suffix}")
    expected = fraction(table, timescale=0.5 * u.Gyr, by="filter")
    assert again.colnames == expected.colnames
    assert again["rate"].unit == expected["rate"].unit
    assert_allclose(again["fraction"], expected["fraction"], rtol=1e-12)
    assert again["flags"].tolist() == expected["flags"].tolist()


def test_the_table_is_not_changed():
    table = as_given(np.array([0.1, 0.9]), filter=["r", "F814W"])
    before = table.copy()
    fraction(table, by="filter")
    assert (table == before).all() and table.meta == before.meta
    assert fraction(Table(table))["fraction"][0] == fraction(table)["fraction"][0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"PREVALEN": None}, "table: got no PREVALEN"),
        ({"PREVALEN": 1.0}, "table: got a PREVALEN of 1.0"),
        ({"PREVALEN": "half"}, "table: got a PREVALEN of 'half'"),
    ],
)
def test_prevalence_is_not_assumed(change, match):
    table = as_given([0.1, 0.9])
    table.meta |= change
    with pytest.raises(InputError, match=match):
        fraction(table)
    del table.meta["PREVALEN"]
    with pytest.raises(InputError, match="no PREVALEN"):
        fraction(table)


@pytest.mark.parametrize("values", [[0.1, 1.2], [-0.1, np.nan], [0.3, np.inf]])
def test_probabilities_lie_between_0_and_1(values):
    with pytest.raises(InputError, match="table: got a merger_probability of"):
        fraction(as_given(values))
    with pytest.raises(InputError, match="table: got a merger_probability_samples of"):
        fraction(as_given([0.1, 0.2], [values, values]))


@pytest.mark.parametrize("values", [["a", "b"], [[0.1], [0.2]]])
def test_probabilities_are_a_column_of_numbers(values):
    with pytest.raises(InputError, match="table: got a merger_probability of"):
        fraction(as_given(values))
    with pytest.raises(InputError, match="table: got a merger_probability_samples of"):
        fraction(as_given([0.1, 0.2], ["a", "b"]))
    with pytest.raises(InputError, match="table: got a merger_probability_samples of"):
        fraction(as_given([0.1, 0.2], [0.1, 0.2]))


def test_what_is_unknown_is_one_part():
    nan = np.nan
    table = as_given(np.full(5, 0.4), redshift=[nan, 2.0, nan, 1.0, 2.0])
    found = fraction(table, by="redshift")
    assert_allclose(found["redshift"], [1, 2, nan])
    assert found["n_galaxies"].tolist() == [1, 2, 2]
    mask = [True, False, True, False, False]
    table["bin"] = MaskedColumn([1, 2, 3, 4, 4], mask=mask)
    found = fraction(table, by="bin")
    assert found["bin"].tolist() == [None, 2, 4]
    assert found["n_galaxies"].tolist() == [2, 1, 2]


def test_samples_without_galaxies():
    for values in ([np.nan, np.nan], []):
        with pytest.raises(InputError, match="table: got no galaxy"):
            fraction(as_given(values))
    with pytest.raises(InputError, match="table: got no column merger_probability"):
        fraction(QTable({"p": [1.0]}, meta={"PREVALEN": 0.5}))
    with pytest.raises(InputError, match="table: got int"):
        fraction(3)


@pytest.mark.parametrize("prior", [0.5, (1,), (0, 1), (1, 0.2), (1, np.inf), "flat"])
def test_priors_are_beta_distributions(prior):
    with pytest.raises(InputError, match="prior: got"):
        fraction(as_given([0.1]), prior)


@pytest.mark.parametrize(
    ("timescale", "kind"),
    [
        (0.5, InputUnitError),
        (1 * u.kpc, InputUnitError),
        (0 * u.Gyr, InputError),
        ((1 * u.Gyr, -1 * u.Gyr), InputError),
        ([1, 2, 3] * u.Gyr, InputError),
        (np.nan * u.Gyr, InputError),
        ("soon", InputError),
    ],
)
def test_timescales_are_times(timescale, kind):
    with pytest.raises(kind, match="timescale: got"):
        fraction(as_given([0.1]), timescale=timescale)


@pytest.mark.parametrize(
    "by", ["band", ("filter", "band"), "merger_probability_samples", 3, "flags", [3]]
)
def test_parts_are_columns(by):
    table = as_given([0.1], [[0.1, 0.2]], filter=["r"], flags=[0])
    with pytest.raises(InputError, match="by: got"):
        fraction(table, by=by)
