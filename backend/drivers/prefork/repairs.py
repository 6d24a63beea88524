"""What modules took note of when the template imported them, put right for the task that it has become.

Each repair does what the import would do now. It says which of the module's looks at its surroundings it is
good for, by the names that `watch` gives them; a look that no repair is good for costs speed, never
correctness (`imports`).
"""

from __future__ import annotations

import importlib
import os
import random
import site
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from .watch import ALL_VARIABLES

_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")


class Stale(Exception):
    """A module took note of something that cannot be put right; the message says of what."""


def repair(settings: Iterable[tuple[str, Any, Any]], generators: Iterable[random.Random]) -> None:
    """Put right all that has been imported, in the process of the task, which has its own environment.

    Parameters
    ----------
    settings
        Dask's settings that were read while importing: key, default and value.
    generators
        The random number generators that there are.

    Raises
    ------
    Stale
        If that cannot be done.
    """
    time.tzset()
    for generator in generators:
        generator.seed()
    _repair_site()
    for module, (_, function) in _REPAIRS.items():
        if function is not None and module in sys.modules:
            function(sys.modules[module])
    if "dask.config" in sys.modules:
        _check_settings(sys.modules["dask.config"], settings)


def _repair_site() -> None:
    site.USER_BASE = site.USER_SITE = None
    own = site.getusersitepackages()
    if site.ENABLE_USER_SITE and os.path.isdir(own):
        raise Stale(f"the account has packages of its own in {own}")


def _repair_logging(module: Any) -> None:
    now = time.time_ns() if isinstance(module._startTime, int) else time.time()
    module._startTime = now


def _repair_multiprocessing(module: Any) -> None:
    module.ORIGINAL_DIR = os.path.abspath(os.getcwd())
    # A secret between a process and its children, and nobody else.
    module._current_process._config["authkey"] = module.AuthenticationString(os.urandom(32))


def _repair_sysconfig(module: Any) -> None:
    if module._CONFIG_VARS and "userbase" in module._CONFIG_VARS:
        module._CONFIG_VARS["userbase"] = module._getuserbase()


def _repair_wsgiref(module: Any) -> None:
    module.BaseHandler.os_environ = module.read_environ()


def _repair_send2trash(module: Any) -> None:
    # Its functions look at the module's names, which this replaces.
    importlib.reload(module)


def _repair_pypi(module: Any) -> None:
    if not os.environ.keys().isdisjoint(_PROXIES):
        importlib.reload(module)  # as above


def _repair_session(module: Any) -> None:
    # The key of a flag: one that two tasks share protects neither.
    module.session_flags["secure"][0]["Session"]["key"] = module.new_id_bytes()
    _set_default(module.Session, "username", os.environ.get("USER", "username"))


def _repair_labapp(module: Any) -> None:
    # It has asked yarn for a registry too, and kept nothing of that.
    _set_default(module.LabApp, "user_settings_dir", module.get_user_settings_dir())
    _set_default(module.LabApp, "workspaces_dir", module.get_workspaces_dir())


def _set_default(owner: Any, name: str, value: str) -> None:
    """Set the default of a trait, which each class that inherits it has a copy of."""
    trait = getattr(owner, name)
    classes = [owner]
    for class_ in classes:
        classes += class_.__subclasses__()
        if class_.__dict__.get(name, trait) is trait:
            class_._static_immutable_initial_values[name] = value
    trait.default_value = value


def _repair_platform(module: Any) -> None:
    if module._uname_cache is not None and module._uname_cache.node != os.uname().nodename:
        module._uname_cache = None


def _repair_rich(module: Any) -> None:
    module._IMPORT_CWD = os.path.abspath(os.getcwd())


def _repair_numpy(module: Any) -> None:
    module.seed()


def _repair_dask_config(module: Any) -> None:
    module.paths[:] = module._get_paths()
    module.PATH = os.environ.get("DASK_CONFIG", os.path.join(os.path.expanduser("~"), ".config", "dask"))
    module.refresh()


def _check_settings(config: Any, settings: Iterable[tuple[str, Any, Any]]) -> None:
    """Check that what modules keep of the configuration is what they would find now."""
    for key, default, value in settings:
        if config.get(key, default) != value:
            raise Stale(f"Dask's setting {key} is not what it was when the modules were imported")


def _check_dask_system(module: Any) -> None:
    # Too many modules, and defaults of functions, have it.
    if module.cpu_count() != module.CPU_COUNT:
        raise Stale("the task has other processors than the template")


def _check_distributed_system(module: Any) -> None:
    if module.memory_limit() != module.MEMORY_LIMIT:
        raise Stale("the task has another memory limit than the template")


def _check_distributed_config(module: Any) -> None:
    found = module._find_logging_config(module.config)
    if found.get("logging") or "logging-file-config" in found:
        raise Stale("Dask's configuration sets up logging")


def _repair_client(module: Any) -> None:
    module.Future._uid = uuid.uuid4().hex


# A version of a module that has not the names that its repair goes by makes the repair fail, and the task is
# executed.
_REPAIRS: Mapping[str, tuple[Collection[str], Callable[[Any], None] | None]] = {
    "logging": ((), _repair_logging),
    "multiprocessing.process": (("os.getcwd()", "os.urandom()"), _repair_multiprocessing),
    "sysconfig": (("HOME", "PYTHONUSERBASE"), _repair_sysconfig),
    "platform": ((), _repair_platform),
    "wsgiref.handlers": ((ALL_VARIABLES,), _repair_wsgiref),
    "psutil": (("os.getpid()",), None),  # asks whether /proc/<pid> has this or that file
    "psutil._pslinux": (("os.getpid()",), None),
    "send2trash.plat_other": (("HOME", "XDG_DATA_HOME", "os.getuid()"), _repair_send2trash),
    "jupyter_client.session": (("USER", "os.urandom()"), _repair_session),
    "jupyterlab.labapp": (
        (
            *("HOME", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_CONFIG_DIR", "PATH"),
            "Popen._execute_child()",
        ),
        _repair_labapp,
    ),
    "jupyterlab.extensions.pypi": (_PROXIES, _repair_pypi),
    "rich": (("os.getcwd()",), _repair_rich),
    "numpy.random": ((), _repair_numpy),
    # Before all that asks it.
    "dask.config": (
        (ALL_VARIABLES, "HOME", "DASK_CONFIG", "DASK_INTERNAL_INHERIT_CONFIG", "DASK_ROOT_CONFIG"),
        _repair_dask_config,
    ),
    "dask.system": (("os.getpid()",), _check_dask_system),
    "distributed.config": ((), _check_distributed_config),
    "distributed.system": ((), _check_distributed_system),
    "distributed.client": (("os.urandom()",), _repair_client),
}

REPAIRED: Mapping[str, Collection[str]] = {module: names for module, (names, _) in _REPAIRS.items()}
"""By module, the looks at its surroundings that its repair is good for."""
