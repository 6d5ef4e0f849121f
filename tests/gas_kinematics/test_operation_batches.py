# Licensed under a 3-clause BSD style license - see LICENSE.rst
import copy
import itertools
import threading
import weakref

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import (
    CCDData,
    NDData,
    StdDevUncertainty,
)
from astropy.table import QTable

import galml
from galml.core import GalmlWarning, inputs, running
from galml.core.exceptions import InputError, InputTypeError, ModelError
from galml.core.flags import Flag
from galml.core.model import GalaxyModel
from galml.core.weights import import_weights
from galml.gas_kinematics import kinematic, velocities

KMS = u.km / u.s
COLUMNS = [*kinematic.COLUMNS, "flags"]


def rows(table, places):
    return table[list(places)]


def bad_members(folder, good):
    """Members that cannot be used, with the flags that they get."""
    (folder / "broken.fits").write_bytes(b"SIMPLE  =")
    few = np.full((20, 20), np.nan)
    few[3, 4:8] = [1, 2, 3, 4]
    failed = int(Flag.FAILED)
    return [
        (str(folder / "absent.fits"), failed | Flag.UNREADABLE),
        (folder / "broken.fits", failed | Flag.UNREADABLE),
        (np.full((20, 20), np.nan) * KMS, failed),
        (np.full((20, 20), 7.0) * KMS, failed),
        (few * KMS, failed),
        (good * u.Jy, failed),
        (good, failed),
        (good[:3] * KMS, failed),
        (good[0] * KMS, failed),
        (None, failed),
    ]


def test_failures_in_a_batch(maps, tmp_path, assert_same):
    bad = bad_members(tmp_path, maps[0])
    data = [maps[0] * KMS, *(member for member, _ in bad), maps[1] * KMS]
    with pytest.warns(GalmlWarning, match="10 of 12 rows") as caught:
        table = galml.circularity(data, n_samples=2, seed=3)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    bits = int(Flag.FAILED | Flag.UNREADABLE)
    assert list(table["flags"][1:-1] & bits) == [flags for _, flags in bad]
    for name in table.colnames:
        if name not in ("name", "flags"):
            assert np.isnan(table[name][1:-1]).all(), name
    reference = galml.circularity(maps[:2] * KMS, n_samples=2, seed=3)
    assert_same(rows(table, [0, -1])[reference.colnames], reference)
    assert table["name"][1] == "absent"


def test_failures_alone(maps, tmp_path):
    for index, (member, _) in enumerate(bad_members(tmp_path, maps[0])):
        expected = FileNotFoundError if index == 0 else InputError
        with pytest.raises(expected):
            galml.circularity(member)


def test_nothing_usable_and_nothing_at_all(maps):
    empty = galml.circularity([])
    assert len(empty) == 0
    assert empty.colnames == COLUMNS
    assert empty["latent"].shape == (0, 16)
    assert empty["position_angle"].unit == u.deg
    with pytest.warns(GalmlWarning, match="2 of 2"):
        table = galml.circularity([maps[0] * u.Jy, maps[1] * u.K])
    assert table.colnames == COLUMNS and np.isnan(table["circularity"]).all()


def test_inputs_are_not_changed(mocks):
    velocity, std, dispersion = (
        plane[0].double().numpy().copy()
        for plane in (mocks.velocity, mocks.uncertainty, mocks.dispersion)
    )
    std = np.where(np.isfinite(std), std, 1.0)
    data = CCDData(velocity, StdDevUncertainty(std), unit=KMS, meta={"OBJECT": "x"})
    before = copy.deepcopy(data)
    second = dispersion.copy() * KMS
    for array in (data.data, data.uncertainty.array, second):
        array.flags.writeable = False
    galml.circularity(data, dispersion=second, redshift=0.1, beam=2 * u.pix)
    np.testing.assert_array_equal(data.data, before.data)
    np.testing.assert_array_equal(data.uncertainty.array, before.uncertainty.array)
    np.testing.assert_array_equal(second.value, dispersion)
    assert data.meta == before.meta and data.mask is before.mask is None


def test_threads(maps, assert_same):
    reference = galml.circularity(maps * KMS, n_samples=3, seed=1)
    barrier, results = threading.Barrier(4), [None] * 4

    def work(index):
        barrier.wait()
        results[index] = galml.circularity(maps * KMS, n_samples=3, seed=1)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for table in results:
        assert_same(table, reference, 0)


def test_iterators_are_read_lazily(maps, monkeypatch):
    monkeypatch.setattr(running, "CHUNK", 50)
    alive, kept, counts, done = set(), set(), [], []

    def track(value, name, which):
        which.add(name)
        weakref.finalize(value, which.discard, name)
        return value

    def source():
        for index in range(2000):
            values = maps[index % 8, 4:12, 4:12] + index
            yield track(NDData(values, unit=KMS), index, alive)

    def convert(*arguments):
        return track(original(*arguments), next(number), kept)

    def progress(count, total):
        counts.append((len(alive), len(kept)))
        done.append((count, total))

    original, number = velocities._Reader.convert, itertools.count()
    monkeypatch.setattr(velocities._Reader, "convert", convert)
    table = galml.circularity(source(), progress=progress)
    assert len(table) == 2000 and np.isfinite(table["circularity"]).all()
    assert done == [(n, None) for n in range(50, 2001, 50)]
    assert max(n for n, _ in counts) <= 3
    workers = min(torch.get_num_threads(), running.WORKERS)
    most = 2 if workers == 1 else workers + 3
    assert 50 <= max(n for _, n in counts) <= most * 50


def test_large_maps_are_prepared_a_few_at_a_time(maps, monkeypatch, assert_same):
    sizes = []
    original = kinematic.prepare

    def prepare(parts, spec):
        sizes.append(sum(len(part) for part in parts))
        return original(parts, spec)

    monkeypatch.setattr(running, "CHUNK_PIXELS", 900)
    monkeypatch.setattr(kinematic, "prepare", prepare)
    table = galml.circularity([CCDData(one, unit=KMS) for one in maps])
    assert sizes == [3, 3, 2]
    sizes.clear()
    monkeypatch.setattr(inputs, "BLOCK_PIXELS", 900)
    blocks = galml.circularity(maps * KMS)
    assert sizes == [4, 4]
    monkeypatch.undo()
    reference = galml.circularity(maps * KMS)
    assert_same(blocks, reference)
    assert_same(table, reference, skip=("flags",))


def test_progress_bar(maps, capsys):
    galml.circularity(maps * KMS, progress=True)
    assert "8/8" in capsys.readouterr().err
    galml.circularity(maps * KMS)
    assert capsys.readouterr().err == ""


def test_bfloat16(maps):
    exact = galml.circularity(maps * KMS)
    table = galml.circularity(maps * KMS, dtype="bfloat16")
    assert table.meta["DTYPE"] == "bfloat16"
    difference = np.abs(table["circularity"] - exact["circularity"])
    assert 0 < difference.max() < 0.05


@pytest.mark.parametrize(
    ("option", "value"),
    [("dtype", "float16"), ("batch_size", 0), ("n_samples", -1), ("device", "tpu")],
)
def test_bad_options(maps, option, value):
    with pytest.raises(InputError, match=option):
        galml.circularity(maps * KMS, **{option: value})


@pytest.mark.parametrize("pixels", [8, 2000])
def test_sizes(maps, pixels):
    if pixels == 8:
        small = maps[0, 6:14, 6:14]
        row = galml.circularity(small * KMS)[0]
        assert np.isfinite(row["circularity"])
        return
    large = np.kron(maps[0], np.ones((100, 100)))
    row = galml.circularity(large * KMS)[0]
    small = galml.circularity(maps[0] * KMS)[0]
    turn = (row["position_angle"] - small["position_angle"] + 180 * u.deg) % (
        360 * u.deg
    ) - 180 * u.deg
    assert abs(turn) < 3 * u.deg


@pytest.mark.parametrize("shape", [(3, 30), (30, 3), (2, 2)])
def test_too_small(shape):
    with pytest.raises(InputError, match="pixels a side"):
        galml.circularity(np.arange(np.prod(shape)).reshape(shape) * KMS)


def test_other_model(maps, tiny_merlin):
    table = galml.circularity(maps * KMS, model=tiny_merlin)
    assert np.isnan(table["circularity"]).all()
    assert table["latent"].shape == (8, 3)
    assert set(table["rotating"]) <= {0, 1}
    assert table.meta["MODEL"] == "tiny"
    with pytest.raises(ModelError, match="nonesuch"):
        galml.circularity(maps * KMS, model="nonesuch")
    with pytest.raises(InputTypeError, match="model"):
        galml.circularity(maps * KMS, model=3)


def test_model_from_file(maps, tiny_merlin, tmp_path, assert_same):
    tiny_merlin.save(tmp_path / "tiny.safetensors")
    table = galml.circularity(maps * KMS, model=tmp_path / "tiny.safetensors")
    assert_same(table, galml.circularity(maps * KMS, model=tiny_merlin))
    again = GalaxyModel.load(tmp_path / "tiny.safetensors")
    assert table.meta["MODELSHA"] == again.sha256


def test_published_model(shared):
    folder = shared / "merlin_alma"
    expected = QTable.read(folder / "latents.csv")
    model = import_weights(folder / "CAE_Epoch_300.pt", "merlin")
    files = [folder / f"{name}.fits.gz" for name in expected["name"]]
    table = galml.circularity(files, model=model, hdu=1, unit="km/s")
    latents = np.stack([expected[name] for name in ("L1", "L2", "L3")], axis=1)
    np.testing.assert_allclose(table["latent"], latents, atol=1e-4)
    default = galml.circularity(files, hdu=1, unit="km/s")
    assert np.isfinite(default["circularity"]).all()
    rotating = table["rotating"] == 1
    assert 0 < rotating.sum() < len(table)
