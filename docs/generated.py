"""The part of a page that is written from the code, between two marks; the rest is written by hand."""

from __future__ import annotations

import sys
from pathlib import Path

BEGIN, END = "<!-- generated from the code by `make docs` -->", "<!-- end of what is generated -->"


def rendered(page: str, reference: str) -> str:
    """Return the text of a page with a reference in its place.

    Raises
    ------
    ValueError
        The page lacks the place.
    """
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the page lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{reference}\n{END}{after}"


def write(page: Path, reference: str) -> None:
    """Write a page's reference; say whether the page has changed."""
    text = page.read_text()
    new = rendered(text, reference)
    if new != text:
        page.write_text(new)
    sys.stdout.write(f"{page.name} {'is up to date' if new == text else 'was written'}\n")
