"""Records: frozen values that are made by position or by name and compare by value."""

from __future__ import annotations

import pytest

from funker.rpc.records import Record


class Point(Record):
    x: int
    y: int


class Place(Record):
    x: int
    y: int


class Nothing(Record):
    """A record without fields."""


def test_fields_are_given_by_position_or_by_name() -> None:
    assert Point(1, 2) == Point(1, y=2) == Point(x=1, y=2)
    assert (Point(1, 2).x, Point(1, 2).y) == (1, 2)


def test_records_are_equal_by_class_and_value() -> None:
    assert Point(1, 2) != Point(1, 3)
    assert Point(1, 2) != Place(1, 2)
    assert Nothing() == Nothing()


@pytest.mark.parametrize(
    ("values", "named"), [((1,), {}), ((1, 2, 3), {}), ((1, 2), {"x": 1}), ((), {"x": 1, "z": 2})]
)
def test_missing_surplus_and_repeated_fields_are_refused(
    values: tuple[int, ...], named: dict[str, int]
) -> None:
    with pytest.raises(TypeError, match="Point takes"):
        Point(*values, **named)


def test_a_record_can_t_be_changed() -> None:
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 3  # type: ignore[misc]


def test_a_record_can_be_matched_by_position() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_a_record_shows_its_fields() -> None:
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"
