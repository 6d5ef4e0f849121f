# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest

from galml.mocks import DEEP_FIELDS
from galml.physics import field_name
from galml.physics.fields import FIELDS


def test_fields_are_those_of_the_mocks():
    assert tuple(FIELDS) == DEEP_FIELDS
    assert [field_name(name) for name in DEEP_FIELDS] == list(DEEP_FIELDS)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("cosmos-v12", "COSMOS"),
        ("AEGIS", "EGS"),
        ("CEERS-P1", "EGS"),
        ("GOODSN", "GOODS-N"),
        ("GOODS-NORTH", "GOODS-N"),
        ("goods_s", "GOODS-S"),
        (" GOODS SOUTH-WIDE", "GOODS-S"),
        ("ECDFS", "GOODS-S"),
        ("XMM-UDS", "UDS"),
        ("xmmuds-4", "UDS"),
        ("UDS12", "UDS"),
        ("jades-goods-s", "GOODS-S"),
        ("JADES_GOODS-N-deep", "GOODS-N"),
        ("primer-cosmos", "COSMOS"),
        ("CDFS", "GOODS-S"),
        ("E-CDF-S", "GOODS-S"),
        ("CDF-SOUTH", "GOODS-S"),
        ("HUDF-P", "GOODS-S"),
        ("UDF12", "GOODS-S"),
        ("HDFN", "GOODS-N"),
        ("HDF-NORTH-2", "GOODS-N"),
        ("HDF-SOUTH", None),
        ("CDF-N", None),
        ("UDSJ1234", None),
        ("EGSY8P7", None),
        ("COSMOSFIRE", None),
        ("GOODS-SMITH", None),
        ("ANY", None),
        ("GOODS", None),
        ("NGC 4258", None),
        (123, None),
        (None, None),
        ("", None),
    ],
)
def test_names_of_targets(text, field):
    assert field_name(text) == field
