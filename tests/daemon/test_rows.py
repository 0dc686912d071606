from __future__ import annotations

import pytest

from nattrav.control.socket.messages import VerbError
from nattrav.daemon.rows import wanted_rows, whole_id

IDS = ["3c26700857a8-k1n2", "3c26700857a8-k1n2-b", "77aa", "3c99"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("77", "77aa"), ("3c26700857a8-k1n2", "3c26700857a8-k1n2"), ("3c9", "3c99"), ("zz", "zz"), ("7a", "7a")],
)
def test_a_call_id_may_be_begun_where_one_is_meant(typed: str, meant: str) -> None:
    assert whole_id(typed, IDS) == meant


def test_several_that_begin_so_are_named() -> None:
    with pytest.raises(VerbError, match="3c26700857a8-k1n2, 3c26700857a8-k1n2-b, 3c99"):
        whole_id("3c", IDS)


def test_a_condition_that_cannot_be_read_names_its_place() -> None:
    with pytest.raises(VerbError, match=r"at character 5: age> <-- HERE$"):
        wanted_rows({"filter": "age>"}, ["age"])
    with pytest.raises(VerbError, match="no text"):
        wanted_rows({"filter": 7}, ["age"])
    assert wanted_rows({}, ["age"])({}) is True
