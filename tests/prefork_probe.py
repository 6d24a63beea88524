"""A preload of `dask worker` that prints what the worker's process is, and ends it as its name says.

Named through ``--preload``; the variable PROBE_END is an exit code, or the name of a signal.
"""

import gc
import getpass
import json
import locale
import logging
import multiprocessing
import multiprocessing.process
import os
import platform
import random
import resource
import signal
import site
import subprocess
import sys
import sysconfig
import time
import uuid
import warnings

import dask
from distributed.client import Future
from distributed.versions import get_versions
from tornado import netutil

try:
    import numpy
except ImportError:  # what we need does without; with it, it is looked at too
    numpy = None


def _file(name: str) -> str:
    with open(f"/proc/self/{name}", "rb") as file:
        return os.fsdecode(file.read())


def _status() -> dict[str, str]:
    lines = (line.split(":", 1) for line in _file("status").splitlines())
    wanted = {"Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "Name", "Umask"}
    return {name: value.strip() for name, value in lines if name in wanted or name.startswith("Cap")}


def _stream(stream: object) -> list[object]:
    names = ("name", "mode", "encoding", "errors", "line_buffering", "write_through", "newlines")
    described = [getattr(stream, name) for name in names]
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return [*described, type(stream.buffer).__name__, raw.name, raw.closefd, raw.fileno()]


def _limits() -> dict[str, object]:
    return {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")}


main = sys.modules["__main__"]
same = {
    "argv": sys.argv,
    "orig_argv": sys.orig_argv,
    "executable": [sys.executable, sys._base_executable, sys.prefix, sys.base_prefix],
    "flags": repr(sys.flags),
    "options": [sys.warnoptions, sys._xoptions],
    "path": sys.path,
    "main": [
        main.__name__,
        main.__spec__ and main.__spec__.name,
        main.__file__,
        main.__package__,
        sorted(vars(main)),
    ],
    "modules": [name for name in sys.modules if "hubfleet_launcher" in name or name.endswith("dask_worker")],
    "environ": dict(sorted(os.environ.items())),
    "shown environ": sorted(_file("environ").split("\0")),
    "shown arguments": _file("cmdline").split("\0"),
    "status": _status(),
    "groups": _file("cgroup"),
    "signals": {str(s): repr(signal.getsignal(s)) for s in signal.valid_signals()},
    "cwd": os.getcwd(),
    "umask": [os.umask(0o022), os.umask(0o022)],
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "parent": os.getppid(),
    "nice": [os.nice(0), sorted(os.sched_getaffinity(0)), _file("oom_score_adj")],
    "limits": _limits(),
    "open": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in "012"),
    "more open": len(os.listdir("/proc/self/fd")),
    "streams": [_stream(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "same streams": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    "locale": [locale.setlocale(locale.LC_CTYPE), sys.getfilesystemencoding(), locale.getpreferredencoding()],
    "threads": len(os.listdir("/proc/self/task")),
    "zone": [time.tzname, time.timezone],
    "collector": [gc.isenabled(), gc.get_threshold()],
    "interpreter": [sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode],
    "user": [getpass.getuser(), os.path.expanduser("~")],
    "site": [site.ENABLE_USER_SITE, site.USER_BASE, site.USER_SITE],
    "scheme": sysconfig.get_config_var("userbase"),
    "warnings": repr(warnings.filters),
    "loggers": {n: logging.getLogger(n).level for n in ("", "distributed", "distributed.client", "tornado")},
    "log": [handler.stream is sys.stderr for handler in logging.getLogger("distributed").handlers],
    "multiprocessing": [multiprocessing.process.ORIGINAL_DIR, multiprocessing.get_start_method()],
    "dask": [dask.config.config, dask.config.paths, dask.config.PATH],
    "versions": get_versions(),
    "machine": [*platform.uname(), platform.processor()],
    "trusted": netutil._client_ssl_defaults().cert_store_stats(),
    "accessible": os.access("/proc/self/environ", os.R_OK),
}
different = {
    "random": random.random(),
    "numpy": float(numpy.random.rand()) if numpy else random.random(),
    "uuid": uuid.uuid4().hex,
    "uid of futures": Future._uid,
    "authkey": bytes(multiprocessing.process.current_process().authkey).hex(),
}
if "PROBE_CHILD" in os.environ:
    child = subprocess.Popen(["setsid", "sleep", "600"])
    with open("child", "w") as file:
        file.write(str(child.pid))
print(json.dumps({"same": same, "different": different}, default=str), flush=True)
end = os.environ.get("PROBE_END", "0")
if end.isdigit():
    logging.shutdown()
    os._exit(int(end))
elif end == "stay":
    time.sleep(600)
elif end == "hoard":
    held = []
    while True:
        held.append(bytearray(b"x" * (4 << 20)))
        time.sleep(0.01)
elif end == "raise":
    raise RuntimeError("the probe was told to")
else:
    os.kill(os.getpid(), getattr(signal, end))
    time.sleep(60)
