"""A process that has imported a program and forks itself: the least that a start can take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

_CODE = """
import gc, json, os, signal, sys
kind = sys.argv[1]
if kind == "server":
    import jupyterhub.singleuser.extension, jupyterlab.labapp, jupyterlab.extensions
    import notebook_shim.nbserver, jupyter_lsp, jupyter_server_terminals, IPython.core.interactiveshell
    import importlib
    for name in "api config contents events kernels kernelspecs nbconvert security sessions".split():
        importlib.import_module(f"jupyter_server.services.{name}.handlers")
    import jupyter_server.files.handlers, jupyter_server.view.handlers, jupyter_server.services.shutdown
    import jinja2.ext, jupyter_core.migrate, tornado.platform.asyncio
    names = ["jupyterhub.services.auth", "jupyterhub.singleuser"]
    for name in list(sys.modules):
        if name.startswith(tuple(names)):
            del sys.modules[name]
else:
    import distributed.cli.dask_worker as program, distributed.worker, hubfleet.workers.drain, dask
    import distributed.http.worker.prometheus
gc.collect()
gc.freeze()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if pid := os.fork():
        print(pid, flush=True)
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.chdir(order["folder"])
        log = os.open("log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv[:] = order["arguments"]
        if kind == "server":
            from jupyterhub.singleuser import main
        else:
            dask.config.refresh()
            main = program.main
        sys.exit(main())
"""


class Forker:
    """Such a process. What it forks is nobody's to wait for.

    Parameters
    ----------
    kind
        ``server`` or ``worker``.
    environment
        With which it imports.
    """

    def __init__(self, kind: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, kind],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.kind = kind

    def wait(self) -> None:
        """Return when it can fork."""
        self._answer()

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
        """Fork a process with such a command line, in a folder that takes its log; return its id."""
        order = {"arguments": list(arguments), "environment": dict(environment), "folder": folder}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"the process that forks {self.kind}s ended")
        return line

    def end(self) -> None:
        """End it; what it has forked goes on."""
        self._process.kill()
        self._process.wait()
