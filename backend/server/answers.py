"""Refusals and failures as Marathon answers them: one place, every status (``marathon-v2`` 0.1)."""

from __future__ import annotations

import sqlite3
from http.client import responses
from typing import Any

from tornado.web import HTTPError

from ..access import Forbidden, HubUnreachable, TooManyUnknown, Unidentified
from ..admission import QuotaExceeded, TooMuch
from ..definition import EmptyBody, NotJson, WrongShape
from ..orchestrator.refusals import (
    AppExists,
    ChangeRefused,
    Locked,
    NoRoom,
    NoSuchApp,
    NoSuchDeployment,
    NoSuchPath,
    NotValid,
    TooManyDeployments,
    TooManyOfShare,
)
from .seats import NoSeat

Answer = tuple[int, dict[str, Any]]


class NotFoundHere(Exception):
    """404 with a sentence of Marathon's."""


class Conflict(Exception):
    """409 with a sentence."""


class BadRequest(Exception):
    """400 with a sentence."""


def answer_to(error: BaseException | None) -> Answer | None:
    """Return the status and body for an error, or None for one that is a fault of ours."""
    match error:
        case EmptyBody():
            return 400, {"message": "Please specify data in JSON format", "details": str(error)}
        case NotJson():
            return 400, {"message": "Invalid JSON", "details": str(error)}
        case BadRequest():
            return 400, {"message": str(error)}
        case Unidentified():
            return 401, {"message": str(error)}
        case Forbidden() | TooManyDeployments() | TooManyOfShare():
            return 403, {"message": str(error)}
        case QuotaExceeded():
            return 403, {"message": str(error), "details": error.details}
        case TooMuch():
            return 403, {"message": str(error)}
        case NotFoundHere() | NoSuchApp() | NoSuchDeployment() | NoSuchPath():
            return 404, {"message": str(error)}
        case Locked():
            return 409, {
                "message": str(error),
                "deployments": [{"id": deployment_id} for deployment_id in error.deployment_ids],
            }
        case AppExists() | NoRoom() | Conflict():
            return 409, {"message": str(error)}
        case WrongShape():
            return 422, {"message": "Invalid JSON", "details": error.details}
        case NotValid():
            return 422, {"message": "Object is not valid", "details": _by_path(error)}
        case ChangeRefused():
            return 422, {"message": str(error)}
        case TooManyUnknown():
            return 429, {"message": str(error)}
        case NoSeat():
            return error.status, {"message": str(error)}
        case HubUnreachable():
            return 503, {"message": str(error)}
        case sqlite3.Error():
            return 503, {"message": f"the backend cannot write its state: {error}"}
        case HTTPError():
            return error.status_code, {"message": error.reason or responses.get(error.status_code, "")}
    return None


def _by_path(refusal: NotValid) -> list[dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for violation in refusal.violations:
        found.setdefault(violation.path, []).append(violation.error)
    return [{"path": path, "errors": errors} for path, errors in found.items()]
