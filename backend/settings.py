"""What kinds of settings there are beside those of traitlets, each with its word on what is allowed."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from traitlets import TraitError, TraitType

from .quotas import RESOURCES

_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")


class PortRange(TraitType[tuple[int, int], Any]):
    """The first and the last of some ports, or a text such as 31000-32000."""

    info_text = "a range of ports such as '31000-32000'"

    def validate(self, obj: Any, value: Any) -> tuple[int, int]:
        """Return the first and the last port."""
        match = _RANGE.fullmatch(value) if isinstance(value, str) else None
        match (int(match[1]), int(match[2])) if match else value:
            case (int(first), int(last)) | [int(first), int(last)] if 0 < first <= last <= 65535:
                return first, last
        raise TraitError(f"{value!r} is no range of ports such as '31000-32000'")


class HubApiUrl(TraitType[str, Any]):
    """The address of a hub's API."""

    info_text = "the address of a hub's API such as 'http://127.0.0.1:8081/hub/api'"

    def validate(self, obj: Any, value: Any) -> str:
        """Return the address as `HubAuth` takes it."""
        try:
            url = urlsplit(value)
            good = url.scheme in {"http", "https"} and url.hostname and url.path.rstrip("/").endswith("/api")
        except (AttributeError, TypeError, ValueError):
            good = False
        if not good:
            raise TraitError(f"c.Backend.{self.name} is {self.info_text}, with the path, not {value!r}")
        return str(value).rstrip("/")


class QuotaLimits(TraitType[dict[str, float | None], Any]):
    """Limits by resource."""

    info_text = "a dictionary such as {'instances': 50, 'cpus': 16, 'mem': 65536, 'gpus': 0}"

    def validate(self, obj: Any, value: Any) -> dict[str, float | None]:
        """Return the limits, each a number that is not negative, or None."""
        return _limits(f"c.Backend.{self.name}", value)


class QuotasByName(TraitType[dict[str, dict[str, dict[str, float | None]]], Any]):
    """Limits of users and of apps, by the name of whoever they are for."""

    info_text = "a dictionary such as {'a name': {'user': {'cpus': 16}, 'app': {'instances': 10}}}"

    def validate(self, obj: Any, value: Any) -> dict[str, dict[str, dict[str, float | None]]]:
        """Return the limits by name."""
        place = f"c.Backend.{self.name}"
        found = {}
        for name, kinds in _dictionary(place, value).items():
            for kind in _dictionary(f"{place}[{name!r}]", kinds):
                if kind not in ("user", "app"):
                    raise TraitError(f"{place}[{name!r}] has limits for 'user' and 'app', not for {kind!r}")
            found[str(name)] = {
                kind: _limits(f"{place}[{name!r}][{kind!r}]", limits) for kind, limits in kinds.items()
            }
        return found


def _limits(place: str, value: Any) -> dict[str, float | None]:
    for resource, most in _dictionary(place, value).items():
        if resource not in RESOURCES:
            raise TraitError(f"{place} limits {', '.join(RESOURCES)}, not {resource!r}")
        number = isinstance(most, int | float) and not isinstance(most, bool) and 0 <= most < float("inf")
        if not number and most is not None:
            raise TraitError(f"{place}[{resource!r}] is a number that is not negative, or None, not {most!r}")
    return dict(value)


def _dictionary(place: str, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TraitError(f"{place} is a dictionary, not {value!r}")
    return value
