"""What people see of their servers at a real hub: why one failed, and which one the idle culler ends."""

from __future__ import annotations

import html
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jupyterhub
import pytest
import requests
from hub import Hub
from hubs import ADMIN_TOKEN, AdminOf, make_hub
from person import Person

pytestmark = pytest.mark.long

EXTRA = """
import sys
from jupyterhub.handlers.base import BaseHandler
FAILS = "import sys, time; time.sleep({}); print('no kernel <gnu> & co', file=sys.stderr); sys.exit(3)"
DELAYS = {"fails": 0, "fails-late": 6, "fails-later": 600}

def by_user(spawner):
    if spawner.user.name in DELAYS:
        delay = DELAYS[spawner.user.name]
        spawner.cmd = [sys.executable, "-c", FAILS.format(delay)]
        spawner.args = []
        spawner.start_failures = 1
    if spawner.user.name == "kept":
        spawner.app_labels = {"HUBFLEET_KEEP": "true"}

c.Spawner.pre_spawn_hook = by_user
c.Spawner.poll_interval = 1
# A start that fails at once is waited for, however busy the machine is, and one that fails late is not.
BaseHandler.slow_spawn_timeout = property(lambda handler: 1 if "-late" in handler.request.path else 60)
"""
SENTENCE = (
    "Your server's process ended once while it started. The backend says: Command exited with status 3."
)
OUTPUT = "no kernel <gnu> & co"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = make_hub(tmp_path_factory.mktemp("people"), EXTRA)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


def page(person: Person, path: str) -> requests.Response:
    return person._session.get(person.url + path, timeout=120)


def test_a_failed_start_is_explained_wherever_one_looks(hub: Hub) -> None:
    admin = AdminOf(hub)
    admin("POST", "/users/fails")
    answer = admin("POST", "/users/fails/server")
    assert answer.status_code == 500
    assert SENTENCE in answer.json()["message"], "the API says it"
    if jupyterhub.version_info[0] > 5:  # there it says no more than the log
        assert OUTPUT in answer.json()["message"]

    person = Person(hub.url, "fails-late", hub.password)
    person.login()
    events = list(person.start_and_watch())  # slower than the hub waits: it answers before the failure
    assert events[-1]["failed"]
    assert SENTENCE in events[-1]["message"], "the progress says it"
    assert html.escape(OUTPUT) in events[-1]["html_message"]
    assert OUTPUT not in events[-1]["html_message"]
    shown = page(person, "/hub/spawn-pending/fails-late")
    assert shown.status_code == 500
    assert html.escape(SENTENCE) in shown.text, "the page says it"
    assert f"{html.escape(OUTPUT)}</pre>" in shown.text
    at_once = Person(hub.url, "fails", hub.password)
    at_once.login()
    shown = page(at_once, "/hub/spawn/fails")
    assert html.escape(SENTENCE) in shown.text, "and so does the page of a start that fails at once"
    log = hub.log.read_text()
    assert SENTENCE in log
    assert OUTPUT not in log, "what a server wrote is its user's business"
    eventually(lambda: not apps_of(admin), "the end of the last app")


def test_a_cancelled_start_can_be_made_again(hub: Hub) -> None:
    admin = AdminOf(hub)
    admin("POST", "/users/fails-later")
    started = admin("POST", "/users/fails-later/server")
    assert started.status_code == 202
    cancelled = admin("DELETE", "/users/fails-later/server")
    assert cancelled.status_code in (202, 204), cancelled.text
    eventually(lambda: not apps_of(admin), "the end of the app of a cancelled start")
    # JupyterHub 6.1 looks at the spawner that failed, not at the one in its place, and says 201 at times.
    assert admin("POST", "/users/fails-later/server").status_code in (201, 202)
    eventually(lambda: apps_of(admin), "the app of the next start")
    admin("DELETE", "/users/fails-later/server")


def test_a_deleted_user_leaves_no_app(hub: Hub) -> None:
    admin = AdminOf(hub)
    admin("POST", "/users/leaver")
    started = admin("POST", "/users/leaver/server")
    assert started.status_code in (201, 202), started.text
    ready(admin, "leaver", True)
    place = "/v2/apps/jupyter/leaver/notebook"
    assert admin.backend("GET", place).status_code == 200
    assert admin("DELETE", "/users/leaver").status_code == 204
    assert admin.backend("GET", place).status_code == 404


def test_the_idle_culler_ends_idle_servers_but_not_those_that_are_kept(hub: Hub) -> None:
    admin = AdminOf(hub)
    for name in ("kept", "idle"):
        admin("POST", f"/users/{name}")
        assert admin("POST", f"/users/{name}/server").status_code in (201, 202)
    ready(admin, "kept", True)
    ready(admin, "idle", True)
    culler = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=15", "--cull-every=1"),
            f"--url={hub.url}/hub/api",
        ],
        env={"JUPYTERHUB_API_TOKEN": ADMIN_TOKEN},
    )
    try:
        ready(admin, "idle", False)
        eventually(lambda: len(apps_of(admin)) < 2, "the end of the culled server's app")
        assert apps_of(admin) == ["/jupyter/kept/notebook"]
        ready(admin, "kept", True)
    finally:
        culler.terminate()
        culler.wait(60)


def apps_of(admin: AdminOf) -> list[str]:
    return [app["id"] for app in admin.backend("GET", "/v2/apps").json()["apps"]]


def ready(admin: AdminOf, name: str, wanted: bool) -> None:
    def is_ready() -> bool:
        return bool((admin.server_of(name) or {}).get("ready"))

    eventually(lambda: is_ready() is wanted, f"ready: {wanted}, for the server of {name}")


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came to be"
        time.sleep(0.1)
