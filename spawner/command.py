"""What ``/bin/sh`` runs for a server: directories and certificates, then the server in the shell's place.

Pure. Everything that comes from names or configuration is quoted; what the shell expands are the port that
the backend gave the task, and the places that it has itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from shlex import quote

TLS_VARIABLES = ("HUBFLEET_TLS_KEY", "HUBFLEET_TLS_CERT", "HUBFLEET_TLS_CA")
"""Variables in which a server gets its key, its certificate and the authorities that it trusts, as PEM."""

# Where the server looks for the paths of these files (``jupyterhub/spawner.py``, ``get_env``).
_TLS_FILES = ("JUPYTERHUB_SSL_KEYFILE", "JUPYTERHUB_SSL_CERTFILE", "JUPYTERHUB_SSL_CLIENT_CA")
_TLS_DIRECTORY = '"${MESOS_SANDBOX:-$PWD}"/.hubfleet-tls'


def shell_line(
    command: Sequence[str],
    listen_ip: str = "",
    home_dir: str = "",
    root_dir: str = "",
    port: int = 0,
    writes_certificates: bool = False,
) -> str:
    """Return what ``/bin/sh -c`` runs in the sandbox: make the directories, then become the server.

    Parameters
    ----------
    command
        Program and arguments. As an exception a single word that holds ``$PORT0`` is a line for the shell,
        as the old spawner had it: it is left as it is, and nothing is added to it.
    listen_ip
        Address that the server binds; empty for all.
    home_dir, root_dir
        Directories that are made (mode 0700); the first is entered.
    port
        That the server listens at; 0 for ``$PORT0``, the one that the backend gives the task. The command
        line is where jupyterhub-singleuser lets it win over ``JUPYTERHUB_SERVICE_URL``, which is written
        before any port is known.
    writes_certificates
        Whether the task finds its certificates in `TLS_VARIABLES`. They become files that its account
        alone can read, and the variables are gone before the server starts.

    Raises
    ------
    ValueError
        The command is empty, or a directory is not one that can be made.
    """
    if not command:
        raise ValueError("c.Spawner.cmd is empty; it names the program of the server")
    if home_dir and not home_dir.startswith("/"):
        raise ValueError(f"c.MarathonSpawner.home_dir is a path from the root, got {home_dir!r}")
    steps = _certificates() if writes_certificates else []
    steps += [
        f"mkdir -p -m 0700 -- {_shell_path(path)}"
        for path in dict.fromkeys([home_dir, root_dir])
        if path and (path == "~" or not re.match(r"~[^/]", path))
    ]
    if home_dir:
        steps.append(f"cd -- {_shell_path(home_dir)}")
    line = " && ".join([*steps, _server(command, listen_ip, port)])
    if "\0" in line:
        raise ValueError("neither the server's command nor its directories may hold a NUL character")
    return line


def _server(command: Sequence[str], listen_ip: str, port: int) -> str:
    if len(command) == 1 and "$PORT0" in command[0]:
        return command[0]
    words = ["exec", *map(quote, command)]
    if listen_ip:
        words.append(f"--ip={quote(listen_ip)}")
    words.append(f"--port={port or '$PORT0'}")
    return " ".join(words)


def _certificates() -> list[str]:
    """Return steps that write the certificates; ``printf`` is the shell's own, no process sees its words."""
    files = [f"{_TLS_DIRECTORY}/{name.rpartition('_')[2].lower()}.pem" for name in TLS_VARIABLES]
    writes = [f'printf %s "${name}" > {file}' for name, file in zip(TLS_VARIABLES, files, strict=True)]
    exports = [f"export {name}={file}" for name, file in zip(_TLS_FILES, files, strict=True)]
    return [
        f"(umask 077 && mkdir -p -- {_TLS_DIRECTORY} && {' && '.join(writes)})",
        *exports,
        f"unset {' '.join(TLS_VARIABLES)}",
    ]


def _shell_path(path: str) -> str:
    if path == "~":
        return '"$HOME"'
    return f'"$HOME"/{quote(path[2:])}' if path.startswith("~/") else quote(path)
