"""A real hub whose servers are forked from a template: the login, kernels and terminals of their users."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from driving import ask_launcher
from hub import Hub
from hubs import has_template
from person import Person

pytestmark = pytest.mark.long


def test_users_work_on_servers_that_were_forked(own_hub: Callable[[str], Hub]) -> None:
    hub = own_hub("")
    deadline = time.monotonic() + 240
    for forked, name in enumerate(["ann", "bob", "cleo"]):
        person = Person(hub.url, name, hub.password)
        person.login()
        person.start_server()
        while (server := person.server()) is None or not server["ready"]:
            assert time.monotonic() < deadline, f"the server of {name} is not ready"
            time.sleep(0.02)
        person.open_server()  # through the hub's OAuth
        kernel = person.start_kernel()
        try:
            told = kernel.run("import os; print(6 * 7, os.environ['JUPYTERHUB_USER'], os.getcwd())")
        finally:
            kernel.close()
        assert told.split()[:2] == ["42", name]
        assert told.strip().endswith(f"/{name}")
        assert person.start_terminal()["name"] == "1"
        # The first makes the template, and is executed itself.
        template = has_template(hub)
        assert (template["forked"], template["executed"]) == (forked, 0), template
    tokens = set()
    for task in ask_launcher(hub.state / "backend", "list")["tasks"]:
        with open(f"/proc/{task['pid']}/environ") as file:
            tokens.update(v for v in file.read().split("\0") if v.startswith("JUPYTERHUB_API_TOKEN="))
    assert len(tokens) == 3
