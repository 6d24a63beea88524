"""What modules read while they are imported that is not the same for every task.

A forked task has its modules imported already. That differs from importing them itself only where a module
looked, at import, at something that belongs to the task: its environment, its directory, its account,
randomness. So a template watches its own imports, and knows for each module what it looked at.
"""

from __future__ import annotations

import builtins
import importlib
import os
import random
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

ALL_VARIABLES = "*"
"""Stands for the whole environment, read in one go."""

_CALLS = (
    (os, "getcwd"),
    (os, "geteuid"),
    (os, "getpid"),
    (os, "getuid"),
    (os, "getppid"),
    (os, "getrandom"),
    (os, "urandom"),
    (random, "_urandom"),
    (socket, "gethostname"),
    (subprocess.Popen, "_execute_child"),
    (uuid, "uuid1"),
)
# Who imports it all, and depends on nothing of it.
_IMPORTER = f"{__package__}.imports"
# It keeps what it finds in itself, whoever asks, and knows what to do about it.
_KEEPS = "sysconfig"
# What they find is their caller's, and they keep nothing of it.
_PASS_ON = frozenset(
    {
        *(__name__, "collections.abc", "getpass", "importlib", "importlib._bootstrap"),
        *("importlib._bootstrap_external", "os", "pathlib", "posixpath", "random", "secrets"),
        *("shutil", "subprocess", "uuid", "traitlets.traitlets", "jupyter_core.paths"),
        *("jupyterlab.commands", "jupyterlab_server.config", "jupyterlab_server.process"),
    }
)

Value = str | bytes | None


class Watch:
    """A context in which imports are watched.

    Attributes
    ----------
    reads
        By module and variable of the environment, or function (such as ``os.getcwd()``), what was found.
    importers
        By module, the modules whose import asked for it.
    settings
        The settings of Dask that were asked for: key, default and value.
    """

    def __init__(self) -> None:
        self.reads: dict[tuple[str, str], Value] = {}
        self.importers: dict[str, set[str]] = {}
        self.settings: list[tuple[str, Any, Any]] = []
        self._undo: list[Callable[[], None]] = []
        self._right: dict[int, Any] = {}  # by the identity of what stands in its place

    def __enter__(self) -> Watch:
        mapping = type(os.environ)
        right_get, right_iterate = mapping.__getitem__, mapping.__iter__

        def get(environ: Any, name: Any) -> Any:
            try:
                value = right_get(environ, name)
            except KeyError:
                self._note(os.fsdecode(name), None)
                raise
            self._note(os.fsdecode(name), value)
            return value

        def iterate(environ: Any) -> Iterator[Any]:
            self._note(ALL_VARIABLES, None)
            return right_iterate(environ)

        self._put(mapping, "__getitem__", get)
        self._put(mapping, "__iter__", iterate)
        for module, name in _CALLS:
            self._put(module, name, self._noting_call(f"{module.__name__}.{name}()", getattr(module, name)))
        self._put(builtins, "__import__", self._noting_import(builtins.__import__))
        self._put(importlib, "import_module", self._noting_import_module(importlib.import_module))
        return self

    def __exit__(self, *error: object) -> None:
        while self._undo:
            self._undo.pop()()
        # Whoever took one of the functions for itself is given the right one.
        for module in list(sys.modules.values()):
            names = getattr(module, "__dict__", {})
            for name, value in list(names.items()):
                if id(value) in self._right:
                    names[name] = self._right[id(value)]

    def watch_settings(self, config: Any) -> None:
        """Watch `dask.config` too, once it is imported."""
        right = config.get

        def get(key: str, default: Any = config.no_default, *rest: Any, **more: Any) -> Any:
            value = right(key, default, *rest, **more)
            self.settings.append((key, default, value))
            return value

        self._put(config, "get", get)

    def dependents(self, modules: set[str]) -> set[str]:
        """Return these modules and all whose import needed one of them, directly or not."""
        found: set[str] = set()
        pending = list(modules)
        while pending:
            module = pending.pop()
            if module not in found:
                found.add(module)
                pending += self.importers.get(module, ())
                # A package that is imported anew has no submodules yet.
                pending += [name for name in sys.modules if name.startswith(f"{module}.")]
        return found

    def _put(self, place: Any, name: str, value: Any) -> None:
        right = getattr(place, name)
        self._undo.append(lambda: setattr(place, name, right))
        self._right[id(value)] = right
        setattr(place, name, value)

    def _note(self, what: str, value: Value) -> None:
        frame = sys._getframe(2)
        # What comes of reading the whole is noted as that.
        in_mapping = frame.f_globals.get("__name__") == Mapping.__module__
        if in_mapping and frame.f_code.co_name == "__iter__" and what != ALL_VARIABLES:
            return
        for module in _readers(frame):
            self.reads.setdefault((module, what), value)

    def _noting_call(self, what: str, right: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._note(what, None)
            return right(*arguments, **named)

        return call

    def _noting_import(self, right: Callable[..., Any]) -> Callable[..., Any]:
        def import_(
            name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
        ) -> Any:
            module = right(name, globals, locals, fromlist, level)
            importer = (globals or {}).get("__name__", "")
            if level == 0:
                self._needs(importer, name)
            if fromlist:
                self._needs(importer, module.__name__)
                for item in fromlist:
                    if f"{module.__name__}.{item}" in sys.modules:
                        self._needs(importer, f"{module.__name__}.{item}")
            return module

        return import_

    def _noting_import_module(self, right: Callable[..., Any]) -> Callable[..., Any]:
        def import_module(name: str, package: str | None = None) -> Any:
            module = right(name, package)
            self._needs(sys._getframe(1).f_globals.get("__name__", ""), module.__name__)
            return module

        return import_module

    def _needs(self, importer: str, module: str) -> None:
        if importer not in ("", "__main__", _IMPORTER) and importer != module:
            self.importers.setdefault(module, set()).add(importer)


def _readers(frame: FrameType | None) -> list[str]:
    """Return the module whose import a frame is part of, and those that may keep what it reads for itself.

    There are none if no module is being imported.
    """
    modules: list[str] = []
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == _KEEPS or (frame.f_code.co_name == "<module>" and module != "__main__"):
            return [*modules, module]
        if module not in _PASS_ON:
            modules.append(module)
        frame = frame.f_back
    return []
