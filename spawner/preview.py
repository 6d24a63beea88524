"""The app of a user's server as a configuration makes it: no hub runs, and no backend is asked.

A hub's own parts stand around the spawner: its configuration, its address, and a database in memory that is
gone again. What acts on the world is not called: authenticator, `pre_spawn_hook` and `auth_state_hook`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.objects import Server
from jupyterhub.user import User
from jupyterhub.utils import url_escape_path, url_path_join
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from hubfleet.api.app import App

from .certificates import Certificates
from .errors import StartRefused
from .spawner import MarathonSpawner

TOKEN = "<token of this start>"  # noqa: S105 (a text in its place)
HUB_ID = "<made from the hub's cookie secret>"
CERTIFICATES = Certificates("<key of this start>", "<certificate of this start>", "<authorities>")


class NoPreview(Exception):
    """There is nothing to show; the message says why."""


async def preview(
    configuration: Path,
    user: str,
    server: str = "",
    options: Mapping[str, Any] | None = None,
    groups: Sequence[str] = (),
) -> App:
    """Return the app that a hub of this configuration would submit for a user's server.

    Parameters
    ----------
    configuration
        A ``jupyterhub_config.py``, which is executed.
    user, server
        Names as the hub has them; the server's is empty for the default one.
    options
        What the user asks for.
    groups
        The user's groups, for `Spawner.group_overrides`.

    Raises
    ------
    NoPreview
        The hub would not start such a server; with the sentence that its user would read.
    """
    hub = JupyterHub(log_level=logging.WARNING)
    hub.load_config_file(str(configuration))
    if not issubclass(hub.spawner_class, MarathonSpawner):
        raise NoPreview(
            f"the servers of {configuration} are started by {hub.spawner_class.__name__}, and not as apps; "
            'set c.JupyterHub.spawner_class = "marathon"'
        )
    secret = _read_cookie_secret(hub)
    hub.init_hub()
    engine = create_engine("sqlite://")
    orm.Base.metadata.create_all(engine)
    db = Session(engine)
    try:
        spawner = _spawner(hub, db, user, server, groups)
        if not secret and spawner.hub_id == hub.hub.base_url:  # what it is made from then
            spawner.hub_id = HUB_ID
        spawner.user_options = dict(options or {})
        await spawner.apply_group_overrides()
        await spawner._run_apply_user_options(spawner.user_options)
        spawner.api_token = TOKEN
        if hub.internal_ssl:
            spawner._certificates = CERTIFICATES
        app: App = await spawner.app_to_submit()
        return app
    except StartRefused as refusal:
        raise NoPreview(str(refusal.jupyterhub_message)) from refusal
    finally:
        db.close()


def _read_cookie_secret(hub: Any) -> bytes:
    """Return the secret that makes the hub's mark, if there is one; a preview makes none."""
    there = hub.cookie_secret or os.environ.get("JPY_COOKIE_SECRET")
    if there or os.access(Path(hub.cookie_secret_file).expanduser(), os.R_OK):
        hub.init_secrets()
    return bytes(hub.cookie_secret)


def _spawner(hub: Any, db: Any, name: str, server: str, groups: Sequence[str]) -> MarathonSpawner:
    row = orm.User(name=name, groups=[orm.Group(name=group) for group in groups])
    db.add(row)
    db.commit()
    user = User(
        row,
        {
            "spawner_class": hub.spawner_class,
            "config": hub.config,
            "hub": hub.hub,
            "base_url": hub.base_url,
            "cookie_secret": hub.cookie_secret,
            "subdomain_host": hub.subdomain_host,
            "domain": hub.domain,
            "subdomain_hook": hub.subdomain_hook,
            "internal_ssl": hub.internal_ssl,
            "internal_certs_location": hub.internal_certs_location,
            "internal_trust_bundles": {},
            "trusted_alt_names": hub.trusted_alt_names,
            "log": hub.log,
        },
    )
    db.add(orm.Spawner(user=row, name=server))
    db.commit()
    spawner = user.spawners[server]
    base_url = url_path_join(user.base_url, url_escape_path(server), "/")
    spawner.server = Server(
        orm_server=orm.Server(proto="http", ip="", port=0, base_url=base_url, cookie_name="")
    )
    assert isinstance(spawner, MarathonSpawner)
    return spawner
