"""Who listens at a server's port: the server's own account, or somebody who was quicker.

Between the choice of a port and the server's own `listen` any process of the machine can take the port, and
what it answers would be taken for the server's. Linux tells everybody the account of each socket, so a hub on
the machine of its servers can see whom it would send its users to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import pwd
import socket
import struct

from hubfleet.api.app import App

log = logging.getLogger("hubfleet.spawner.listeners")

# linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h
_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST = 4, 20, 1
_TCP_LISTEN = 10
_NO_COOKIE = 0xFFFFFFFF
_HEAD = struct.Struct("=IHHII")  # struct nlmsghdr
_PLACE = struct.Struct("!HH16s16s3I")  # struct inet_diag_sockid
_ANSWER_SECONDS = 1.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def stranger_at(host: str, port: int, app: App) -> str | None:
    """Return the account that listens at a server's place and is not the server's own.

    None also where that cannot be told: the server is of no named account, in a container, or on
    another machine, or nobody listens there.
    """
    if not app.user or (app.container is not None and app.container.docker is not None):
        return None
    # Names of hosts and of accounts may be somewhere in the network.
    return await asyncio.to_thread(_stranger, host, port, app.user)


def _stranger(host: str, port: int, account: str) -> str | None:
    try:
        uid = pwd.getpwnam(account).pw_uid
        for *_, place in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
            address = ipaddress.ip_address(str(place[0]))
            listener = listener_at(address, port) if _is_of_this_machine(address) else None
            if listener is not None and listener != uid:
                return _name(listener)
    except (KeyError, OSError) as error:
        log.debug("cannot tell who listens at %s:%d: %r", host, port, error)
    return None


def listener_at(address: Address, port: int) -> int | None:
    """Return the uid of the socket to which the kernel would give a connection; None if there is none.

    The kernel is asked for just this one (sock_diag(7)); its table in ``/proc/net`` has all, and takes
    milliseconds to read where many listen.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    place = _PLACE.pack(port, 0, address.packed, b"", 0, _NO_COOKIE, _NO_COOKIE)
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN) + place
    head = _HEAD.pack(_HEAD.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(_ANSWER_SECONDS)
        kernel.send(head + body)
        answer = kernel.recv(4096)
    _, kind, *_ = _HEAD.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None  # an error, such as that there is none
    state = answer[_HEAD.size + 1]
    uid = struct.unpack_from("=I", answer, _HEAD.size + 4 + _PLACE.size + 12)[0]
    return int(uid) if state == _TCP_LISTEN else None


def _is_of_this_machine(address: Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
