"""The life of a server, as JupyterHub asks for it: start, stop, rename, delete.

Whatever comes of a stop, JupyterHub forgets the server afterwards (``user.py``). So what cannot be
deleted now is handed to the reaper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from hubfleet.api.app import App, Container, Network
from hubfleet.api.ids import canonical, server_app_id

from .build import Server, api_path
from .errors import StartRefused
from .launch import Launch
from .progress import ProgressLog
from .running import RunningServer
from .stopping import delete_and_wait, delete_if_ours
from .storage import (
    StorageError,
    belongs_to,
    delete_command,
    is_of_server,
    move_command,
    run_to_end,
    template_of,
)
from .submission import Submission
from .templates import format_volumes, names_of, path_namespace

_CLEAN_UP_SECONDS = 5.0
# JupyterHub gives a start that a user cancels one second to end (`apihandlers/users.py`).
_CANCELLED_CLEAN_UP_SECONDS = 0.5
_CHORE_SECONDS = 30.0


class ServerLife(RunningServer):
    """A server that is an app on a Marathon API, whatever the app is made of."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._told = ProgressLog()

    async def app_to_submit(self) -> App:
        """Return the app of this server, as it is to run now."""
        raise NotImplementedError

    def clear_state(self) -> None:
        """Forget the server, and what was told of its last start."""
        super().clear_state()
        self._told = ProgressLog()

    # -- start ------------------------------------------------------------------------

    async def start(self) -> str:
        """Submit the server's app and return its address when it answers.

        Raises
        ------
        hubfleet.spawner.errors.StartRefused
            It cannot start; the message says why. No app is left behind.
        """
        self._exit_status = None
        self._starting = True
        told = self._told = ProgressLog() if self._told.closed else self._told
        try:
            return await self._launch(told)
        except BaseException:
            self._exit_status = 1
            raise
        finally:
            self._starting = False
            told.close()

    async def _launch(self, told: ProgressLog) -> str:
        clock = asyncio.get_running_loop().time
        # Before JupyterHub's own patience ends, which would not say what was waited for: it takes up to two
        # seconds to ask for the output of a start that is too late, and half of the margin to clean up.
        margin = min(5.0, 0.1 * self.start_timeout)
        ends_at = clock() + self.start_timeout - margin
        app = await self.app_to_submit()
        self._app_id, self._group = app.id, canonical(self.app_prefix)
        self._is_surely_ours = True  # or the launch refuses, and is not asked again
        self._backend = self._backend_now if self._backend_now in self.other_backends else ""
        self._unlink()  # overrides that were undone change a link without a word
        self._store_state()
        link = self._link()
        await link.reaper.spare(app.id)
        launch = Launch(
            Submission(link, app, told, is_ours=self.is_ours),
            api_path=api_path(self._base_path),
            tls=self._tls,
            most_failures=self.start_failures,
            secrets=(self.api_token,),
            patience=self.start_timeout,
        )
        try:
            address = await launch.run(ends_at - clock())
        except BaseException as error:
            deletion = link.reaper.condemn(app.id, after=launch.settled())
            rest = min(max(0.5 * margin, ends_at - clock()), _CLEAN_UP_SECONDS)
            if isinstance(error, asyncio.CancelledError):
                rest = min(rest, _CANCELLED_CLEAN_UP_SECONDS)
            await asyncio.wait({deletion}, timeout=rest)
            raise
        self._task_id = launch.task_id or ""
        return address

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the user reads while the server starts; any number of pages may listen."""
        async for message in self._told.follow():
            yield message

    # -- stop -------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """Delete the server's app and return when its processes have ended.

        Parameters
        ----------
        now
            Return as soon as the backend has agreed.
        """
        link, app_id = self._link(), self.app_id
        # An app that is known only by its place is looked at first: it may be another hub's.
        after = None if self._is_surely_ours else delete_if_ours(link, app_id, self.is_ours)
        if not await delete_and_wait(link, app_id, now, after):
            self.log.error(
                "%s is not known to have stopped; its app %s is deleted as soon as the backend agrees, "
                "by this hub or by the next one",
                self._log_name,
                app_id,
            )
        self._exit_status = 0

    # -- for good ---------------------------------------------------------------------

    async def delete_forever(self) -> None:
        """Remove the app, should there still be one, and with `delete_storage` what the server stored.

        Notes
        -----
        JupyterHub deletes the server whatever comes of this. What could not be deleted is in its log.
        """
        link, server = self._link(), self.name
        link.reaper.condemn(self.app_id, after=delete_if_ours(link, self.app_id, self.is_ours))
        if not self.delete_storage:
            return
        home = self.format_path(self.home_dir) if belongs_to(self.home_dir, server) else ""
        volumes = [volume for volume in self.volumes if belongs_to(template_of(volume), server)]
        if not home and not volumes:
            return
        mounts = [self.format_volume_name(volume["containerPath"], self) for volume in volumes]
        try:
            await run_to_end(
                link, self._chore("delete", delete_command(home, mounts), volumes), _CHORE_SECONDS
            )
        except StorageError as error:
            places = ", ".join([*filter(None, [home]), *map(self.format_path, map(template_of, volumes))])
            self.log.error("The storage of %s (%s) is not deleted: %s", self._log_name, places, error)

    async def rename(self, old_name: str, new_name: str) -> None:
        """Let a stopped server have another name; a home or volume of its old name is moved.

        Raises
        ------
        StartRefused
            It cannot be moved; the server keeps its name.
        """
        templates = [self.home_dir, *(str(volume.get("hostPath") or "") for volume in self.volumes)]
        others = [template_of(volume) for volume in self.volumes if not volume.get("hostPath")]
        moving = [template for template in templates if is_of_server(template)]
        if any(map(is_of_server, others)) or (moving and self.app_image):
            raise StartRefused(
                "The storage of this server is called by the server's name and cannot be moved from here. "
                "Make a new server, or ask an administrator to move it.",
                reason="rename",
                status_code=409,
            )
        if not moving:
            return
        renamed = path_namespace({**self.template_namespace(), **names_of(self.user.name, new_name)})
        moves = [(self.format_path(template), template.format(**renamed)) for template in moving]
        try:
            await run_to_end(self._link(), self._chore("move", move_command(moves), ()), _CHORE_SECONDS)
        except StorageError as error:
            raise StartRefused(
                f"The server keeps its name, since its storage could not be moved: {error}.",
                reason="rename",
                status_code=409,
            ) from error

    def _chore(self, what: str, command: str, volumes: Sequence[Mapping[str, Any]]) -> App:
        """Return the app that does something with the server's storage, as the server could itself."""
        formatted = format_volumes(volumes, lambda template: self.format_volume_name(template, self))
        docker = {"docker": {"image": self.app_image}} if self.app_image else {}
        container = {"type": self.container_type, "volumes": formatted, **docker}
        return App(
            id=f"{server_app_id(self.app_prefix, self.user.name, self.name)}-{what}",
            cmd=command,
            cpus=0.1,
            mem=64,
            user=self._account(),
            labels=Server.marks(self.hub_id, self.user.name, self.name),
            constraints=[[str(part) for part in constraint] for constraint in self.marathon_constraints],
            container=Container.from_wire(container) if formatted or docker else None,
            networks=[Network(mode="host")],
            port_definitions=[],
        )
