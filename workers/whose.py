"""Which scheduler is meant: an address, or one of Dask's objects that has one."""

from __future__ import annotations

from typing import Any

from distributed import Security
from distributed.comm.addressing import parse_address

from .checks import text
from .tls import encrypts


def scheduler_of(given: Any) -> tuple[str, Security | None]:
    """Return the address of a scheduler, and the encryption of the object it was taken from.

    Parameters
    ----------
    given
        An address such as ``"tcp://10.0.0.1:8786"``, or a `distributed.Scheduler`, ``Client`` or
        ``Cluster`` that has started.

    Raises
    ------
    TypeError, ValueError
        It is none of these, or has not started.
    """
    if isinstance(given, str):
        return text("scheduler", given), None
    # A client's `scheduler` is its connection to one; a cluster's may be the scheduler itself.
    scheduler = getattr(given, "scheduler", None)
    for holder, name in ((given, "scheduler_address"), (given, "address"), (scheduler, "address")):
        address = getattr(holder, name, None)
        if isinstance(address, str) and "://" in address:
            security = getattr(given, "security", None)
            return address, security if isinstance(security, Security) else None
    if hasattr(given, "scheduler") or hasattr(given, "address"):
        raise ValueError(f"the {type(given).__name__} has no address yet: start it, or await it, first")
    raise TypeError(
        f"scheduler must be an address, a Scheduler, a Client or a Cluster, got {type(given).__name__}"
    )


def check_reachable(address: str, security: Security) -> None:
    """Refuse an address that no worker could use.

    Raises
    ------
    ValueError
        It is none, or it is encrypted and no certificates are there for it, or the other way round.
    """
    try:
        scheme, _ = parse_address(address, strict=True)
    except ValueError:
        raise ValueError(
            f"scheduler must be an address such as 'tcp://10.0.0.1:8786', got {address!r}"
        ) from None
    if scheme == "inproc":
        raise ValueError(f"the scheduler {address} is inside of one process, where no worker can reach it")
    if scheme == "tls" and not encrypts(security):
        raise ValueError(f"the scheduler {address} is encrypted: pass its certificates as security=")
    if scheme == "tcp" and encrypts(security) and security.require_encryption:
        raise ValueError(f"the scheduler {address} is not encrypted, and security requires that it is")
