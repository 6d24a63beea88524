r"""Which apps a query's label selector means (``marathon-v2`` 1.1). Pure.

The grammar is Marathon's (its ``LabelSelector.scala``), blanks between the parts are free::

    selectors = [ selector { "," selector } ]          all must hold
    selector  = term                                   the app has such a label
              | term ("==" | "!=") term
              | term ("in" | "notin") "(" [ term { "," term } ] ")"
    term      = one or more of [-A-Za-z0-9_.], and of any other character behind a backslash
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_LENGTH = 4096
"""Longest selector that is read; a URL that is longer does not arrive either."""

_TERM = re.compile(r"(?:\\.|[-A-Za-z0-9_.])+")
_BLANK = re.compile(r"\s*")


class BadSelector(ValueError):
    """A text that is no label selector; the message is Marathon's, with what was expected where."""


@dataclass(frozen=True)
class Selector:
    """One condition on one label. An app without the label never meets it, not even ``!=`` and ``notin``."""

    key: str
    holds: Callable[[str], bool]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an app with these labels meets the condition."""
        return self.key in labels and self.holds(labels[self.key])


def parse(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Return what says of an app's labels whether a selector means the app.

    Raises
    ------
    BadSelector
        The text is none.
    """
    selectors = _Parser(text).selectors()
    return lambda labels: all(selector.matches(labels) for selector in selectors)


class _Parser:
    """Reads a selector from left to right, never back: no text takes longer than it is long."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        if len(text) > MAX_LENGTH:
            raise self._refused(f"it has {len(text)} characters, of at most {MAX_LENGTH}")
        self._skip_blanks()

    def selectors(self) -> list[Selector]:
        if self._at == len(self._text):
            return []
        found = [self._selector()]
        while self._take(","):
            found.append(self._selector())
        if self._at < len(self._text):
            raise self._expected("a comma or the end")
        return found

    def _selector(self) -> Selector:
        key = self._term("the name of a label")
        if self._take("=="):
            value = self._term("a value")
            return Selector(key, lambda label: label == value)
        if self._take("!="):
            value = self._term("a value")
            return Selector(key, lambda label: label != value)
        if self._take("notin"):
            values = self._set()
            return Selector(key, lambda label: label not in values)
        if self._take("in"):
            values = self._set()
            return Selector(key, lambda label: label in values)
        return Selector(key, lambda label: True)

    def _set(self) -> frozenset[str]:
        if not self._take("("):
            raise self._expected("'('")
        found = set()
        if not self._text.startswith(")", self._at):
            found.add(self._term("a value"))
            while self._take(","):
                found.add(self._term("a value"))
        if not self._take(")"):
            raise self._expected("a comma or ')'")
        return frozenset(found)

    def _term(self, meaning: str) -> str:
        match = _TERM.match(self._text, self._at)
        if match is None:
            raise self._expected(meaning)
        self._at = match.end()
        self._skip_blanks()
        return re.sub(r"\\(.)", r"\1", match.group())

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        self._skip_blanks()
        return True

    def _skip_blanks(self) -> None:
        match = _BLANK.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _expected(self, what: str) -> BadSelector:
        found = repr(self._text[self._at]) if self._at < len(self._text) else "the end"
        return self._refused(f"{what} expected but {found} found at character {self._at + 1}")

    def _refused(self, reason: str) -> BadSelector:
        shown = self._text if len(self._text) <= 200 else f"{self._text[:200]}…"
        return BadSelector(f"Can not parse label selector {shown}. Reason: {reason}")
