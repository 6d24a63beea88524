"""Which path is answered by which handler."""

from __future__ import annotations

import functools
import json
import logging

from tornado.web import RequestHandler

from .base import ApiHandler, Services, UnknownHandler
from .limits import LimitedApplication
from .openapi import describe
from .routes import ROUTES
from .stream import EventsHandler
from .system import API_LEVEL

log = logging.getLogger("hubfleet.backend.access_log")


def make_application(services: Services) -> LimitedApplication:
    """Return the API as a tornado application."""
    own = {"services": services}

    @functools.cache
    def description() -> bytes:
        return json.dumps(describe(ROUTES, API_LEVEL, services.open_metrics)).encode()

    application = LimitedApplication(
        [(route.pattern, route.handler, own) for route in ROUTES],
        description=description,
        default_handler_class=UnknownHandler,
        default_handler_args=own,
        log_function=_log_request,
        compress_response=False,
    )
    application.body_bytes = services.http.body_bytes
    return application


def _log_request(handler: RequestHandler) -> None:
    request = handler.request
    if isinstance(handler, ApiHandler) and not isinstance(handler, EventsHandler):
        measured = handler.services.metrics.requests
        measured.labels(request.method, handler.get_status()).observe(request.request_time())
    log.debug(
        "%d %s %s %.1f ms", handler.get_status(), request.method, request.path, 1000 * request.request_time()
    )
