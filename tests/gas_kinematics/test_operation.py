# Licensed under a 3-clause BSD style license - see LICENSE.rst

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    Cutout2D,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.table import QTable

import galml
from galml.core import GalmlWarning, decode_flags
from galml.core.exceptions import InputError, InputUnitError
from galml.core.flags import Flag
from galml.core.weights import load_model

KMS = u.km / u.s
COLUMNS = [
    "circularity",
    "circularity_err",
    "circularity_lo",
    "circularity_hi",
    "disturbed_probability",
    "position_angle",
    "position_angle_err",
    "inclination",
    "inclination_err",
    "map_quality",
    "latent",
    "flags",
]


def rows(table, places):
    return table[list(places)]


def kinds(values, folder):
    """One map as each kind of input, with the options that it needs."""
    path = folder / "galaxy.fits"
    header = fits.Header({"BUNIT": "km/s"})
    fits.PrimaryHDU(values, header).writeto(path)
    np.save(folder / "map.npy", values)
    read_only = values.copy()
    read_only.flags.writeable = False
    masked = np.where(np.isnan(values), 1e20, values)
    return {
        "Quantity": (values * KMS, {}),
        "array": (values, {"unit": "km/s"}),
        "read-only": (read_only, {"unit": KMS}),
        "big-endian": (values.astype(">f8"), {"unit": KMS}),
        "memory-mapped": (np.load(folder / "map.npy", mmap_mode="r"), {"unit": KMS}),
        "tensor": (torch.from_numpy(values), {"unit": KMS}),
        "NDData": (NDData(values, unit=KMS), {}),
        "CCDData": (CCDData(values, unit=KMS), {}),
        "masked": (CCDData(masked, unit=KMS, mask=np.isnan(values)), {}),
        "Cutout2D": (Cutout2D(values, (10, 10), 20), {"unit": KMS}),
        "HDU": (fits.ImageHDU(values, header), {}),
        "HDUList": (fits.HDUList([fits.PrimaryHDU(values, header)]), {}),
        "path": (path, {}),
        "text path": (str(path), {"hdu": 0}),
    }


def test_every_kind_of_input_gives_the_same(maps, tmp_path, assert_same):
    reference = galml.circularity(maps[:1] * KMS)
    assert reference.colnames == COLUMNS
    for kind, (data, options) in kinds(maps[0], tmp_path).items():
        table = galml.circularity(data, **options)
        assert len(table) == 1, kind
        assert_same(rows(table, [0])[COLUMNS], reference, skip=("flags",))
        expected = "galaxy" if "path" in kind else None
        assert (table["name"][0] if "name" in table.colnames else None) == expected


def test_every_kind_of_batch_gives_the_same(maps, tmp_path, assert_same):
    reference = galml.circularity(maps[:3] * KMS)
    several = [m * KMS for m in maps[:3]]
    objects = np.empty(3, dtype=object)
    files = []
    for index, one in enumerate(maps[:3]):
        objects[index] = CCDData(one, unit=KMS)
        files.append(str(tmp_path / f"g{index}.fits"))
        objects[index].write(files[-1])
    named = QTable({"id": ["a", "b", "c"], "map": objects})
    for data in (several, tuple(several), iter(several), list(objects), objects):
        assert_same(galml.circularity(data), reference, skip=("flags",))
    table = galml.circularity(named)
    assert list(table["name"]) == ["a", "b", "c"]
    assert_same(table[COLUMNS], reference, skip=("flags",))
    table = galml.circularity(QTable({"file": files, "z": [1, 2, 3]}))
    assert list(table["name"]) == ["g0", "g1", "g2"]
    assert_same(table[COLUMNS], reference, skip=("flags",))


def test_columns_and_meta(maps):
    table = galml.circularity(CCDData(maps[0], unit=KMS, meta={"OBJECT": "NGC 1"}))
    assert table.colnames == ["name", *COLUMNS]
    assert table["name"][0] == "NGC 1"
    row = table[0]
    assert 0 <= row["circularity_lo"] < row["circularity"] < row["circularity_hi"] <= 1
    half = (row["circularity_hi"] - row["circularity_lo"]) / 2
    assert row["circularity_err"] == pytest.approx(half)
    assert 0 <= row["disturbed_probability"] <= 1 and 0 <= row["map_quality"] <= 1
    assert 0 * u.deg <= row["position_angle"] < 360 * u.deg
    assert table["latent"].shape == (1, 16)
    for name in ("position_angle_err", "inclination", "inclination_err"):
        assert table[name].unit == u.deg
    assert table.meta["OPERATN"] == "circularity"
    assert table.meta["MODELSHA"] == load_model("default", "circularity").sha256
    assert {"no_wcs", "no_uncertainty", "center_assumed"} <= set(
        decode_flags(int(row["flags"]))
    )


@pytest.mark.parametrize("kind", [VarianceUncertainty, InverseVariance])
def test_kinds_of_uncertainty(mocks, kind, assert_same):
    values, std = (p[0].double().numpy() for p in (mocks.velocity, mocks.uncertainty))
    std = np.where(np.isfinite(std) & (std > 0), std, 3.0)
    known = galml.circularity(CCDData(values, StdDevUncertainty(std), unit=KMS))
    power = {VarianceUncertainty: 2, InverseVariance: -2}[kind]
    table = galml.circularity(CCDData(values, kind(std**power), unit=KMS))
    assert_same(table, known, 1e-4)
    assert not table["flags"][0] & Flag.NO_UNCERTAINTY
    larger = galml.circularity(CCDData(values, StdDevUncertainty(10 * std), unit=KMS))
    change = larger["circularity"][0] - known["circularity"][0]
    assert 1e-3 < abs(change) < 0.5


@pytest.mark.parametrize("shift", [0.0, 1500.0])
def test_units(maps, shift, assert_same):
    velocity = (maps[0] + shift) * KMS
    reference = galml.circularity(velocity)
    assert_same(galml.circularity(velocity.to(u.m / u.s)), reference, 1e-4)
    redshift = velocity.to(u.dimensionless_unscaled, u.doppler_redshift())
    assert_same(galml.circularity(redshift), reference, 1e-4)
    rest = 115.2712e9 * u.Hz
    frequency = CCDData(velocity.to(u.Hz, u.doppler_radio(rest)), meta={})
    frequency.meta["RESTFRQ"] = rest.value
    assert_same(galml.circularity(frequency), reference, 1e-4)
    rest = 6564.6 * u.AA
    wavelength = CCDData(velocity.to(u.AA, u.doppler_optical(rest)), meta={})
    wavelength.meta["RESTWAV"] = rest.to_value(u.m)
    assert_same(galml.circularity(wavelength), reference, 1e-4)


@pytest.mark.parametrize("unit", ["Jy", "Hz", "Angstrom", "km", "K km/s"])
def test_unit_that_is_no_velocity(maps, unit):
    with pytest.raises(InputUnitError, match="data"):
        galml.circularity(maps[0] * u.Unit(unit))


def test_model_disk_is_understood():
    y, x = np.mgrid[:48, :48] - 23.5
    angle, ratio = np.radians(35), 0.6
    major = -np.sin(angle) * x + np.cos(angle) * y
    minor = (np.cos(angle) * x + np.sin(angle) * y) / ratio
    radius = np.hypot(major, minor)
    disk = np.where(radius < 22, 180 * np.tanh(radius / 4) * major / radius, np.nan)
    calm = np.full(disk.shape, 8.0) * KMS
    row = galml.circularity((disk + 900) * KMS, dispersion=calm, beam=3 * u.pix)[0]
    assert row["position_angle"].to_value(u.deg) == pytest.approx(35, abs=2)
    assert row["circularity"] > 0.85 and row["disturbed_probability"] < 0.1
    assert row["map_quality"] > 0.7
    assert abs(row["inclination"] - 53 * u.deg) < 3 * row["inclination_err"]


def test_dispersion(mocks, maps, assert_same):
    dispersion = mocks.dispersion[:8].double().numpy()
    alone = galml.circularity(maps * KMS)
    both = galml.circularity(maps * KMS, dispersion=dispersion * KMS)
    assert np.abs(alone["circularity"] - both["circularity"]).max() > 1e-3
    row = galml.circularity(maps[2] * KMS, dispersion=dispersion[2] * 1e3 * u.m / u.s)
    assert_same(row, rows(both, [2]), 1e-4)
    with pytest.raises(InputError, match="dispersion.*7 maps"):
        galml.circularity(maps * KMS, dispersion=dispersion[:7] * KMS)
    with pytest.raises(InputError, match="dispersion.*one map"):
        galml.circularity(maps[0] * KMS, dispersion=dispersion * KMS)
    with pytest.raises(InputError, match="dispersion.*shape"):
        galml.circularity(maps[0] * KMS, dispersion=dispersion[0, :, :-1] * KMS)
    with pytest.raises(InputUnitError, match="dispersion"):
        galml.circularity(maps[0] * KMS, dispersion=dispersion[0] * u.Jy)
    short = (d * KMS for d in dispersion[:6])
    with pytest.warns(GalmlWarning, match="2 of 8"):
        table = galml.circularity(maps * KMS, dispersion=short)
    assert_same(rows(table, range(6)), rows(both, range(6)))
    assert np.isnan(table["circularity"][6:]).all()


def test_results_do_not_depend_on_batch_or_order(mocks, assert_same):
    windows = [np.s_[:, :], np.s_[1:-2, :], np.s_[:, 3:]]
    data = [
        CCDData(values, StdDevUncertainty(np.full(values.shape, 4.0)), unit=KMS)
        for index, plane in enumerate(mocks.velocity.double().numpy()[:18])
        for values in (plane[windows[index % 3]],)
    ]
    reference = galml.circularity(data, n_samples=4, seed=1)
    for size in (1, 5):
        table = galml.circularity(data, batch_size=size, n_samples=4, seed=1)
        assert_same(table, reference)
    order = np.random.default_rng(1).permutation(18)
    table = galml.circularity([data[i] for i in order], n_samples=4, seed=1)
    assert_same(table, reference[order])
    assert_same(galml.circularity(data[7], n_samples=4, seed=1), reference[7:8])


TURNS = {
    "turned": (lambda m: np.rot90(m, -1), lambda angle: angle + 90),
    "upside down": (lambda m: m[::-1, ::-1], lambda angle: angle + 180),
    "turned back": (lambda m: np.rot90(m), lambda angle: angle - 90),
    "mirrored": (lambda m: m[:, ::-1], lambda angle: -angle),
    "flipped": (lambda m: m[::-1], lambda angle: 180 - angle),
    "transposed": (lambda m: m.T, lambda angle: -90 - angle),
    "anti-transposed": (lambda m: m[::-1, ::-1].T, lambda angle: 90 - angle),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("window", [np.s_[:, :], np.s_[2:-1, :]])
def test_symmetries_of_the_square(mocks, turn, window, assert_same):
    apply, change = TURNS[turn]
    planes = [
        [m[window].double().numpy() for m in plane[:8]]
        for plane in (mocks.velocity, mocks.dispersion)
    ]

    def measure(function):
        velocity, dispersion = ([function(m) * KMS for m in p] for p in planes)
        return galml.circularity(velocity, dispersion=dispersion, beam=2 * u.pix)

    reference, table = measure(lambda m: m), measure(apply)
    reference["position_angle"] = (
        change(reference["position_angle"].value) % 360 * u.deg
    )
    assert_same(table, reference)


def test_samples(maps, assert_same):
    plain = galml.circularity(maps * KMS)
    table = galml.circularity(maps * KMS, n_samples=4000, seed=5)
    assert_same(table[COLUMNS], plain)
    assert table.colnames[-3:] == [
        "circularity_samples", "position_angle_samples", "flags"
    ]  # fmt: skip
    kappa, angle = table["circularity_samples"], table["position_angle_samples"]
    assert kappa.shape == angle.shape == (8, 4000)
    low, middle, high = np.quantile(kappa, [0.1587, 0.5, 0.8413], axis=1)
    for name, found in (("", middle), ("_lo", low), ("_hi", high)):
        np.testing.assert_allclose(found, table[f"circularity{name}"], atol=0.03)
    below = (kappa < 0.5).mean(axis=1)
    np.testing.assert_allclose(below, table["disturbed_probability"], atol=0.04)
    offset = (angle - table["position_angle"][:, None] + 180 * u.deg) % (360 * u.deg)
    offset = offset.to_value(u.deg) - 180
    inside = np.abs(offset) <= table["position_angle_err"][:, None].value
    np.testing.assert_allclose(inside.mean(axis=1), 0.683, atol=0.03)
    again = galml.circularity(maps * KMS, n_samples=4000, seed=5)
    np.testing.assert_array_equal(again["circularity_samples"], kappa)
    other = galml.circularity(maps * KMS, n_samples=4000, seed=6)
    assert not np.any(other["circularity_samples"] == kappa)
