# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Deep fields, and what headers call them."""

import re

__all__ = ["FIELDS", "field_name"]

#: How names of targets in each field are written, as words of their own.
FIELDS = {
    "COSMOS": "COSMOS",
    "EGS": "EGS|AEGIS|CEERS",
    "GOODS-N": "(?:GOODS|HDF)[^A-Z0-9]*N(?:ORTH)?",
    "GOODS-S": "(?:GOODS|E?[^A-Z0-9]*CDF)[^A-Z0-9]*S(?:OUTH)?|H?UDF|XDF",
    "UDS": "(?:XMM)?UDS",
}


def field_name(text):
    """Find the deep field that a header means.

    Parameters
    ----------
    text : object
        Such as ``"COSMOS-V12"``, ``"jades-goods-s"`` or ``"ceers_p1"``.

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
    text = str(text).upper()
    return next(
        (
            name
            for name, written in FIELDS.items()
            if re.search(f"(?<![A-Z])(?:{written})(?![A-Z])", text)
        ),
        None,
    )
