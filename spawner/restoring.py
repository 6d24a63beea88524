"""The rows that a hub needs of all its servers when it starts again, read in a few queries.

JupyterHub means to do so itself (``app.py``, `init_spawners`). But its query has `populate_existing`, by
which the servers that come with their users are read over the very same servers, and take their users from
them again. So each server costs five queries, which is half of the start of a hub with some hundred.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub import orm
from sqlalchemy.orm import selectinload

_DONE = "hubfleet has read the servers"


def read_at_once(db: Any) -> None:
    """Have the servers that run, and their users, in the memory of a hub's session; asked again, do nothing.

    For the first spawner of a hub. JupyterHub makes all of them before it waits for anything, and holds
    their rows from then on; until it waits they are held here.
    """
    if db.info.setdefault(_DONE, False):
        return
    db.info[_DONE] = True
    with db.no_autoflush:
        rows = (
            db.query(orm.Spawner)
            .filter(orm.Spawner.server_id.is_not(None))
            .options(selectinload(orm.Spawner.user).selectinload(orm.User._orm_spawners))
            .all()
        )
    asyncio.get_running_loop().call_soon(rows.clear)
