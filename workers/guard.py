"""Keeps the dashboards of workers and schedulers to their owner: a preload for ``dask worker``.

A dashboard asks nobody who they are, and a port of 127.0.0.1 is open to all users of the machine. But
the kernel knows whose the other end of a connection within the machine is (``proc(5)``, net/tcp), so
connections of other accounts are closed unanswered, and those of other machines too. What is left is
the owner's own processes, the notebook server among them: through it, and so through the hub's
login, jupyter-server-proxy leads to a dashboard. Where all users share one account nothing on the
machine keeps them apart, and neither does this.

This module imports nothing of hubfleet: every worker pays for what stands here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

log = logging.getLogger("distributed.dashboard.guard")

_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_LOCAL, _REMOTE, _STATE, _OWNER = 1, 2, 3, 7  # columns of proc(5)
_ESTABLISHED = "01"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MAPPED = b"\0" * 10 + b"\xff\xff"  # an IPv4 address in an IPv6 socket


async def dask_setup(server: Any) -> None:
    """Guard the HTTP server of a worker; called by distributed when it has started."""
    protect(server)


def protect(server: Any) -> None:
    """Have the HTTP server of a worker or scheduler answer nobody but this account, and root."""
    http_server = getattr(server, "http_server", None)
    if http_server is None:
        return
    answer = http_server.handle_stream
    welcome = {os.geteuid(), 0}

    async def guarded(stream: Any, address: Any) -> None:
        # Read in a thread: on a machine with many connections the table is long.
        connection = stream.socket
        owner = None
        if connection is not None:
            owner = await asyncio.to_thread(owner_of_peer, connection)
        if may_come(owner, welcome):
            answer(stream, address)
        else:
            log.info(
                "a connection of %s to the dashboard is not answered", "nobody" if owner is None else owner
            )
            stream.close()

    http_server.handle_stream = guarded


def protect_local(server: Any, dashboard_address: str) -> None:
    """Guard a dashboard that listens on this machine only; another one is meant to be seen by others."""
    if dashboard_address.rpartition(":")[0] in _LOOPBACK:
        protect(server)


def may_come(owner: int | None, welcome: Collection[int]) -> bool:
    """Whether the account at the other end is answered; None is nobody of this machine."""
    return owner is not None and owner in welcome


def owner_of_peer(connection: socket.socket) -> int | None:
    """Return the account that has the other end of a connection; None if that is elsewhere, or gone."""
    try:
        ours, theirs = connection.getsockname(), connection.getpeername()
    except OSError:
        return None
    wanted = [
        (_written(form), _written(other)) for form, other in zip(_forms(theirs), _forms(ours), strict=True)
    ]
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue  # no IPv6 here
        for line in lines:
            columns = line.split()
            if columns[_STATE] == _ESTABLISHED and (columns[_LOCAL], columns[_REMOTE]) in wanted:
                return int(columns[_OWNER])
    return None


def _forms(address: tuple[Any, ...]) -> list[tuple[bytes, int]]:
    """Return an address as an IPv4 and as an IPv6 socket has it, where there are two ways."""
    host, port = str(address[0]).partition("%")[0], int(address[1])
    if ":" not in host:
        packed = socket.inet_pton(socket.AF_INET, host)
        return [(packed, port), (_MAPPED + packed, port)]
    packed = socket.inet_pton(socket.AF_INET6, host)
    if packed.startswith(_MAPPED):
        return [(packed[len(_MAPPED) :], port), (packed, port)]
    return [(packed, port)]


def _written(form: tuple[bytes, int]) -> str:
    """Return an address as the kernel's tables have it: words in the machine's own order, in hexadecimal."""
    packed, port = form
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
