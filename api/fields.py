"""The kinds of values that fields of the API share, with the limits of Marathon's RAML types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from .ids import MAX_ID

_SEGMENT = r"(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)"
NETWORK_NAME = r"^[a-z0-9]([-a-z0-9_]*[a-z0-9])?$"
"""What the name of a network is made of; it has at most 63 characters."""

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


def _whole_as_int(number: float) -> int | float:
    return int(number) if number == int(number) else number


def is_empty(value: Any) -> bool:
    """Whether a field that Marathon leaves out of answers when it is empty is so."""
    return not value


PathId = Annotated[str, Field(pattern=rf"^(/|/?({_SEGMENT})(/({_SEGMENT}))*/?)$", max_length=MAX_ID)]
Name = Annotated[str, Field(pattern=_NAME, max_length=63)]
PortName = Annotated[str, Field(pattern=_NAME)]
"""RAML's ``LegacyName``: a `Name` of any length."""
NetworkName = Annotated[str, Field(pattern=NETWORK_NAME, max_length=63)]
Text = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""
Path = Annotated[str, Field(min_length=1, max_length=1024)]
Uri = Annotated[str, Field(min_length=1, max_length=1024)]
Labels = dict[str, str]
Port = Annotated[int, Field(ge=0, le=65535)]
Protocol = Literal["tcp", "udp", "udp,tcp"]
Scheme = Literal["HTTP", "HTTPS"]
Mode = Literal["RO", "RW"]
Unit = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Period = Annotated[int, Field(ge=1, le=2**31 - 1)]
LongCount = Annotated[int, Field(ge=0, le=2**63 - 1)]
# Bounded, since a moment that far in the future must still be a moment. Whole seconds are
# written as Marathon's own integers; parts of seconds are an extension.
Seconds = Annotated[
    float,
    Field(ge=0, le=2**31 - 1),
    PlainSerializer(_whole_as_int, return_type=int | float, when_used="json"),
]

BRANCH = "="
"""First character of the tags that tell the branches of a union apart; no field's name has it."""
