"""What a template has imported, and whether that is what a task would import now.

A template imports what tasks of its kind will need, and watches itself doing it (`watch`). What a
module looked at that belongs to a task is made good in the task (`repairs`); where nobody knows how,
the module and all that depend on it are given up again, and the task imports them itself; and a variable
whose value must be the same for template and task is remembered, so that other tasks are executed instead.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType

from . import firsts
from .files import Files
from .handshake import rehearse_encryption
from .line import MODULES
from .repairs import REPAIRED
from .visible import end_with_parent
from .watch import ALL_VARIABLES, Value, Watch

_SERVICES = (
    *("api", "config", "contents", "events", "kernels", "kernelspecs", "nbconvert", "security", "sessions"),
)
_WANTED = {
    "worker": (
        "distributed.cli.dask_worker",
        "dask.__main__",
        "distributed.worker",
        "distributed.nanny",
        "distributed.preloading",
        "distributed.http.worker.prometheus",
        "multiprocessing.popen_spawn_posix",
        "tornado.platform.asyncio",
        *("hubfleet.workers.drain", "hubfleet.workers.guard"),
    ),
    "server": (
        "jupyterhub.singleuser.extension",
        "jupyter_server.serverapp",
        *(f"jupyter_server.services.{name}.handlers" for name in _SERVICES),
        *("jupyter_server.base.handlers", "jupyter_server.files.handlers", "jupyter_server.view.handlers"),
        *("jupyter_server.kernelspecs.handlers", "jupyter_server.nbconvert.handlers"),
        "jupyter_server.services.shutdown",
        # What extensions import when they are asked for their parts.
        *("jupyterlab.labapp", "jupyterlab.extensions", "notebook_shim.nbserver"),
        *("httpcore", "jupyter_lsp.virtual_documents_shadow"),
        *("IPython.core.interactiveshell", "jinja2.ext", "jupyter_core.migrate", "tornado.platform.asyncio"),
    ),
}
"""By kind: the first must be there, the others are imported where they are."""

# Where the extensions of this Python environment are named, those of an account or a machine apart.
_EXTENSIONS = "etc/jupyter/jupyter_server_config.d"

# Those that open nothing when they are imported. A server imports any other by itself, after the fork:
# dask_labextension, for one, makes itself an event loop, which no two processes may share.
_PLAIN_EXTENSIONS = frozenset(
    {"jupyter_lsp", "jupyter_server_terminals", "jupyterlab", "nbclassic", "notebook", "notebook_shim"}
)

# What is another's for each account, and what the hub sets for each server.
_VARYING = frozenset(
    {
        *("HOME", "LOGNAME", "PWD", "SHELL", "TMPDIR", "USER", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
        *("XDG_DATA_HOME", "XDG_RUNTIME_DIR", "JPY_API_TOKEN", "JUPYTERHUB_ACTIVITY_URL"),
        *("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_API_URL", "JUPYTERHUB_BASE_URL", "JUPYTERHUB_CLIENT_ID"),
        *("JUPYTERHUB_HOST", "JUPYTERHUB_OAUTH_ACCESS_SCOPES", "JUPYTERHUB_OAUTH_CALLBACK_URL"),
        *("JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES", "JUPYTERHUB_OAUTH_SCOPES"),
        *("JUPYTERHUB_PUBLIC_HUB_URL", "JUPYTERHUB_PUBLIC_URL", "JUPYTERHUB_SERVER_NAME"),
        *("JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_SERVICE_URL", "JUPYTERHUB_SSL_CERTFILE"),
        *("JUPYTERHUB_SSL_CLIENT_CA", "JUPYTERHUB_SSL_KEYFILE", "JUPYTERHUB_USER"),
    }
)

# What is read unseen: by libraries below Python when they are loaded, and by what Python runs at its start.
_UNSEEN = (
    *("ARROW_", "BLIS_", "BLOSC_", "GLIBC_", "GOMP_", "GOTO_", "KMP_", "LC_", "LD_", "MALLOC_", "MKL_"),
    *("NPY_", "OMP_", "OPENBLAS_", "OPENSSL_", "PYTHON", "SSL_", "LANG", "LOCPATH", "NLSPATH", "TBB_"),
    *("TZDIR", "VECLIB_", "COVERAGE_", "COV_CORE_", "SETUPTOOLS_", *firsts.VARIABLES),
)


class Unfit(Exception):
    """This process cannot be a template, or not of this task; the message says why."""


class Stock:
    """All that a template has imported, and when that suits a task.

    Attributes
    ----------
    settings
        Dask's settings that were read meanwhile: key, default and value.
    generators
        Random number generators, each of which every task must seed anew.
    added
        Variables that the interpreter or a module has set, where the environment had none of that name.
    dropped
        Modules that the tasks import themselves.
    launcher_modules
        Those of the package that this module is of, which no task would have.

    Raises
    ------
    Unfit
        If the modules are not there, cannot be imported a second time, or change while they are imported.
    """

    def __init__(self, kind: str) -> None:
        begun = time.time()
        self._environment = _first_environment()
        with Watch() as watch:
            _import_all(kind, watch)
        self.dropped = _drop(watch)
        _rehearse(self.dropped)
        # The interpreter finds fault with a module that is there before it is run.
        for module in MODULES:
            _forget(module)
        self._must_be: dict[str, Value] = {
            name: value
            for (module, name), value in watch.reads.items()
            if module in sys.modules and name not in REPAIRED.get(module, ()) and not name.endswith("()")
        }
        self.settings = watch.settings
        self.added = {name: os.environ[name] for name in os.environ.keys() - self._environment.keys()}
        self._files = Files(_paths())
        for path in self._files:
            if _changed_at(path) >= begun:
                raise Unfit(f"{path} changed while it was imported")
        self._account = os.geteuid(), os.getegid()
        self._protected = _protected(self._files)
        package = __name__.partition(".")[0]
        self.launcher_modules = [name for name in sys.modules if name.partition(".")[0] == package]
        self._packages = frozenset(name.partition(".")[0] for name in sys.modules)
        gc.collect()
        self.generators = [
            found
            for found in gc.get_objects()
            if isinstance(found, random.Random) and not isinstance(found, random.SystemRandom)
        ]
        gc.freeze()

    def changed(self) -> str:
        """Return what is different on the disk since it was imported; empty if nothing is."""
        path = self._files.changed()
        return path and f"{path} has changed"

    def check_environment(self, environment: Mapping[str, str]) -> None:
        """Check that a task with this environment would have imported the same.

        Raises
        ------
        Unfit
            If a variable is another one.
        """
        names = {name for name in (*environment, *self._environment) if name.startswith(_UNSEEN)}
        for name in sorted(names):
            if environment.get(name) != self._environment.get(name):
                raise Unfit(f"{name} is not what it is for the template")
        for name, value in self._must_be.items():
            if environment.get(name) != (os.fsdecode(value) if value is not None else None):
                raise Unfit(f"{name} is not what it was when the modules were imported")

    def check_access(self) -> None:
        """Check that this account may read what has been imported.

        Raises
        ------
        Unfit
            If it may not.
        """
        if (os.geteuid(), os.getegid()) == self._account:
            return
        for (*_, rights), path in self._protected.items():
            if not os.access(path, rights):
                raise Unfit(f"this account may not use {path}")

    def check_precedence(self, folder: str) -> None:
        """Check that a program which looks for modules in a folder first would find ours all the same.

        Raises
        ------
        Unfit
            If there is one of a name that has been imported from elsewhere.
        """
        with os.scandir(folder) as entries:
            for entry in entries:
                name, _, ending = entry.name.partition(".")
                ending = ending.rpartition(".")[2]
                is_module = name in self._packages and (ending in ("py", "pyc", "so") or entry.is_dir())
                if is_module or ending in ("dist-info", "egg-info"):
                    raise Unfit(f"{entry.path} takes the place of a module, or of what is known of one")


def check_quiet(descriptor: int) -> None:
    """Check that this process is fit to be forked.

    Parameters
    ----------
    descriptor
        The one that is open apart from the standard ones.

    Raises
    ------
    Unfit
        If it has threads, open files or handlers of signals that its tasks would not expect.
    """
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise Unfit(f"it has {threads} threads: {', '.join(t.name for t in threading.enumerate())}")
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            if int(name) > 2 and int(name) != descriptor:
                raise Unfit(f"it has {os.readlink(f'/proc/self/fd/{name}')} open")
    for signum in signal.valid_signals():
        handler = signal.getsignal(signum)
        if handler not in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None):
            raise Unfit(f"its modules handle signal {signum}")


def _import_all(kind: str, watch: Watch) -> None:
    needed, *others = _WANTED[kind]
    try:
        if kind == "worker":
            watch.watch_settings(importlib.import_module("dask.config"))
        importlib.import_module(needed)
    except ImportError as error:
        raise Unfit(f"{needed} cannot be imported: {error}") from error
    if kind == "server":
        others += _extensions()
    for name in others:
        with suppress(ImportError):
            importlib.import_module(name)
    if kind == "worker":
        rehearse_encryption()
        firsts.look_up()


def _extensions() -> Iterator[str]:
    """Yield the server extensions that this Python environment switches on and a template may import."""
    folder = os.path.join(sys.prefix, _EXTENSIONS)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if name.endswith(".json"):
            with open(os.path.join(folder, name), "rb") as file, suppress(ValueError, AttributeError):
                extensions = json.load(file)["ServerApp"]["jpserver_extensions"]
                yield from (
                    extension
                    for extension, enabled in extensions.items()
                    if enabled and extension in _PLAIN_EXTENSIONS
                )


def _drop(watch: Watch) -> list[str]:
    """Give up the modules that know something of a task which nobody makes good; return them."""
    tainted = {
        module
        for module, what in watch.reads
        if (what in _VARYING or what == ALL_VARIABLES or what.endswith("()"))
        and what not in REPAIRED.get(module, ())
    }
    dependents = watch.dependents(tainted)
    dropped = [module for module in sys.modules if module in dependents]
    for module in dropped:
        _forget(module)
    return dropped


def _forget(module: str) -> None:
    if sys.modules.pop(module, None) is not None:
        package, _, name = module.rpartition(".")
        vars(sys.modules.get(package, ModuleType("none"))).pop(name, None)


def _rehearse(modules: list[str]) -> None:
    """Import in a child what tasks will have to import once more.

    Raises
    ------
    Unfit
        If that does not work a second time.
    """
    pid = os.fork()
    if pid == 0:
        try:
            end_with_parent(signal.SIGKILL)
            for module in modules:
                importlib.import_module(module)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise Unfit(f"{', '.join(modules)} cannot be imported a second time; launcher.log says why")


def _first_environment() -> dict[str, str]:
    """Return the environment that this process was started with."""
    with open("/proc/self/environ", "rb") as file:
        variables = (os.fsdecode(variable).partition("=") for variable in file.read().split(b"\0"))
        return {name: value for name, _, value in variables if name}


def _paths() -> Iterator[str]:
    """Yield all that decides what an import finds."""
    yield sys.executable
    yield os.path.join(sys.prefix, "pyvenv.cfg")
    yield os.path.join(sys.prefix, _EXTENSIONS)
    yield from firsts.paths()
    # A package that is installed or removed changes the directory.
    for folder in sys.path:
        yield folder
        # Where editable installs say what else is to be looked through.
        with suppress(OSError):
            yield from (os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".pth"))
    for module in list(sys.modules.values()):
        if file := getattr(module, "__file__", None):
            yield file
        yield from map(str, getattr(module, "__path__", ()))


def _protected(paths: Iterable[str]) -> dict[tuple[int, int, int, int], str]:
    """Return an example of every way in which these are protected, and the directories that lead to them.

    The key is what decides who may use the path: its mode, owner and group, and what it is used for.
    """
    found = {}
    seen: set[str] = set()
    for path in filter(os.path.exists, paths):
        rights = os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK
        while True:
            status = os.stat(path)
            found[status.st_mode, status.st_uid, status.st_gid, rights] = path
            path = os.path.dirname(path)
            if path in seen:
                break
            seen.add(path)
            rights = os.X_OK
    return found


def _changed_at(path: str) -> float:
    """Return when a file or directory was changed, which nobody can set back, or 0 if it is not there."""
    try:
        return os.stat(path).st_ctime
    except OSError:
        return 0.0
