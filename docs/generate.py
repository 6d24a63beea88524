"""Writes the reference of the traits into docs/spawner.md, from the help in the code: ``make docs``.

What stands between the two marks of that file is replaced; all else is written by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from generated import write

from hubfleet.spawner import MarathonSpawner

PAGE = Path(__file__).with_name("spawner.md")


def reference() -> str:
    """Return every trait of ours, grouped by the classes that bring them, in the order of their code."""
    return "\n".join(line for part in _parts() for line in part)


def _parts() -> Iterator[list[str]]:
    for owner in MarathonSpawner.__mro__:
        if not owner.__module__.startswith("hubfleet.spawner"):
            continue
        traits = MarathonSpawner.class_traits(config=True)
        own = [name for name in vars(owner) if name in traits]
        if own:
            yield [f"### {_title(owner)}", ""]
        for name in own:
            trait = traits[name]
            default = "" if _explains_default(trait.help) else f", default `{trait.default()!r}`"
            yield [f"#### `{name}`", "", f"*{_kind(trait)}*{default}", "", *markdown(trait.help), ""]


def _title(owner: type) -> str:
    return (inspect.getdoc(owner) or owner.__name__).partition("\n")[0].rstrip(".").partition(";")[0]


def _explains_default(text: str) -> bool:
    return "default:" in text.lower()


def _kind(trait: object) -> str:
    kinds = [type(each).__name__ for each in getattr(trait, "trait_types", [trait])]
    plain = {"Unicode": "text", "Bool": "true or false", "Float": "number", "Integer": "whole number"}
    plain |= {"List": "list", "Dict": "dict", "Callable": "function", "CaselessStrEnum": "one word"}
    plain |= {"Any": "text or dict", "Enum": "one word"}
    return " or ".join(dict.fromkeys(plain.get(kind, kind.lower()) for kind in kinds))


def markdown(text: str) -> list[str]:
    """Return help as Markdown: its literal blocks become fenced ones, its double back-quotes single ones."""
    lines = inspect.cleandoc(text).splitlines()
    written: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if not line.endswith("::"):
            written.append(re.sub(r"``(.+?)``", r"`\1`", line))
            continue
        written += [line.removesuffix("::").rstrip() + ":", ""]
        indent = len(line) - len(line.lstrip())
        block = []
        while index < len(lines) and (not lines[index].strip() or _indent(lines[index]) > indent):
            block.append(lines[index])
            index += 1
        written += ["```python", *inspect.cleandoc("\n" + "\n".join(block)).splitlines(), "```"]
        if index < len(lines):
            written.append("")
    return written


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


if __name__ == "__main__":
    write(PAGE, reference())
