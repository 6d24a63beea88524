"""How a client elsewhere connects to a cluster: by a configuration file of Dask's own, for its owner only."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml
from distributed import Security

from hubfleet.api.ids import segment

from .tls import encrypts


def default_file(name: str) -> Path:
    """Return where the file of a cluster is, if nothing else is said."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "hubfleet" / f"{segment(name)}.yaml"


def write(path: Path, address: str, security: Security) -> None:
    """Write the file, which holds a private key, so that nobody but its owner can read it.

    Raises
    ------
    OSError
        It cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A new file in place of the old one: what somebody has open, or has laid there, is not written to.
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("# Whoever can read this can run code as the owner of the cluster.\n")
        yaml.safe_dump(settings(address, security), file, sort_keys=False)
    new.replace(path)


def settings(address: str, security: Security) -> dict[str, Any]:
    """Return the configuration with which ``distributed.Client()`` connects."""
    found: dict[str, Any] = {"scheduler-address": address}
    if encrypts(security):
        found["distributed"] = {
            "comm": {
                "require-encryption": True,
                "tls": {
                    "ca-file": security.tls_ca_file,
                    "client": {"cert": security.tls_client_cert, "key": security.tls_client_key},
                },
            }
        }
    return found


def how(path: Path) -> str:
    """Return a line that shows how a program connects."""
    return f"DASK_CONFIG={shlex.quote(str(path))} {Path(sys.executable).name}, with distributed.Client()"
