"""One broken rule of a definition."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """One broken rule: where in the definition, and the sentence."""

    path: str
    error: str
