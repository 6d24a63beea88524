"""What still works but has a better successor: said once, however many spawners a hub has."""

from __future__ import annotations

import logging

_said: set[str] = set()


def say_once(log: logging.Logger | logging.LoggerAdapter[logging.Logger], name: str, instead: str) -> None:
    """Log that a setting is deprecated and what takes its place, the first time that it is met."""
    if name not in _said:
        _said.add(name)
        log.warning("%s is deprecated; set %s instead", name, instead)


def forget_all() -> None:
    """Say everything again; for tests."""
    _said.clear()
