"""What every handler does: find out who asks, read and write JSON, answer errors alike."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.client import responses
from types import TracebackType
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from hubfleet.api.app import App
from hubfleet.api.ids import canonical
from hubfleet.api.wire import format_timestamp, parse_timestamp

from ..access import NOBODY, Caller, HubUnreachable, TooManyUnknown
from ..admission import Admission
from ..authenticator import Authenticator
from ..definition import parse_json
from ..metrics import Metrics
from ..orchestrator.orchestrator import Orchestrator
from ..orchestrator.refusals import ChangeRefused, Locked, NoRoom
from ..orchestrator.terms import Permit, Terms
from ..records import AppRecord, DeploymentRecord
from .answers import NotFoundHere, answer_to
from .hiding import shown_to
from .limits import HttpLimits
from .media import accepts, is_json
from .seats import Seats
from .turns import TURN_SECONDS

log = logging.getLogger("hubfleet.backend.server")


SLOW_READER_SECONDS = 60.0
"""How long a reader of a large answer may take for what fits into its buffers."""


@dataclass(frozen=True)
class Services:
    """What the handlers work with."""

    orchestrator: Orchestrator
    authenticator: Authenticator
    admission: Admission
    metrics: Metrics
    stop: Callable[[], None]
    """Ends the backend in good order; the tasks keep running."""
    open_metrics: bool = False
    """Whether the metrics are told to everybody."""
    seats: Seats = field(default_factory=Seats)
    """How many event streams there may be."""
    http: HttpLimits = field(default_factory=HttpLimits)


class ApiHandler(RequestHandler):
    """A request to the API by somebody who has said who they are."""

    services: Services
    caller: Caller = NOBODY

    def initialize(self, services: Services) -> None:
        """Take what the application has for its handlers."""
        self.services = services
        self._seen_deployments: dict[str, bool] = {}

    @property
    def orchestrator(self) -> Orchestrator:
        """The orchestrator behind the API."""
        return self.services.orchestrator

    def set_default_headers(self) -> None:
        """Set what every answer of Marathon carries."""
        self.set_header("Server", "hubfleet")
        self.set_header("Cache-Control", "no-cache, no-store, must-revalidate")
        self.set_header("Pragma", "no-cache")
        self.set_header("Expires", "0")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("X-XSS-Protection", "1; mode=block")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Marathon-Leader", f"{self.request.protocol}://{self.request.host}")

    async def prepare(self) -> None:
        """Find out who asks, before anything else."""
        await self.identify()
        self.negotiate()
        most = self.services.http.body_bytes
        if len(self.request.body) > most:
            raise HTTPError(413, reason=f"A request body has at most {most} bytes")

    def negotiate(self) -> None:
        """Refuse who does not take what there is to answer, before anything is done."""
        if not accepts(self.request.headers.get("Accept"), "application/json"):
            raise HTTPError(406)

    async def identify(self) -> None:
        """Find out who asks."""
        authorization, address = self.request.headers.get("Authorization"), self.request.remote_ip or ""
        self.caller = await self.services.authenticator.identify(authorization, address)

    def permit(self, *restarted: str) -> Permit:
        """Return what has the last word on a change: whether the caller has room for it.

        With ``failFast=true`` the machine must have room too, for as many instances as are added;
        a changed configuration takes the place of the former one.

        Parameters
        ----------
        restarted
            Apps whose tasks are replaced although their configuration stays.
        """
        within_quota = self.services.admission.permit(self.caller, restarted)
        if not self.flag("failFast"):
            return within_quota

        def also_room(targets: Mapping[str, App | None], groups: Collection[str]) -> None:
            within_quota(targets, groups)
            more: dict[str, tuple[App, int]] = {}
            for app_id, app in targets.items():
                former = self.orchestrator.state.apps.get(app_id)
                count = app.instances - (former.app.instances if former else 0) if app else 0
                if app and count > 0:
                    more[app_id] = app, count
            if more and (missing := self.orchestrator.placer.missing(more)):
                app_id, reasons = missing
                raise NoRoom(app_id, more[app_id][1], [reason.sentence for reason in reasons])

        return also_room

    async def identify_again(self) -> None:
        """Find out whether who asked a while ago still may."""
        try:
            await self.identify()
        except (HubUnreachable, TooManyUnknown):
            pass  # the hub may be away for a while, which takes nothing from anybody

    def compute_etag(self) -> None:
        """Make no tag: nothing here is to be cached."""

    # -- what every resource understands --------------------------------------------------

    def head(self, *path: Any, **named: Any) -> Any:
        """Answer as to GET, but for the body, which tornado leaves out."""
        return self.get(*path, **named)

    def options(self, *_: str) -> None:
        """Say which methods there are."""
        self.set_header("Allow", self._allowed())
        self.finish()

    def _allowed(self) -> str:
        """Return the methods that this resource has."""
        own = type(self)
        has = {
            name
            for name in self.SUPPORTED_METHODS
            if getattr(own, name.lower()) is not getattr(RequestHandler, name.lower())
        }
        if "GET" not in has:
            has.discard("HEAD")
        return ", ".join(name for name in self.SUPPORTED_METHODS if name in has)

    # -- reading ------------------------------------------------------------------------

    def json_body(self) -> Any:
        """Return the JSON value of the body; one that says to be something else is not read."""
        if self.request.body and not is_json(self.request.headers.get("Content-Type")):
            raise HTTPError(415)
        return parse_json(self.request.body)

    def moment(self, text: str) -> datetime:
        """Return the moment that a timestamp of a request means."""
        try:
            return parse_timestamp(text)
        except ValueError as error:
            raise ChangeRefused(str(error)) from None

    def terms(self, *restarted: str) -> Terms:
        """Return on which terms the caller's change is taken: within the quotas, counted for the caller.

        Parameters
        ----------
        restarted
            Apps whose tasks are replaced although their configuration stays.
        """
        return Terms(self.permit(*restarted), self.caller.share, self.caller.sees)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean of the query string; what is not "true" in some spelling is false."""
        value = self.get_query_argument(name, None)
        return default if value is None else value.lower() == "true"

    def visible_app(self, path: str) -> AppRecord:
        """Return an app; one that the caller may not see does not exist."""
        app_id = canonical(path)
        record = self.orchestrator.state.apps.get(app_id)
        if record is None or not self.caller.sees(app_id):
            raise NotFoundHere(f"App '{app_id}' does not exist")
        return record

    def sees_deployment(self, deployment_id: str) -> bool:
        """Whether a deployment exists for the caller: all apps that it affects do."""
        deployment = self.orchestrator.state.deployments.get(deployment_id)
        if deployment is None:
            return False
        # Asked for each app of a list, where one deployment may affect a thousand of them.
        if deployment_id not in self._seen_deployments:
            seen = self.caller.sees_all or all(map(self.caller.sees, deployment.affected_apps))
            self._seen_deployments[deployment_id] = seen
        return self._seen_deployments[deployment_id]

    # -- writing ------------------------------------------------------------------------

    def write_json(self, body: Any, status: int = 200) -> None:
        """Finish with a JSON value."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(shown_to(self.caller, body), separators=(",", ":")))

    async def write_pieces(self, pieces: Iterable[str]) -> None:
        """Finish with JSON that comes in pieces, so that a large answer holds up nobody.

        The pieces are made as they are sent, and no faster than the reader takes them.
        """
        self.set_header("Content-Type", "application/json")
        hidden: list[str] = []
        write = hidden.append if self.caller.hides else self.write
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + TURN_SECONDS
        try:
            for piece in pieces:
                write(piece)
                if loop.time() >= turn_ends:
                    async with asyncio.timeout(SLOW_READER_SECONDS):
                        if not self.caller.hides:
                            await self.flush()
                    await asyncio.sleep(0)
                    turn_ends = loop.time() + TURN_SECONDS
            # What is hidden is found in whole values; that is left to a thread, since there may be many.
            self.finish(await asyncio.to_thread(self._shown, "".join(hidden)) if hidden else None)
        except (StreamClosedError, TimeoutError):
            # The reader has gone, or does not read: nothing can be finished in good order.
            self.detach().close()

    def _shown(self, text: str) -> str:
        return json.dumps(shown_to(self.caller, json.loads(text)), separators=(",", ":"))

    def write_deployment(self, deployment: DeploymentRecord, status: int = 200) -> None:
        """Finish with the answer to an accepted change."""
        self.set_header("Marathon-Deployment-Id", deployment.id)
        version = format_timestamp(deployment.version)
        self.write_json({"version": version, "deploymentId": deployment.id}, status)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Finish with the answer to an error."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, sqlite3.Error) and not self.orchestrator.failed.done():
            # Memory may be ahead of the store now; the next life of the backend reads the truth.
            self.orchestrator.failed.set_exception(error)
        if isinstance(error, Locked):
            # Of a deployment of others as well one does not even hear the id.
            error.deployment_ids = [each for each in error.deployment_ids if self.sees_deployment(each)]
        status, body = answer_to(error) or (status_code, {"message": responses.get(status_code, "")})
        if isinstance(error, TooManyUnknown):
            self.set_header("Retry-After", str(error.seconds))
        if status == 405:
            self.set_header("Allow", self._allowed())
        if status == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="hubfleet", token')
        self.write_json(body, status)

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log a refusal as a line, a fault of ours with its traceback."""
        answer = answer_to(value)
        if answer is None:
            log.error("%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb))  # type: ignore[arg-type]
        else:
            log.info("%s %s: %d %s", self.request.method, self.request.path, answer[0], answer[1]["message"])


class UnknownHandler(ApiHandler):
    """Answers for paths that the API does not have."""

    async def prepare(self) -> None:
        """Refuse, whoever asks."""
        raise NotFoundHere(f"URI not found: {self.request.path}")
