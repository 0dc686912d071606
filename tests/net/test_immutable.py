"""Values that only the type checker guards."""

from __future__ import annotations

from dataclasses import fields, replace

from nattrav.net.immutable import immutable


@immutable
class Point:
    x: int
    y: int = 0


def test_values_compare_hash_and_are_copied_by_their_fields() -> None:
    assert Point(1) == Point(1, 0)
    assert len({Point(1), Point(1, 0), Point(2)}) == 2
    assert replace(Point(1), y=5) == Point(1, 5)
    assert [field.name for field in fields(Point)] == ["x", "y"]


def test_values_have_no_room_for_other_attributes() -> None:
    assert not hasattr(Point(1), "__dict__")


def test_values_can_be_taken_apart_by_position() -> None:
    match Point(3, 4):
        case Point(x, y):
            assert (x, y) == (3, 4)
