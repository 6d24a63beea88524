"""A server's storage when JupyterHub deletes or renames the server for good.

The storage is where the servers run, which need not be where the hub runs. So a task on the backend
does the work: as the account of the server and with its volumes, hence with no more rights than the
server had.
"""

from __future__ import annotations

import asyncio
import logging
import string
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from shlex import quote
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.errors import BackendError, HubfleetError
from hubfleet.api.status import ENDED_STATES

from .following import TaskEnd
from .link import Link

log = logging.getLogger("hubfleet.spawner.storage")

_USER_NAMES = frozenset({"username", "user_segment", "escaped_username", "user_server"})
_SERVER_NAMES = frozenset({"servername", "server_segment", "escaped_servername", "user_server"})

_NEVER_AGAIN_SECONDS = 3600.0  # a task that has ended would be started again; it is gone long before


class StorageError(HubfleetError):
    """The storage could not be deleted or moved; the message says what became of it."""


def names_in(template: str) -> set[str]:
    """Return the names that a template is filled with."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def is_of_server(template: str) -> bool:
    """Whether what a template stands for is another one for each server of each user."""
    names = names_in(template)
    return bool(names & _USER_NAMES and names & _SERVER_NAMES)


def belongs_to(template: str, server: str) -> bool:
    """Whether what a template stands for is a server's alone, or for the default server, its user's."""
    return is_of_server(template) if server else bool(names_in(template) & _USER_NAMES)


def template_of(volume: Mapping[str, Any]) -> str:
    """Return the template that says what a volume holds: a path of the host, or an external one's name."""
    external = volume.get("external")
    return str(volume.get("hostPath") or (external or {}).get("name") or "")


def delete_command(home: str, mounts: Sequence[str]) -> str:
    """Return the shell line that deletes a home and empties mounted volumes; nothing follows links."""
    steps = [f"find {quote(path)} -mindepth 1 -delete" for path in mounts]
    if home:
        # Who may not remove the directory itself has done enough when it is empty.
        steps.append(f'rm -rf -- {quote(home)} || test -z "$(ls -A -- {quote(home)})"')
    return " && ".join(f"{{ {step}; }}" for step in steps)


def move_command(moves: Sequence[tuple[str, str]]) -> str:
    """Return the shell line that moves directories; it refuses to overwrite any, and takes none for moved."""
    steps = []
    for old, new in moves:
        source, target = quote(old), quote(new)
        steps.append(f"{{ test ! -e {source} || {{ test ! -e {target} && mv -T -- {source} {target}; }}; }}")
    return " && ".join(steps)


async def run_to_end(link: Link, app: App, timeout: float) -> None:
    """Run an app's command once, and remove the app.

    Raises
    ------
    StorageError
        It failed, or was not done in `timeout` seconds.
    """
    app = app.model_copy(
        update={"backoff_seconds": _NEVER_AGAIN_SECONDS, "max_launch_delay_seconds": _NEVER_AGAIN_SECONDS}
    )
    hearing = asyncio.create_task(_hear_end(link, app.id))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(timeout):
            await link.reaper.spare(app.id)
            await link.client.replace_app(app, force=True)
            end = await hearing
    except (TimeoutError, BackendError) as error:
        raise StorageError(f"the task {app.id} was not done within {timeout:g} seconds: {error}") from error
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        link.reaper.condemn(app.id)
    if end.state != "TASK_FINISHED":
        raise StorageError(f"the task {app.id} failed: {end.message}")


async def _hear_end(link: Link, app_id: str) -> TaskEnd:
    updates = link.watcher.events(app_id, "status_update_event")
    async with aclosing(updates) as events:  # type: ignore[type-var]
        async for event in events:
            if event["taskStatus"] in ENDED_STATES:
                return TaskEnd(str(event["taskStatus"]), str(event["message"] or ""))
    raise AssertionError("the events of an app have no end")
