# Licensed under a 3-clause BSD style license - see LICENSE.rst
import re
from pathlib import Path

import pytest

import galml
from galml.citations import METHODS, PAPERS, citation
from galml.core import InputError
from galml.registry import OPERATIONS


def test_every_operation_has_its_papers():
    assert set(METHODS) == {row.name for row in OPERATIONS}
    assert {key for keys in METHODS.values() for key in keys} == set(PAPERS)


@pytest.mark.parametrize("operation", [None, *METHODS])
def test_citations_are_bibtex(operation):
    text = citation(operation)
    entries = re.findall(r"^@(\w+)\{(\w+),$", text, flags=re.M)
    assert entries[0] == ("software", "galml")
    assert [key for _, key in entries[1:]] == list(METHODS.get(operation, ()))
    assert text.count("{") == text.count("}")
    assert f"version = {{{galml.__version__}}}" in text


def test_unknown_operations():
    with pytest.raises(InputError, match="operation: got 'colour'"):
        citation("colour")


def test_the_file_for_reference_managers_names_the_same_papers():
    path = Path(__file__).parent.parent / "CITATION.cff"
    if not path.exists():
        pytest.skip("not in a clone of the repository")
    written = set(re.findall(r"doi: (\S+)", path.read_text()))
    known = set(re.findall(r"doi = \{(.*?)\}", "".join(PAPERS.values())))
    assert written == known
