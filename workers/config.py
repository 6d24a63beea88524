"""The part of Dask's configuration that is hubfleet's: every option's default, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.config
import yaml

from .checks import known_names

FILE = Path(__file__).with_name("hubfleet.yaml")
"""The defaults, with a comment on each."""

DEFAULTS: dict[str, Any] = yaml.safe_load(FILE.read_text())
_HIDDEN = frozenset({"worker.env"})  # its values may be secrets

# As distributed and dask-jobqueue do: a copy to edit, all of it commented out, where Dask looks for it.
dask.config.ensure_file(source=str(FILE))
dask.config.update_defaults(DEFAULTS)


def section(name: str) -> dict[str, Any]:
    """Return the options of ``hubfleet.<name>`` by their names in Python, without those that are null.

    Raises
    ------
    TypeError
        There is an option that does not exist, or no options at all.
    """
    found = dask.config.get(f"hubfleet.{name}")
    where = f"hubfleet.{name} in Dask's configuration"
    if not isinstance(found, Mapping):
        raise TypeError(f"{where} must be options with their values, got {found!r}")
    options = {_python(option): value for option, value in found.items()}
    known_names(where, options, (_python(option) for option in DEFAULTS["hubfleet"][name]))
    return {option: value for option, value in options.items() if value is not None}


def completed(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they were given, and for those that are None what is configured, if anything is."""
    return section(name) | {option: value for option, value in given.items() if value is not None}


@dataclass(frozen=True)
class Setting:
    """One option, what it is now, and where that comes from."""

    name: str
    value: Any
    source: str

    @property
    def shown(self) -> Any:
        """The value as it may be printed."""
        if self.name.removeprefix("hubfleet.") in _HIDDEN and isinstance(self.value, Mapping):
            return dict.fromkeys(self.value, "(hidden)")
        return self.value


def settings() -> Iterator[Setting]:
    """Return every option there is."""
    environment = dask.config.collect_env()
    # The last file that names an option is the one that holds.
    files = list(dask.config.collect_yaml(dask.config.paths, return_paths=True))[::-1]
    for part, options in DEFAULTS["hubfleet"].items():
        for option in options:
            name = f"hubfleet.{part}.{option}"
            value = dask.config.get(name)
            yield Setting(name, value, _source(name, value, environment, files))


def _source(name: str, value: Any, environment: Any, files: Any) -> str:
    candidates = [("DASK_" + name.upper().replace(".", "__").replace("-", "_"), environment)]
    candidates += [(str(path), content) for path, content in files if content]
    candidates.append(("default", DEFAULTS))
    for source, content in candidates:
        if dask.config.get(name, _NOTHING, config=content) == value:
            return source
    return "set in this process"


class _Nothing:
    """What equals no value, as null is one."""


_NOTHING = _Nothing()


def _python(option: str) -> str:
    return str(option).replace("-", "_")
