"""Writes the reference of clusters' options into docs/workers.md, from the code: ``make docs``.

What an option means is said in the docstrings, what it is by default in ``hubfleet.yaml``.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generated import write

from hubfleet.workers import MarathonCluster
from hubfleet.workers.config import DEFAULTS
from hubfleet.workers.options import WorkerOptions

PAGE = Path(__file__).with_name("workers.md")


def reference() -> str:
    """Return the options of clusters, of workers and of ``adapt``, each with its default and its meaning."""
    parts = [
        ("The cluster", "cluster", MarathonCluster),
        ("One worker", "worker", WorkerOptions),
        ("`adapt`", "adapt", MarathonCluster.adapt),
    ]
    return "\n".join(line for part in parts for line in _table(*part))


def _table(title: str, section: str, source: Any) -> Iterator[str]:
    defaults = {name.replace("-", "_"): value for name, value in DEFAULTS["hubfleet"][section].items()}
    yield from (f"### {title}", "")
    for names, meaning in parameters(inspect.getdoc(source) or ""):
        for name in names:
            if name.startswith("*") or (name == "group" and section == "adapt"):
                continue
            configured = f"; `hubfleet.{section}.{name.replace('_', '-')}`" if name in defaults else ""
            default = f", default `{json.dumps(defaults[name])}`" if defaults.get(name) is not None else ""
            yield f"- **`{name}`**{default}{configured}: {meaning}"
    yield ""


def parameters(docstring: str) -> Iterator[tuple[list[str], str]]:
    """Yield the names and the meaning of each entry under "Parameters" in a docstring of numpy's style."""
    _, _, rest = docstring.partition("Parameters\n----------\n")
    names: list[str] = []
    words: list[str] = []
    for line in [*rest.splitlines(), "end"]:
        if line and not line.startswith(" "):
            if names:
                yield names, re.sub(r"``(.+?)``", r"`\1`", " ".join(words))
            names, words = [name.strip() for name in line.split(",")], []
        elif not line:
            if names:
                yield names, re.sub(r"``(.+?)``", r"`\1`", " ".join(words))
            return
        else:
            words.append(line.strip())


if __name__ == "__main__":
    write(PAGE, reference())
