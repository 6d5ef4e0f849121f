# Licensed under a 3-clause BSD style license - see LICENSE.rst
import tracemalloc
from collections import namedtuple

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, UnknownUncertainty
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.wcs import WCS

from galml.core import InputError, InputTypeError, InputUnitError, inputs
from galml.core.exceptions import FileError, MissingFileError
from galml.core.inputs import Failure, Observation, stream

KMS = u.km / u.s
STACK = np.arange(24.0).reshape(4, 2, 3)


@pytest.fixture
def paths(tmp_path):
    found = []
    for number, image in enumerate(STACK):
        found.append(tmp_path / f"NGC{number}.fits")
        hdu = fits.PrimaryHDU(image)
        hdu.header["BUNIT"] = "km/s"
        hdu.writeto(found[-1])
    return found


def check(members, names=None):
    members = list(members)
    assert all(isinstance(member, Observation) for member in members)
    np.testing.assert_array_equal([member.values for member in members], STACK)
    assert all(member.unit == KMS for member in members)
    assert [member.name for member in members] == (names or [None] * len(STACK))


def objects():
    return [CCDData(image, unit=KMS) for image in STACK]


SINGLE = {
    "array": STACK[0],
    "quantity": STACK[0] * KMS,
    "degenerate": STACK[:1, None],
    "ccddata": CCDData(STACK[0], unit=KMS),
    "hdu": fits.ImageHDU(STACK[0]),
    "hdu list": fits.HDUList([fits.PrimaryHDU(STACK[0])]),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_single_objects(kind):
    single, length, members = stream(SINGLE[kind], unit="km/s")
    assert (single, length) == (True, 1)
    (member,) = members
    np.testing.assert_array_equal(member.values, STACK[0])


def test_single_path(paths):
    for path in (paths[1], str(paths[1])):
        single, length, members = stream(path)
        assert (single, length) == (True, 1)
        assert next(members).name == "NGC1"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (STACK[0], InputUnitError),
        (np.ones(3) * KMS, InputError),
        (CCDData(STACK, unit=KMS), InputError),
        ("nothing.fits", FileNotFoundError),
        (3.0, InputTypeError),
        (SkyCoord(1 * u.deg, 2 * u.deg), InputTypeError),
        ({"NGC 1": STACK[0] * KMS}, InputTypeError),
        (None, InputTypeError),
        (b"nothing.fits", InputTypeError),
        ("a\0b", InputError),
        (pd.DataFrame({"image": [1.0]}), InputTypeError),
        (namedtuple("Maps", "flux velocity")(STACK[0], STACK[0]), InputTypeError),
    ],
)
def test_errors_of_single_objects_are_raised(data, error):
    with pytest.raises(error):
        stream(data)


def test_a_row_is_a_table_of_one():
    table = QTable({"name": ["a", "b"], "map": STACK[:2] * KMS})
    (one,) = stream(table[1]).members
    assert one.name == "b"
    np.testing.assert_array_equal(one.values, STACK[1])


BATCHES = {
    "list": objects,
    "tuple": lambda: tuple(objects()),
    "stack": lambda: STACK,
    "quantity": lambda: STACK * KMS,
    "object array": lambda: object_array(objects()),
    "column": lambda: Table({"map": STACK})["map"],
    "column with unit": lambda: Table({"map": STACK * KMS})["map"],
    "generator": lambda: (image for image in objects()),
    "map": lambda: map(KMS.__rmul__, STACK),
}


def object_array(items):
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item
    return array


@pytest.mark.parametrize("kind", BATCHES)
def test_batches(kind):
    single, length, members = stream(BATCHES[kind](), unit=KMS)
    assert not single
    assert length == (None if kind in ("generator", "map") else 4)
    check(members)


def test_torch_stack():
    torch = pytest.importorskip("torch")
    single, length, members = stream(torch.tensor(STACK), unit=KMS)
    assert (single, length) == (False, 4)
    check(members)


def test_stack_of_cubes():
    cubes = np.ones((3, 5, 2, 2))
    single, length, _ = stream(cubes, unit=KMS, ndim=(3,))
    assert (single, length) == (False, 3)
    single, _, members = stream(cubes[0], unit=KMS, ndim=(3,))
    assert single
    assert next(members).values.shape == (5, 2, 2)
    single, _, members = stream(CCDData(cubes[0], unit=KMS), ndim=(2, 3))
    assert single
    assert next(members).values.shape == (5, 2, 2)


def test_the_unit_of_a_column_counts():
    table = Table({"map": STACK})
    table["map"].unit = "m/s"
    for data in (table, table["map"]):
        _, _, members = stream(data, unit="km/s")
        assert next(members).unit == u.m / u.s


@pytest.mark.parametrize(
    "data", [[], (), np.empty((0, 5, 5)), Table({"map": STACK})[:0]]
)
def test_nothing(data):
    single, length, members = stream(data, unit=KMS)
    assert (single, length, list(members)) == (False, 0, [])


def test_iterators_are_read_when_their_turn_comes():
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield STACK[0] * KMS

    single, length, members = stream(endless())
    assert (single, length, taken) == (False, None, [])
    next(members)
    next(members)
    assert taken == [0, 1]


def test_memory_does_not_grow_with_the_batch():
    def maps(number):
        for _ in range(number):
            yield np.zeros((100, 100)) * KMS

    peaks = []
    for number in (10, 200):
        tracemalloc.start()
        assert (
            sum(isinstance(m, Observation) for m in stream(maps(number))[2]) == number
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_bad_member_is_a_failure(tmp_path):
    good = STACK[0] * KMS
    damaged = tmp_path / "M31.fits"
    damaged.write_bytes(b"hello")
    unknown = UnknownUncertainty(np.ones((2, 3)))
    bad = [
        tmp_path / "M33.fits.gz",
        damaged,
        STACK[0],
        None,
        [1.0],
        CCDData(STACK, unit=KMS, meta={"OBJECT": "cube"}),
        CCDData(STACK[0], unit=KMS, uncertainty=unknown),
        np.array([["a", "b"]]),
    ]
    single, length, members = stream([good, *bad, good], argument="maps")
    first, *failures, last = members
    assert (single, length) == (False, len(bad) + 2)
    assert isinstance(first, Observation)
    assert isinstance(last, Observation)
    assert all(isinstance(failure, Failure) for failure in failures)
    assert [type(failure.error) for failure in failures] == [
        MissingFileError,
        FileError,
        InputUnitError,
        InputTypeError,
        InputTypeError,
        InputError,
        InputTypeError,
        InputTypeError,
    ]
    names = [failure.name for failure in failures]
    assert names[:3] == ["M33", "M31", None]
    assert names[5] == "cube"
    assert "maps: got" in str(failures[1].error)


def test_a_broken_iterator_is_not_hidden():
    def broken():
        yield STACK[0] * KMS
        raise RuntimeError("mine")

    _, _, members = stream(broken())
    next(members)
    with pytest.raises(RuntimeError, match="mine"):
        next(members)


def test_a_bad_unit_is_no_matter_of_members():
    with pytest.raises(InputUnitError, match="unit: got"):
        stream([STACK[0]], unit="parsnip")


@pytest.mark.parametrize("kind", [QTable, Table])
@pytest.mark.parametrize("key", ["name", "ID"])
def test_table_of_images(kind, key):
    table = kind({key: list("abcd"), "z": [1.0] * 4, "map": STACK * KMS})
    table["position"] = SkyCoord([0] * 4, [0] * 4, unit="deg")
    _, length, members = stream(table)
    assert length == 4
    check(members, list("abcd"))


def test_table_of_objects():
    check(stream(Table({"map": object_array(objects())}))[2])


@pytest.mark.parametrize("key", ["file", "FileName", "path"])
def test_table_of_files(paths, key, tmp_path):
    table = Table({key: [str(path) for path in paths], "comment": ["x"] * 4})
    check(stream(table)[2], ["NGC0", "NGC1", "NGC2", "NGC3"])
    # The same after a table went through FITS.
    table.write(tmp_path / "table.fits")
    again = Table.read(tmp_path / "table.fits")
    check(stream(again)[2], ["NGC0", "NGC1", "NGC2", "NGC3"])


def test_names_of_failures_and_masked_names(tmp_path):
    names = MaskedColumn([7, 8], mask=[False, True])
    table = Table({"id": names, "file": ["a.fits", "b.fits"]})
    assert [member.name for member in stream(table)[2]] == ["7", "b"]


@pytest.mark.parametrize(
    ("columns", "found"),
    [({"z": [1, 2]}, "0"), ({"a": np.ones((2, 3, 3)), "b": np.ones((2, 3, 3))}, "2")],
)
def test_table_must_have_one_column_of_images(columns, found):
    with pytest.raises(InputError, match=f"{found} columns of images"):
        stream(Table(columns))


def test_image_file_collection(paths):
    ccdproc = pytest.importorskip("ccdproc")
    collection = ccdproc.ImageFileCollection(paths[0].parent)
    paths[2].write_bytes(b"damaged")
    single, length, members = stream(collection)
    members = list(members)
    assert (single, length) == (False, 4)
    assert [member.name for member in members] == ["NGC0", "NGC1", "NGC2", "NGC3"]
    assert isinstance(members[2], Failure)
    np.testing.assert_array_equal(members[3].values, STACK[3])


def test_image_file_collection_of_an_extension(tmp_path):
    ccdproc = pytest.importorskip("ccdproc")
    hdus = [fits.PrimaryHDU(STACK[1]), fits.ImageHDU(STACK[0])]
    fits.HDUList(hdus).writeto(tmp_path / "map.fits")
    collection = ccdproc.ImageFileCollection(tmp_path, ext=1)
    for hdu, expected in ((None, STACK[0]), (0, STACK[1])):
        (member,) = stream(collection, unit=KMS, hdu=hdu)[2]
        np.testing.assert_array_equal(member.values, expected)


class Block(list):
    """Arrays that were read together."""


def blocks(data, **options):
    """What is read of a batch: shapes of arrays that came together, or names."""

    def arrays(items, names, unit):
        assert len({(i.shape, i.dtype, getattr(i, "unit", None)) for i in items}) == 1
        assert len(names) == len(items)
        return Block(items)

    source = stream(data, arrays=arrays, **options)
    return [
        (len(one), one[0].shape) if isinstance(one, Block) else type(one).__name__
        for one in source.members
    ]


def test_plain_arrays_that_are_alike_are_read_together(monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK", 3)
    stack = np.arange(7 * 12.0).reshape(7, 3, 4)
    expected = [(3, (3, 4)), (3, (3, 4)), (1, (3, 4))]
    for data in (stack, stack * KMS, list(stack), iter(stack), tuple(stack * KMS)):
        assert blocks(data) == expected
    mixed = [*stack[:2], stack[2, :2], stack[3] * KMS, stack[4].astype("f4"), stack[5]]
    assert blocks(mixed) == [
        (2, (3, 4)), (1, (2, 4)), (1, (3, 4)), (1, (3, 4)), (1, (3, 4))
    ]  # fmt: skip
    objects = [stack[0], CCDData(stack[1], unit=KMS), stack[2], None, stack[3]]
    alone = (1, (3, 4))
    assert blocks(objects) == [alone, "Observation", alone, "Failure", alone]
    masked = np.ma.masked_greater(stack[0], 5)
    assert blocks([stack[0], masked, stack[0].astype(complex)], unit=KMS) == [
        alone, "Observation", "Failure"
    ]  # fmt: skip
    monkeypatch.setattr(inputs, "BLOCK_PIXELS", 24)
    assert blocks(stack) == [(2, (3, 4))] * 3 + [(1, (3, 4))]
    assert blocks([]) == []


def test_one_array_is_no_block():
    source = stream(np.ones((3, 4)) * KMS, arrays=lambda *_: 1 / 0)
    assert source.is_single and next(iter(source.members)).values.shape == (3, 4)


def test_blocks_know_the_unit_and_the_names():
    seen = []
    table = Table({"name": ["a", "b"], "map": Column(np.ones((2, 3, 4)), unit=KMS)})
    source = stream(table, arrays=lambda *found: seen.append(found[1:]))
    list(source.members)
    assert seen == [(["a", "b"], KMS)]


def test_channels_are_chosen_for_each_row():
    rows = []

    def choose(row, axis):
        rows.append(row)
        return slice(row, row + 2)

    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN", "FREQ"
    cubes = [CCDData(np.full((5, 3, 4), i), unit="Jy", wcs=wcs) for i in range(3)]
    cubes.insert(1, np.ones((3, 4)))
    options = {"ndim": (2, 3), "channels": choose, "unit": "Jy"}
    members = list(stream(cubes, arrays=lambda *_: "block", **options).members)
    assert rows == [0, 2, 3] and members[1] == "block"
    assert [len(members[i].values) for i in (0, 2, 3)] == [2, 2, 2]
    np.testing.assert_array_equal(members[3].spectral_axis.value, [4, 5])
    alone = next(iter(stream(cubes[0], **options).members))
    assert alone.values.shape == (2, 3, 4)
