# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Deep fields, and what headers call them."""

__all__ = ["FIELDS", "field_name"]

#: How names of targets in each field begin, in capitals and without what stands between
#: letters.
FIELDS = {
    "COSMOS": ("COSMOS",),
    "EGS": ("EGS", "AEGIS", "CEERS"),
    "GOODS-N": ("GOODSN",),
    "GOODS-S": ("GOODSS", "ECDFS"),
    "UDS": ("UDS", "XMMUDS"),
}


def field_name(text):
    """Find the deep field that a header means.

    Parameters
    ----------
    text : object
        Such as ``"COSMOS-V12"``, ``"GOODS-SOUTH"`` or ``"ceers_p1"``.

    Returns
    -------
    str or None
        "COSMOS", "EGS", "GOODS-N", "GOODS-S" or "UDS"; None for anything else.

    Examples
    --------
    >>> from galml.physics import field_name
    >>> field_name("GOODS-SOUTH-WIDE")
    'GOODS-S'
    """
    letters = "".join(one for one in str(text).upper() if one.isalnum())
    found = [name for name, starts in FIELDS.items() if letters.startswith(starts)]
    return found[0] if found else None
