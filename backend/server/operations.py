"""What is said of each operation of the API: what it takes, what it answers, and who may ask.

The table of routes (`routes.py`) is made of these. The patterns by which requests find their
handlers and the OpenAPI description (`openapi.py`) are both worked out from it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .base import ApiHandler

Schema = dict[str, Any]


class Access(enum.Enum):
    """Who is answered; the value is a sentence for readers of the description."""

    EVERYBODY = "For everybody, without a token."
    KNOWN = "For every token that is known; what its holder may not see is left out."
    SEEN = "For tokens whose holder sees the app; for others it does not exist (404)."
    INSIDE = "For tokens whose holder sees inside of the app; who only sees that it runs is refused (403)."
    CHANGED = (
        "For tokens whose holder may change the app; others are refused (403, or 404 where it is hidden)."
    )
    OWN = "For the user's own token, and for those who act for the hub."
    OVERVIEW = "For tokens whose holder sees all apps."
    ADMINISTRATOR = "For administrators."


@dataclass(frozen=True)
class Query:
    """A parameter of the query string."""

    name: str
    schema: Schema
    description: str

    @property
    def described(self) -> Schema:
        """The parameter as OpenAPI has it."""
        return {"name": self.name, "in": "query", "description": self.description, "schema": self.schema}


@dataclass(frozen=True)
class Answer:
    """What a request that is accepted is answered with.

    Parameters
    ----------
    description
        In which case.
    body
        The type of the JSON body, or None where there is none.
    media
        Types of bodies that are not, or not only, JSON, by media type.
    headers
        Headers that this answer has beside those that all have: name and meaning.
    """

    description: str
    body: Any = None
    media: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """The types of the bodies, by media type."""
        json = {} if self.body is None else {"application/json": self.body}
        return {**json, **self.media}


@dataclass(frozen=True)
class Operation:
    """One method of one route.

    Parameters
    ----------
    answers
        What is answered to an accepted request, by status.
    body
        The type of the JSON body that the request has; None where it has none.
    refusals
        The statuses of refusals beside those that every operation has.
    negotiates
        Whether a client that takes no JSON is refused (406).
    """

    access: Access
    answers: Mapping[int, Answer]
    query: tuple[Query, ...] = ()
    body: Any = None
    refusals: tuple[int, ...] = ()
    negotiates: bool = True

    @property
    def all_refusals(self) -> list[int]:
        """Every status with which a request may be refused."""
        if self.access is Access.EVERYBODY:
            return sorted(self.refusals)
        found = {400, 401, 403, 413, 429, 503, *self.refusals}
        if self.negotiates:
            found.add(406)
        if self.body is not None:
            found |= {415, 422}
        return sorted(found)


@dataclass(frozen=True)
class Route:
    """One path of the API.

    Parameters
    ----------
    path
        As OpenAPI has it, with the parameters in braces.
    operations
        What there is, by method in capitals. A handler may have more methods than are
        named here only where the path is also that of an app (`AppHandler`).
    """

    path: str
    handler: type[ApiHandler]
    operations: Mapping[str, Operation]

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters of the path, in order."""
        return _PARAMETER.findall(self.path)

    @property
    def pattern(self) -> str:
        """The regular expression of the paths; a slash may follow."""
        return _PARAMETER.sub(lambda name: f"({PATH_PARAMETERS[name[1]].pattern})", self.path) + "/?"


@dataclass(frozen=True)
class PathParameter:
    """A parameter of the path: what it matches, and what is said of it."""

    pattern: str
    schema: Schema
    description: str


_PARAMETER = re.compile(r"\{(\w+)\}")
_ID: Schema = {"type": "string", "minLength": 1}
_SLASHES = "its slashes may be sent as they are, or as %2F"

# Ids are greedy, since they contain slashes; what may follow one comes first in the table.
PATH_PARAMETERS: Mapping[str, PathParameter] = {
    "id": PathParameter(".+?", _ID, f"The id of an app; {_SLASHES}."),
    "groupId": PathParameter(".+?", _ID, f"The id of a group; {_SLASHES}."),
    "taskId": PathParameter("[^/]+", _ID, "The id of a task."),
    "version": PathParameter("[^/]+", _ID, "A version of the app, or group: the time of an accepted change."),
    "deploymentId": PathParameter("[^/]+", _ID, "The id of a deployment."),
    "file": PathParameter(
        "stdout|stderr",
        {"type": "string", "enum": ["stdout", "stderr"]},
        "What the task wrote to which of its two outputs.",
    ),
}
