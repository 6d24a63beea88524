"""A pytest plugin that puts our spawner where JupyterHub's own tests have their mock of one.

JupyterHub's mocks derive from its `SimpleLocalProcessSpawner`; before they are imported, that name is
given to a class of ours. So `MockSpawner`, `SlowSpawner` and the others become spawners on a real
backend, whose address is in the environment.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jupyterhub.spawner
import jupyterhub.utils
import pytest
from jupyterhub.proxy import ConfigurableHTTPProxy
from ports import free_port
from traitlets import default

from hubfleet.spawner import MarathonSpawner

# It answers as JupyterHub's stand-in of a server does (`jupyterhub.tests.mocksu`), which takes ten times as
# long to begin, as it imports much of the hub. It listens where its URL says, but at the port that ours is
# told when it has a place: by arguments, of which a test of the hub wants to see none.
SERVER = """
import http.server, json, os, sys
from urllib.parse import urlsplit
port = next(word.partition("=")[2] for word in sys.argv if word.startswith("--port="))
sys.argv[1:] = [word for word in sys.argv[1:] if not word.startswith(("--ip=", "--port="))]
url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
os.environ["JUPYTERHUB_SERVICE_URL"] = url._replace(netloc=f"{url.hostname}:{port}").geturl()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        told = {"args": sys.argv, "env": dict(os.environ)}.get(path.rpartition("/")[2])
        body = (path if told is None else json.dumps(told)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if told is None else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer((url.hostname, int(port)), Handler).serve_forever()
"""


NOT_OURS = {
    "test_named_server_limit_as_callable": "fails with the mock itself behind the Python proxy (403)",
    "test_spawner": "starts a program that never answers; ours has started when the server answers",
    "test_single_user_spawner": "as root, the server has to be told that it may; ours: the end-to-end tests",
    "test_stop_spawner_sigint_fails": "of signals that the hub sends; here the backend ends processes",
    "test_stop_spawner_stop_now": "the same; ours: test_a_stop_that_has_no_time_...",
    "test_spawner_poll": "of process ids; ours: test_following.py",
    "test_setcwd": "of a hub that forks the servers itself",
    "test_popen_kwargs": "the same",
    "test_shell_cmd": "the same",
    "test_inherit_overwrite": "of classes beside the one in use",
    "test_inherit_ok": "the same",
    "test_predefined_options_from_form[default]": "of the default of options_from_form; ours is another",
    "test_apply_user_options_dict": "sets a trait that only local processes have (term_timeout)",
    "test_spawner_routing[has%40x]": "of the path as the proxy passes it on; ours: test_names.py",
    "test_progress": "of the words of the default progress(); ours: test_progress.py",
    "test_progress_bad_slow": "the same; ours: test_seen_by_people.py",
    "test_start_stop_race": "of the stop() after a cancelled start, which ends its server here; ours: "
    "test_spawner_starts.py",
}
"""JupyterHub's tests that do not apply, and why."""

ASK_NO_SPAWNER = re.compile(
    r"test_(auth_|post_content|invalid_utf8|xsrf|get_users_(pagination|name|sort)|get_self_service|add_|user_make_admin"
    r"|(user_)?[gs]et_auth_state|token_|get_new_token|check_token|cookie|get_proxy|groups?_|auth_managed"
    r"|get_services?$|(create|delete)_\w*service|create_admin|root_api|info|options$|bad_json)"
)
"""JupyterHub's tests of its API that are not about servers; they are left out to save their time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not apply."""
    left_out = [
        item
        for item in items
        if {item.name, name := getattr(item, "originalname", item.name)} & set(NOT_OURS)
        or (item.path.stem == "test_api" and ASK_NO_SPAWNER.match(name))
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


class PeerSpawner(MarathonSpawner):  # type: ignore[misc]
    """Our spawner, with what the mocks expect of the class that they derive from."""

    @default("marathon_host")
    def _backend_of_the_tests(self) -> str:
        return os.environ["PEER_BACKEND"]

    @default("ignored_options")
    def _of_the_mocks_own_forms(self) -> list[str]:
        return ["energy", "bounds", "hello", "notspecified", "display_name", "opt-foo", "s", "i", "key"]

    @default("ip")
    def _this_machine(self) -> str:
        return "127.0.0.1"

    def get_state(self) -> dict[str, Any]:
        """Return the mocks' state, which their tests compare; our own is tried in our tests."""
        return {"pid": 0} if super().get_state() else {}

    def user_env(self, env: dict[str, Any]) -> dict[str, Any]:
        """Return the environment as it is; local spawners add the account's."""
        return env

    def get_env(self) -> dict[str, Any]:
        """Return the server's environment; the mocks change it by `user_env`."""
        return self.user_env(super().get_env())

    async def start(self) -> Any:
        """Start the server; the mocks expect its address as a pair."""
        if self.cmd[1:] == ["-m", "jupyterhub.tests.mocksu"]:
            self.cmd = [sys.executable, "-c", SERVER]
        url = urlsplit(await super().start())
        return url.hostname, url.port


jupyterhub.spawner.SimpleLocalProcessSpawner = PeerSpawner
jupyterhub.utils.random_port = free_port  # the hub's own may be another's by the time it is used
ConfigurableHTTPProxy.command.default_args = ([sys.executable, "-m", "hubfleet.spawner.proxy"],)
ConfigurableHTTPProxy.command.default_value = [sys.executable, "-m", "hubfleet.spawner.proxy"]
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
