"""The one hierarchy of errors; each message says what was asked, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class HubfleetError(Exception):
    """Anything that hubfleet raises on purpose."""


class NameRefused(HubfleetError, ValueError):
    """A user, server or cluster name from which no app id can be made."""


class ClientClosed(HubfleetError, RuntimeError):
    """The client has been closed, or this process ends: nothing is asked any more."""


class BackendError(HubfleetError):
    """The backend did not do what it was asked."""


class BackendUnreachable(BackendError):
    """No backend answered, or it answered that it cannot now: the state of things is *unknown*."""


class RequestRefused(BackendError):
    """The backend answered, and the answer is no.

    Parameters
    ----------
    message
        The backend's sentence.
    status
        HTTP status of the answer, 400 to 499.
    details
        The ``details`` of the answer's body, if any: a string, or a list of
        ``{"path": ..., "errors": [...]}``.
    """

    def __init__(self, message: str, status: int, details: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.details = details

    def __str__(self) -> str:
        sentence = super().__str__()
        if isinstance(self.details, str):
            return f"{sentence}: {self.details}"
        if isinstance(self.details, list):
            parts = [
                f"{detail.get('path', '/')}: {'; '.join(map(str, detail.get('errors', [])))}"
                for detail in self.details
                if isinstance(detail, dict)
            ]
            return f"{sentence} ({', '.join(parts)})" if parts else sentence
        return sentence


class AccessDenied(RequestRefused):
    """401 or 403: no credential, or one that may not do this."""


class TooManyDeployments(AccessDenied):
    """403 of another kind: as many changes are under way as the server allows; later it will be taken."""


class NotFound(RequestRefused):
    """404: there is no such app, task or deployment, or none that this credential may see."""


class Conflict(RequestRefused):
    """409: the name is taken, or another deployment holds the app (`Locked`)."""


class Locked(Conflict):
    """409 of another kind: a deployment holds the app; it is let go later, or by ``force``.

    Parameters
    ----------
    message, status, details
        As of `RequestRefused`.
    deployments
        The ids of those that hold it, as far as the answer names them.
    """

    def __init__(
        self, message: str, status: int, details: Any = None, deployments: Sequence[str] = ()
    ) -> None:
        super().__init__(message, status, details)
        self.deployments = tuple(deployments)
