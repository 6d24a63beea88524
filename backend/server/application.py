"""Which path is answered by which handler."""

from __future__ import annotations

import logging

from tornado.web import RequestHandler

from .apps import AppHandler, AppsHandler, RestartHandler
from .base import ApiHandler, Services, UnknownHandler
from .deployments import DeploymentHandler, DeploymentsHandler
from .files import FileHandler
from .groups import GroupAppsHandler, GroupHandler
from .history import AppHistoryHandler, TaskHistoryHandler
from .limits import LimitedApplication
from .metrics import MetricsHandler, PrometheusHandler
from .queue import QueueDelayHandler, QueueHandler
from .quota import QuotaHandler
from .stream import EventsHandler
from .system import InfoHandler, LeaderHandler, LoggingHandler, PingHandler, PluginsHandler
from .tasks import AppTaskHandler, AppTasksHandler, KillTasksHandler, TasksHandler
from .versions import VersionHandler, VersionsHandler

log = logging.getLogger("hubfleet.backend.access_log")


def make_application(services: Services) -> LimitedApplication:
    """Return the API as a tornado application."""
    own = {"services": services}
    application = LimitedApplication(
        [
            ("/ping/?", PingHandler, own),
            ("/metrics/?", MetricsHandler, own),
            ("/metrics/prometheus/?", PrometheusHandler, own),
            ("/logging/?", LoggingHandler, own),
            ("/v2/info/?", InfoHandler, own),
            ("/v2/leader/?", LeaderHandler, own),
            ("/v2/plugins/?", PluginsHandler, own),
            ("/v2/apps/?", AppsHandler, own),
            # Ids are greedy, since they contain slashes; what may follow one comes first.
            ("/v2/apps/(.+)/restart/?", RestartHandler, own),
            ("/v2/apps/(.+)/tasks/?", AppTasksHandler, own),
            ("/v2/apps/(.+)/tasks/([^/]+)/?", AppTaskHandler, own),
            ("/v2/apps/(.+)/versions/?", VersionsHandler, own),
            ("/v2/apps/(.+)/versions/([^/]+)/?", VersionHandler, own),
            ("/v2/apps/(.+?)/?", AppHandler, own),
            ("/v2/tasks/?", TasksHandler, own),
            ("/v2/tasks/([^/]+)/files/(stdout|stderr)", FileHandler, own),
            ("/v2/tasks/([^/]+)/history/?", TaskHistoryHandler, own),
            ("/v2/history/apps/(.+?)/?", AppHistoryHandler, own),
            ("/v2/groups/?", GroupHandler, own),
            ("/v2/groups/(.*)/apps/?", GroupAppsHandler, own),
            ("/v2/groups/(.+?)/?", GroupHandler, own),
            ("/v2/tasks/delete/?", KillTasksHandler, own),
            ("/v2/deployments/?", DeploymentsHandler, own),
            ("/v2/deployments/([^/]+)", DeploymentHandler, own),
            ("/v2/queue/?", QueueHandler, own),
            ("/v2/queue/(.+)/delay/?", QueueDelayHandler, own),
            ("/v2/events/?", EventsHandler, own),
            ("/hubfleet/quota/?", QuotaHandler, own),
        ],
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
