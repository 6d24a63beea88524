"""The field's own Python client, 0.13.0, as it is but for the one repair without which it encodes nothing."""

from __future__ import annotations

import collections
import collections.abc
import time
from collections.abc import Callable
from typing import Any

collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]  # gone in Python 3.10

from marathon.models import MarathonApp  # noqa: E402


def small(app_id: str | None = None, **fields: Any) -> MarathonApp:
    """Return an app that does nothing, and takes little."""
    return MarathonApp(id=app_id, cmd="exec sleep 3600", mem=16, cpus=0.1, **fields)


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait for a true answer, and return it."""
    end = time.monotonic() + 60
    while True:
        if found := condition():
            return found
        assert time.monotonic() < end
        time.sleep(0.02)
