"""Apps with a lease: they go when nobody says any more that they are needed, and not before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningBackend, task_id_of
from rest import Rest, eventually
from sites import BODY, Site, site_for_one

from hubfleet.api.app import App
from hubfleet.backend.orchestrator.leases import Leases, term_of
from hubfleet.backend.records import AppRecord
from hubfleet.backend.state import State
from hubfleet.backend.store import Store

LEASE = "HUBFLEET_LEASE"


class Held:
    """A state with apps by lease, and what was removed from it."""

    def __init__(self, folder: Path, **seconds: str) -> None:
        self.state = State(Store(folder / "state.sqlite"))
        self.removed: list[str] = []
        self.leases = Leases(self.state, self.removed.append)
        for name, text in seconds.items():
            self.put(name, **({LEASE: text} if text else {}))

    def put(self, name: str, **labels: str) -> None:
        app = App(id=f"/{name}", cmd="x", labels=labels, version=self.state.next_version())
        self.state.put_app(AppRecord(app=app))


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path, short="3", long="10", never="")


def test_a_lease_is_over_when_its_time_has_passed(held: Held) -> None:
    assert held.leases.pass_time(2.9) == []
    assert held.leases.pass_time(0.2) == ["/short"]
    held.state.drop_app("/short")
    assert held.leases.pass_time(6) == []
    assert held.leases.pass_time(1.1) == ["/long"]


def test_renewing_begins_anew(held: Held) -> None:
    held.state.drop_app("/long")
    for _ in range(10):
        assert held.leases.pass_time(2) == []
        assert held.leases.renew("/short") == 3
    assert held.leases.renew("/never") is None
    assert held.leases.renew("/nothing") is None


def test_while_nobody_can_say_who_renews_no_lease_is_over(held: Held) -> None:
    held.leases.pass_time(2.9)
    held.leases.renew_all()
    assert held.leases.pass_time(2.9) == []


def test_a_changed_label_counts_from_now_on(held: Held) -> None:
    held.put("long", HUBFLEET_LEASE="2")
    held.put("short")
    assert held.leases.pass_time(2) == ["/long"]
    held.state.drop_app("/long")
    held.put("never", HUBFLEET_LEASE="5")
    assert held.leases.pass_time(4) == []
    assert held.leases.pass_time(1) == ["/never"]


def test_an_app_that_is_made_anew_has_a_lease_of_its_own(held: Held) -> None:
    held.leases.pass_time(2.9)
    held.state.drop_app("/short")
    held.leases.forget_former(["/short", "/long"])
    held.put("short", **{LEASE: "3"})
    assert held.leases.pass_time(2.9) == []
    assert sorted(held.leases.pass_time(4.3)) == ["/long", "/short"], "what is there goes on as before"


def test_an_odd_label_of_former_times_is_no_lease(tmp_path: Path) -> None:
    held = Held(tmp_path, odd="soon", negative="-3", huge="9" * 50, other="٣")
    assert held.leases.pass_time(1e6) == []


@pytest.mark.parametrize("text", ["", "0", "1", "86401", "-5", "2.5", "soon", "٣", "9" * 400, " 5"])
def test_a_wrong_term_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number of seconds from 2 to 86400"):
        term_of(App(id="/x", cmd="x", labels={LEASE: text}))


async def is_kept_by(renew: Callable[[], Awaitable[bool]], seconds: float, since: float) -> bool:
    """Renew a lease of 3 s, begun not before `since`, for so long; return False if that came to nothing.

    On a machine that is busy a renewal may come too late.
    """
    until = time.monotonic() + seconds
    while True:
        sent = time.monotonic()
        if not await renew():
            # The backend looks every half second, and may take a whole one at a time.
            assert time.monotonic() > since + 1.5, "its lease was over although it was renewed"
            return False
        if sent >= until:
            return True
        since = sent
        await asyncio.sleep(0.3)


async def test_time_in_which_the_backend_did_nothing_does_not_count(tmp_path: Path) -> None:
    held = Held(tmp_path, short="2")
    watch = asyncio.create_task(held.leases.watch())
    await asyncio.sleep(0)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:  # as when the machine is overwhelmed: no request is answered either
        time.sleep(0.5)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert held.removed == []
    watch.cancel()


async def test_an_app_goes_with_its_tasks_and_what_it_owns_when_its_lease_is_over(
    rest: Rest, backend: RunningBackend
) -> None:
    apps = [
        {"id": "/leased", **BODY, "labels": {LEASE: "2"}},
        {"id": "/owned", **BODY, "labels": {"HUBFLEET_OWNER": "/leased"}},
        {"id": "/stays", **BODY},
    ]
    assert (await rest("PUT", "/v2/apps", apps)).status_code == 200

    async def only_one() -> bool:
        return [app["id"] for app in (await rest.get("/v2/apps"))["apps"]] == ["/stays"]

    await eventually(only_one)
    await rest.deployed()

    async def only_one_runs() -> bool:
        return {task_id_of(process) for process in backend.tasks()} == {
            task["id"] for task in await rest.running("/stays")
        }

    await eventually(only_one_runs)
    assert "removing /leased: nobody has renewed its lease" in backend.log.read_text()


async def test_who_renews_keeps_it_also_through_the_backends_end(rest: Rest, backend: RunningBackend) -> None:
    async def renew() -> bool:
        answer = await rest("PUT", "/hubfleet/leases/leased")
        assert answer.status_code == 404 or answer.json() == {"seconds": 3}
        return answer.status_code == 200

    async def is_kept() -> bool:
        await rest("DELETE", "/v2/apps/leased")
        body, since = {**BODY, "labels": {LEASE: "3"}}, time.monotonic()
        assert (await rest("PUT", "/v2/apps/leased?force=true", body)).status_code in (200, 201)
        if not await is_kept_by(renew, 5, since):
            return False
        await backend.kill()
        await asyncio.sleep(0.5)
        since = time.monotonic()
        await backend.start()
        return await is_kept_by(renew, 0, since)

    await eventually(is_kept)
    await rest("DELETE", "/v2/apps/leased")
    assert (await rest("PUT", "/hubfleet/leases/leased")).status_code == 404


async def test_an_app_without_a_lease_has_none_to_renew(shared_rest: Rest) -> None:
    await shared_rest.create("/plain", instances=0)
    assert (await shared_rest("PUT", "/hubfleet/leases/plain")).json() == {"seconds": None}


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_wrong_lease_is_refused_with_its_place(shared_rest: Rest, method: str) -> None:
    path = {"POST": "/v2/apps", "PUT": "/v2/apps/wrong"}[method]
    body = {"id": "/wrong", "cmd": "x", "labels": {LEASE: "1"}}
    refused = await shared_rest(method, path, body)
    assert refused.status_code == 422
    assert refused.json()["details"] == [
        {
            "path": f"/labels/{LEASE}",
            "errors": ["the lease must be a whole number of seconds from 2 to 86400"],
        }
    ]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_for_one(tmp_path) as running:
        yield running


async def renewed(rest: Rest, app_id: str) -> int:
    return (await rest("PUT", f"/hubfleet/leases{app_id}")).status_code


async def test_only_who_may_change_an_app_renews_its_lease(site: Site) -> None:
    body: dict[str, Any] = {**BODY, "labels": {LEASE: "60"}}
    app_id = "/jupyter/alice/dask/c/workers"
    assert (await site.alice("POST", "/v2/apps", {"id": app_id, **body})).status_code == 201
    assert await renewed(site.alice, app_id) == 200
    assert await renewed(site.bob, app_id) == 404
    assert await renewed(site.user(None), app_id) == 401
    assert await renewed(site.user("a-reader-of-the-tests"), app_id) == 403


async def test_a_token_that_has_expired_keeps_nothing_but_a_hub_that_is_away_takes_nothing(
    site: Site,
) -> None:
    """The backend remembers a good token for 30 s, so the tokens here are new ones."""
    site.hub.owners["fresh"] = site.hub.owners["token-of-alice"]
    app_id = "/jupyter/alice/dask/c/workers"
    body: dict[str, Any] = {**BODY, "labels": {LEASE: "3"}}
    site.hub.status = 500

    async def ask_in_vain() -> bool:
        assert await renewed(site.user("fresh"), app_id) == 503
        return (await site.admin("GET", f"/v2/apps{app_id}")).status_code == 200

    async def is_kept() -> bool:
        await site.admin("DELETE", f"/v2/apps{app_id}")
        since = time.monotonic()
        made = await site.admin("PUT", f"/v2/apps{app_id}?force=true", body)
        assert made.status_code in (200, 201)
        return await is_kept_by(ask_in_vain, 5, since)

    await eventually(is_kept)
    site.hub.status = None
    del site.hub.owners["fresh"]

    async def gone() -> bool:
        assert await renewed(site.user("fresh"), app_id) in (401, 429)
        return (await site.admin("GET", f"/v2/apps{app_id}")).status_code == 404

    await eventually(gone)


def test_the_leases_of_a_state_that_is_loaded_are_known(tmp_path: Path) -> None:
    before = Held(tmp_path, short="3")
    loaded = State(Store(tmp_path / "state.sqlite"))
    assert loaded.leased == before.state.leased == {"/short"}
