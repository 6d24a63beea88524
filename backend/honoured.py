"""What is refused whatever the driver: what no process can be given, and more than there may be. Pure.

Nothing is passed over in silence: what an app asks for and would not get is refused, with
what to do instead. What one engine cannot give is its driver's to say (`Driver.cannot`).
"""

from __future__ import annotations

from collections.abc import Iterator

from hubfleet.api.app import App
from hubfleet.api.rules import Violation

MOST_INSTANCES = 10_000
"""Most instances of one app: each takes room in the state, whether there is a place for it or not."""

LONGEST_TEXT = 128 * 1024 - 1
"""Bytes of one argument, or of one variable with its name: Linux' MAX_ARG_STRLEN without the zero byte."""

MOST_TEXT = 1024 * 1024
"""Bytes of all arguments and variables together, half of what Linux takes: the rest is Marathon's own."""


def not_honoured(app: App) -> list[Violation]:
    """Return what cannot be the count, the command or the environment of any app."""
    return [*_count(app), *_texts(app), *_sizes(app)]


def _count(app: App) -> Iterator[Violation]:
    if app.instances > MOST_INSTANCES:
        yield Violation(
            "/instances",
            f"{app.instances} asked, but an app has at most {MOST_INSTANCES} instances here",
        )


def _texts(app: App) -> Iterator[Violation]:
    if app.args and not app.args[0]:
        yield Violation("/args(0)", "the first argument is the program to run, and must not be empty")
    for name in app.env:
        if not name or "=" in name:
            yield Violation("/env", f"{name!r} cannot be the name of a variable")
    texts = {
        "/fetch": [text for each in app.fetch for text in (each.uri, each.dest_path or "")],
        "/cmd": [app.cmd or ""],
        "/args": app.args,
        "/user": [app.user or ""],
        "/env": [part for pair in app.env.items() for part in pair if isinstance(part, str)],
        "/labels": [part for pair in app.labels.items() for part in pair],
    }
    for path, parts in texts.items():
        if any("\0" in part for part in parts):
            yield Violation(path, "must not hold a zero byte")


def _sizes(app: App) -> Iterator[Violation]:
    sizes = {
        "/cmd": [_bytes(app.cmd or "")],
        "/args": [_bytes(argument) for argument in app.args],
        "/env": [_bytes(f"{name}={value}") for name, value in app.env.items()],
        "/fetch": [_bytes(str(each.to_wire())) + 64 for each in app.fetch],
        "/labels": [sum(_bytes(key) + 1 for key in app.labels)],  # MARATHON_APP_LABELS
    }
    for path, found in sizes.items():
        if found and max(found) > LONGEST_TEXT:
            yield Violation(path, f"a process is given at most {LONGEST_TEXT} bytes at once; use a file")
    labels = sum(_bytes(f"MARATHON_APP_LABEL_{key}={value}") for key, value in app.labels.items())
    whole = labels + sum(map(sum, sizes.values()))
    if whole > MOST_TEXT:
        yield Violation(
            "/", f"command, env and labels together take {whole} bytes of at most {MOST_TEXT}; use a file"
        )


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))
