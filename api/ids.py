"""App ids: how the names of people and servers become places in the tree of apps.

Two different names never meet in one id. That is a security property (an id
decides whose server is stopped, routed or read), and it rests on one function,
`segment`, and on the fixed words between the segments.
"""

from __future__ import annotations

import base64
import hashlib
import re

from .errors import NameRefused

MAX_SEGMENT = 63
"""Longest segment: the limit of a DNS label, which Marathon's service discovery makes of it."""

_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_HASH_LENGTH = 26  # base32 digits: 130 bits, so that nobody finds two names for one hash
_SEPARATOR = "--x-"
_READABLE = MAX_SEGMENT - _HASH_LENGTH - len(_SEPARATOR)
# Marathon refuses an app whose last segment is one of these (1.8 and later).
_RESERVED = frozenset({"restart", "tasks", "versions"})

# `[a-z0-9.-]` segments of Marathon's id pattern, marathon-v2 section 2.
_MARATHON_SEGMENT = re.compile(
    r"(?:(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])\.)*(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])"
)
MAX_ID = 190
"""Longest app id that is taken: task ids, which extend it by up to 60, are file names (255 bytes)."""


def segment(name: str) -> str:
    """Return the path segment of an app id that stands for a name.

    Injective: two different names give two different segments. A name that is
    legal as it stands is kept (``alice`` stays ``alice``); of every other the
    readable part is kept and a hash of the whole name added, behind a
    separator that no kept name contains.

    Parameters
    ----------
    name
        Any non-empty text.

    Returns
    -------
    str
        1 to 63 characters of ``[a-z0-9-]``, neither first nor last a dash,
        legal for Marathon and as a DNS label.

    Raises
    ------
    NameRefused
        The name is empty.
    """
    if not name:
        raise NameRefused("a name in an app id must have at least one character, got an empty one")
    legal = _PLAIN.fullmatch(name) is not None and len(name) <= MAX_SEGMENT
    if legal and _SEPARATOR not in name and name not in _RESERVED:
        return name
    hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    digest = base64.b32encode(hashed).decode("ascii").lower()[:_HASH_LENGTH]
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_READABLE].strip("-")
    return f"{readable or 'x'}{_SEPARATOR}{digest}"


def user_path(prefix: str, user: str) -> str:
    """Return the group that holds everything of one user: ``/<prefix>/<user>``."""
    return f"{canonical(prefix)}/{segment(user)}"


def server_app_id(prefix: str, user: str, server: str = "") -> str:
    """Return the app id of a user's server; the empty server name is the default server."""
    root = user_path(prefix, user)
    return f"{root}/servers/{segment(server)}" if server else f"{root}/notebook"


def dask_path(prefix: str, user: str) -> str:
    """Return the group in which a user's own credential may make apps."""
    return f"{user_path(prefix, user)}/dask"


def cluster_path(dask_root: str, cluster: str) -> str:
    """Return the group that holds the apps of one Dask cluster."""
    return f"{canonical(dask_root)}/{segment(cluster)}"


def workers_app_id(dask_root: str, cluster: str, group: str = "") -> str:
    """Return the id of the workers' app of one cluster, or of a further group of workers in it."""
    root = cluster_path(dask_root, cluster)
    return f"{root}/groups/{segment(group)}" if group else f"{root}/workers"


def scheduler_app_id(dask_root: str, cluster: str) -> str:
    """Return the id of the app that is the scheduler of one cluster."""
    return f"{cluster_path(dask_root, cluster)}/scheduler"


def canonical(app_id: str) -> str:
    """Return an id with exactly one leading slash and no trailing one; the root is ``""``."""
    stripped = app_id.strip("/")
    return f"/{stripped}" if stripped else ""


def resolved(path: str, base: str = "") -> str:
    """Return the absolute id that a path means, seen from a base; ``.`` and ``..`` are followed.

    As in a file system: ``../db`` seen from ``/product/app`` is ``/product/db``, and nothing
    is above the root. The root is ``""``.
    """
    parts = [] if path.startswith("/") else [part for part in base.split("/") if part]
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "".join(f"/{part}" for part in parts)


def is_legal(app_id: str) -> bool:
    """Whether Marathon would take this absolute id for an app (``marathon-v2`` section 2)."""
    if not app_id.startswith("/") or len(app_id) > MAX_ID:
        return False
    return all(_MARATHON_SEGMENT.fullmatch(part) for part in app_id[1:].split("/"))


def is_within(app_id: str, group: str) -> bool:
    """Whether an app id lies in a group, at any depth; a group does not lie in itself."""
    return app_id.startswith(canonical(group) + "/")
