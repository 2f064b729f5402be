"""Calico's label selectors: ``has(rack) && zone in {'a','b'}``.

The language is complete: ``all()``, ``global()``, ``has(k)``, ``k == 'v'``, ``k != 'v'``, ``k in {…}``,
``k not in {…}``, ``k contains 'v'``, ``k starts with 'v'``, ``k ends with 'v'``, ``!``, ``&&``, ``||`` and
parentheses; ``!`` binds tightest, then ``&&``, then ``||``. As in Calico, the negative comparisons hold for
an object that lacks the label, and an empty selector selects everything.

A selector is parsed once into nested closures: evaluating it over a thousand nodes is what a plan does.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

_Test = Callable[[Mapping[str, str]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<function>all|global)\s*\(\s*\)
    | (?P<has>has)\s*\(\s*(?P<has_label>[A-Za-z0-9_./-]+)\s*\)
    | (?P<string>'[^']*'|"[^"]*")
    | (?P<operator>==|!=|&&|\|\||[!(){},])
    | (?P<label>[A-Za-z0-9_./-]+)
    )""",
    re.VERBOSE,
)
# A label may be called ``in`` or ``in-service``: as in Calico a word is an operator behind a label, and only
# there; the blank within it, and the one behind it, may be missing.
_PHRASE = re.compile(r"\s*(?P<phrase>not\s*in|in|contains|starts\s*with|ends\s*with)")

_MAX_DEPTH = 100


class SelectorError(ValueError):
    """A selector that does not parse; ``position`` counts characters from 0."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        super().__init__(f"selector {text!r}: expected {expected} at position {position + 1}")
        self.text = text
        self.position = position
        self.expected = expected


class _Token(NamedTuple):
    kind: str
    value: str
    position: int


class Selector:
    """A parsed selector: ``Selector.parse("rack == 'r1'").matches(labels)``. Equal texts are equal
    selectors. ``looks_at`` are the labels it names; on others nothing depends.
    """

    __slots__ = ("_test", "looks_at", "text")

    def __init__(self, text: str, test: _Test, looks_at: frozenset[str]) -> None:
        self.text = text
        self._test = test
        self.looks_at = looks_at

    @classmethod
    def parse(cls, text: str) -> "Selector":
        """Parse a selector. Raises ``SelectorError`` with the position of the first thing that does not
        fit.
        """
        parser = _Parser(text)
        return cls(text, parser.parse(), frozenset(parser.labels))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether an object with these labels is selected."""
        return self._test(labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._index = 0
        self._depth = 0
        self.labels: set[str] = set()

    def parse(self) -> _Test:
        if self._next.kind == "end":
            return _everything
        test = self._any_of()
        if self._next.kind != "end":
            raise self._error("'&&', '||' or the end")
        return test

    @property
    def _next(self) -> _Token:
        return self._tokens[self._index]

    def _take(self) -> _Token:
        token = self._tokens[self._index]
        self._index += 1
        return token

    def _accept(self, value: str) -> bool:
        if self._next.kind == "operator" and self._next.value == value:
            self._index += 1
            return True
        return False

    def _error(self, expected: str) -> SelectorError:
        return SelectorError(self._text, self._next.position, expected)

    def _any_of(self) -> _Test:
        tests = [self._all_of()]
        while self._accept("||"):
            tests.append(self._all_of())
        return tests[0] if len(tests) == 1 else lambda labels: any(test(labels) for test in tests)

    def _all_of(self) -> _Test:
        tests = [self._term()]
        while self._accept("&&"):
            tests.append(self._term())
        return tests[0] if len(tests) == 1 else lambda labels: all(test(labels) for test in tests)

    def _term(self) -> _Test:
        if self._depth >= _MAX_DEPTH:
            raise self._error(f"at most {_MAX_DEPTH} levels of '(' and '!'")
        if self._accept("!"):
            self._depth += 1
            negated = self._term()
            self._depth -= 1
            return lambda labels: not negated(labels)
        if self._accept("("):
            self._depth += 1
            test = self._any_of()
            self._depth -= 1
            if not self._accept(")"):
                raise self._error("')'")
            return test
        token = self._next
        if token.kind == "function":
            self._take()
            return _everything
        if token.kind == "has":
            label = self._take().value
            self.labels.add(label)
            return lambda labels: label in labels
        if token.kind == "label":
            return self._comparison(self._take().value)
        raise self._error("all(), has(label), a label, '!' or '('")

    def _comparison(self, label: str) -> _Test:
        self.labels.add(label)
        token = self._next
        if token.kind == "operator" and token.value in ("==", "!="):
            self._take()
            value = self._string()
            if token.value == "==":
                return lambda labels: labels.get(label) == value
            return lambda labels: labels.get(label) != value
        if token.kind != "phrase":
            if label == "has" and token.value == "(":
                raise self._error("a label in parentheses, such as has(a)")
            raise self._error("'==', '!=', 'in', 'not in', 'contains', 'starts with' or 'ends with'")
        phrase = "".join(self._take().value.split())
        if phrase == "in":
            values = self._set()
            return lambda labels: labels.get(label) in values
        if phrase == "notin":
            values = self._set()
            return lambda labels: labels.get(label) not in values
        part = self._string()
        if phrase == "contains":
            return lambda labels: part in labels[label] if label in labels else False
        if phrase == "startswith":
            return lambda labels: labels[label].startswith(part) if label in labels else False
        return lambda labels: labels[label].endswith(part) if label in labels else False

    def _string(self) -> str:
        if self._next.kind != "string":
            raise self._error("a value in quotes, such as 'a'")
        return self._take().value[1:-1]

    def _set(self) -> frozenset[str]:
        if not self._accept("{"):
            raise self._error("'{'")
        values: set[str] = set()
        while not self._accept("}"):  # also behind a comma, as in Calico
            values.add(self._string())
            if not self._accept(",") and self._next.value != "}":
                raise self._error("',' or '}'")
        return frozenset(values)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        found = _PHRASE.match(text, position) if tokens and tokens[-1].kind == "label" else None
        found = found or _TOKEN.match(text, position)
        if found is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise SelectorError(
                text, start, _EXPECTED.get(text[start], "a label, a quoted value or an operator")
            )
        kind = str(found.lastgroup)
        if kind == "has_label":
            kind = "has"
        value = found["has_label"] if kind == "has" else found[kind]
        start = found.start("has") if kind == "has" else found.start(kind)
        tokens.append(_Token(kind, value, start))
        position = found.end()
    tokens.append(_Token("end", "", len(text)))
    return tokens


_EXPECTED: Mapping[str, str] = MappingProxyType(
    {"=": "'==' (two of them)", "&": "'&&' (two of them)", "|": "'||' (two of them)", "'": "a closing quote"}
)


def _everything(_labels: Mapping[str, str]) -> bool:
    return True
