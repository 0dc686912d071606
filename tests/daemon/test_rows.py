from __future__ import annotations

from typing import Any

import pytest

from nattrav.control.socket.messages import VerbError
from nattrav.daemon.rows import MOST, limit_of, wanted_rows, whole_id

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


@pytest.mark.parametrize(("given", "limit"), [({}, 7), ({"limit": 3}, 3), ({"limit": 10**20}, MOST)])
def test_a_limit_is_a_bounded_number(given: dict[str, Any], limit: int) -> None:
    assert limit_of(given, 7) == limit


@pytest.mark.parametrize("given", [-1, 1.5, "3", True, None, [1]])
def test_a_limit_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(VerbError, match="limit is not a whole number"):
        limit_of({"limit": given}, 7)
