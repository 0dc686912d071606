"""Conditions on rows, as an operator types them: `mos<3.5 and age>60`, `not (state=answered or call_id~'test')`.

    expression  ::= term {"or" term}
    term        ::= factor {"and" factor}
    factor      ::= "not" factor | "(" expression ")" | field [operator value]
    operator    ::= "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" (contains) | "!~"
    value       ::= number ["%" | "ms" | "s" | "m" | "h" | "d"] | word | 'text' | "text" | "none"

Times with a unit are compared in the field's own, milliseconds where its name ends in _ms. A field alone asks whether
it has a value other than 0 and no. A field without a value meets no comparison but `=none`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 500
DEEPEST = 20

Row = Mapping[str, Any]
Test = Callable[[Row], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<operator><=|>=|!=|==|!~|[=<>~()])|(?P<quoted>'[^']*'|"[^"]*")|(?P<word>[^\s=<>~!()'"]+)|(?P<wrong>\S))"""
)
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(%|ms|s|m|h|d)?")
_UNITS = {None: 1.0, "%": 0.01, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARISONS = frozenset({"=", "==", "!=", "~", "!~", *_ORDER})


class FilterError(Exception):
    """An expression cannot be read; `at` is the place in it, counted from 0."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(f"{message}, at character {at + 1}")
        self.at = at


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str, fields: Collection[str]) -> Test:
    """Make a test of an expression over `fields`. FilterError with the place when it is none."""
    if len(text) > LONGEST:
        raise FilterError(f"longer than {LONGEST} characters", LONGEST)
    reader = _Reader(text, fields)
    test = reader.expression(0)
    reader.expect_end()
    return test


class _Reader:
    """Reads one expression by recursive descent."""

    def __init__(self, text: str, fields: Collection[str]) -> None:
        self._tokens = list(_tokens(text))
        self._place = 0
        self._end = len(text)
        self._fields = fields

    def expression(self, depth: int) -> Test:
        tests = [self._term(depth)]
        while self._word("or"):
            tests.append(self._term(depth))
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def expect_end(self) -> None:
        token = self._look()
        if token is not None:
            raise FilterError(f"expected 'and', 'or' or the end, found {token.text!r}", token.at)

    def _term(self, depth: int) -> Test:
        tests = [self._factor(depth)]
        while self._word("and"):
            tests.append(self._factor(depth))
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _factor(self, depth: int) -> Test:
        token = self._next("a field")
        if depth >= DEEPEST:
            raise FilterError(f"nested deeper than {DEEPEST}", token.at)
        if token.text == "(" and token.kind == "operator":
            inner = self.expression(depth + 1)
            closing = self._next("')'")
            if closing.text != ")":
                raise FilterError(f"expected ')', found {closing.text!r}", closing.at)
            return inner
        if token.kind == "word" and token.text == "not":
            negated = self._factor(depth + 1)
            return lambda row: not negated(row)
        return self._comparison(token)

    def _comparison(self, field: _Token) -> Test:
        name = field.text
        if field.kind != "word" or name in ("and", "or"):
            raise FilterError(f"expected a field, found {name!r}", field.at)
        if name not in self._fields:
            raise FilterError(f"no field {name!r}: known are {', '.join(self._fields)}", field.at)
        sign = self._look()
        if sign is None or sign.text not in _COMPARISONS or sign.kind != "operator":
            return lambda row: bool(row.get(name))
        self._place += 1
        value = self._next("a value")
        if value.kind == "operator":
            raise FilterError(f"expected a value, found {value.text!r}", value.at)
        return _compare(name, sign.text, value)

    def _look(self) -> _Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _next(self, wanted: str) -> _Token:
        token = self._look()
        if token is None:
            raise FilterError(f"expected {wanted}", self._end)
        self._place += 1
        return token

    def _word(self, word: str) -> bool:
        token = self._look()
        if token is None or token.kind != "word" or token.text != word:
            return False
        self._place += 1
        return True


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "wrong"
        if kind == "wrong":
            raise FilterError(f"unexpected {match[kind]!r}", match.start(kind))
        found.append(_Token(kind, match[kind], match.start(kind)))
    return found


def _compare(name: str, sign: str, value: _Token) -> Test:
    text = value.text[1:-1] if value.kind == "quoted" else value.text
    if value.kind == "word" and text == "none":
        if sign not in ("=", "==", "!="):
            raise FilterError(f"'none' takes = and !=, not {sign}", value.at)
        return lambda row: (row.get(name) is None) is (sign != "!=")
    number = _NUMBER.fullmatch(text)
    amount = None if number is None else float(number[1]) * _UNITS[number[2]]
    if amount is not None and number is not None and number[2] not in (None, "%") and name.endswith("_ms"):
        amount *= 1000
    if sign in _ORDER:
        if amount is None:
            raise FilterError(f"{sign} wants a number, found {text!r}", value.at)
        in_order = _ORDER[sign]
        return lambda row: _is_number(row.get(name)) and in_order(row[name], amount)
    if sign in ("~", "!~"):
        return lambda row: any(text in one for one in _texts(row.get(name))) is (sign == "~")
    equal = sign != "!="
    return lambda row: row.get(name) is not None and _equals(row[name], text, amount) is equal


def _equals(found: Any, text: str, amount: float | None) -> bool:
    if isinstance(found, bool):
        return text.lower() in (("yes", "true", "1") if found else ("no", "false", "0"))
    if _is_number(found):
        return amount is not None and bool(found == amount)
    return text in _texts(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
