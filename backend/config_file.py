"""Reads the settings of a backend from a file and the command line, and writes a file that explains them."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Mapping
from pathlib import Path

from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, LazyConfigValue, PyFileConfigLoader

from .config import Backend
from .config_limits import LimitSettings
from .config_tasks import TaskSettings


class ConfigurationError(Exception):
    """A setting that there is not, or a value that it cannot have."""


def read(file: Path | None, options: Mapping[str, object]) -> Backend:
    """Return the settings of a file, and above them those of the command line.

    Parameters
    ----------
    file
        Python, as JupyterHub's own configuration; it begins with ``c = get_config()``.
    options
        Values by the name of the setting.

    Raises
    ------
    ConfigurationError
        The file cannot be read, fails, or holds what is no setting or no value of one.
    """
    config = Config() if file is None else _execute(file.absolute())
    _check_names(config, file)
    for name, value in options.items():
        config.Backend[name] = value
    try:
        return Backend(config=config)
    except TraitError as error:
        raise ConfigurationError(f"{_source(file)}: {error}") from None


def first_line(name: str) -> str:
    """Return what a setting is, in one line."""
    text: str = Backend.class_traits()[name].help
    return text.partition("\n")[0]


def template() -> str:
    """Return a configuration file with every setting, its help and its default, all as comments."""
    # Not traitlets' own text: that is sorted by name, and takes the indent of most examples away.
    lines = ["c = get_config()"]
    written = {name: None for part in (Backend, LimitSettings, TaskSettings) for name in vars(part)}
    for name in filter(Backend.class_trait_names(config=True).__contains__, written):
        trait = Backend.class_traits()[name]
        lines += ["", *_commented(trait.help), f"# c.Backend.{name} = {trait.default()!r}"]
    return "\n".join(lines) + "\n"


def _commented(text: str) -> list[str]:
    # By the depth at which this file writes them; the least indent may be an example's own.
    return [f"## {line.removeprefix(' ' * 8)}".rstrip() for line in text.rstrip().splitlines()]


def _execute(file: Path) -> Config:
    loader = PyFileConfigLoader(file.name, str(file.parent))
    try:
        return loader.load_config()
    except (OSError, ConfigFileNotFound) as error:
        raise ConfigurationError(f"the configuration {file} cannot be read: {error}") from error
    except Exception as error:
        # Whatever an administrator's own Python raises; the line is what helps.
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = own[-1].lineno if own else getattr(error, "lineno", None)
        where = f"{file}, line {line}" if line else str(file)
        raise ConfigurationError(f"{where}: {type(error).__name__}: {error}") from error


def _check_names(config: Config, file: Path | None) -> None:
    """Refuse what would be passed over in silence."""
    for section in config:
        if section != Backend.__name__:
            raise ConfigurationError(
                f"{_source(file)}: there is no section c.{section}; the settings are c.Backend.<name>"
            )
    known = Backend.class_trait_names(config=True)
    for name, value in config.get(Backend.__name__, {}).items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean c.Backend.{close[0]}?" if close else f"there are {', '.join(sorted(known))}"
            raise ConfigurationError(f"{_source(file)}: there is no setting c.Backend.{name}; {hint}")
        if isinstance(value, LazyConfigValue) and not isinstance(
            Backend.class_traits()[name].default(), list | dict | set
        ):
            raise ConfigurationError(
                f"{_source(file)}: c.Backend.{name} is read before it is set, or changed as if it were a list"
            )


def _source(file: Path | None) -> str:
    return "the command line" if file is None else str(file)
