"""Names in templates: how the names of people become parts of paths, volumes and addresses. Pure.

No choice of a name reaches what is another's: a name that could climb, or mean something to what reads
the filled template, is replaced by a text that nobody else gets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hubfleet.api.ids import segment

# The first character rules out "." and "..", "--x-" what `segment` may return: so a name that
# is kept never meets one that was replaced.
_PLAIN_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")


class Part(str):
    """A text that is one part of a path already."""

    __slots__ = ()


def names_of(user: str, server: str) -> dict[str, str]:
    """Return the names that templates have beside JupyterHub's own.

    ``servername`` is the hub's, as ``username`` is. The others are legal everywhere (`segment`), and
    no two users, servers, or pairs of both share one.
    """
    user_segment, server_segment = Part(segment(user)), Part(segment(server) if server else "")
    return {
        "servername": server,
        "user_segment": user_segment,
        "server_segment": server_segment,
        "escaped_username": user_segment,
        "escaped_servername": server_segment,
        # A name holds no "/", so the text tells both names apart however they are made.
        "user_server": Part(segment(f"{user_segment}/{server_segment}")) if server else user_segment,
    }


def path_part(value: str) -> str:
    """Return one part of a path, or the name of a volume, that stands for a text and for no other.

    A text that is harmless as it stands is kept (``alice``, ``alice@example.org``);
    any other becomes its `segment`, so that none climbs (``..``, ``/``) or meets another.
    """
    if isinstance(value, Part):
        return value
    if _PLAIN_PART.fullmatch(value) and "--x-" not in value:
        return value
    return segment(value) if value else ""


def path_namespace(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template's names with each text made a `path_part`."""
    return {name: path_part(value) if isinstance(value, str) else value for name, value in namespace.items()}


def url_namespace(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template's names with each text made a part of an address that holds nothing else."""
    return {
        name: quote(path_part(value), safe="") if isinstance(value, str) else value
        for name, value in namespace.items()
    }


def format_volumes(
    volumes: Sequence[Mapping[str, Any]], format_name: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return Marathon volume objects whose paths and external name are filled in."""
    formatted = []
    for volume in volumes:
        copy = dict(volume)
        for key in ("containerPath", "hostPath"):
            if copy.get(key):
                copy[key] = format_name(copy[key])
        if isinstance(copy.get("external"), Mapping) and copy["external"].get("name"):
            copy["external"] = {**copy["external"], "name": format_name(copy["external"]["name"])}
        formatted.append(copy)
    return formatted


def format_fetch(
    entries: Sequence[str | Mapping[str, Any]], format_uri: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return Marathon fetch objects, of which an address alone is the short form."""
    whole = [{"uri": entry} if isinstance(entry, str) else dict(entry) for entry in entries]
    return [{**entry, "uri": format_uri(entry["uri"])} if entry.get("uri") else entry for entry in whole]
