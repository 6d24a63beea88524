"""The scheduler's dashboard through the hub: its link works for its owner, and for nobody else."""

from __future__ import annotations

import requests
from hub import Hub
from person import Person

MAKE = """
from hubfleet.workers import MarathonCluster
cluster = MarathonCluster(n_workers=1, cpus=0.1)
cluster.wait_for_workers(1, timeout=110)
print(cluster.dashboard_link)
"""


def logged_in(hub: Hub, name: str) -> Person:
    person = Person(hub.url, name, hub.password)
    person.login()
    return person


def test_the_dashboard_is_reached_by_its_owner_through_the_hub_and_by_nobody_else(hub: Hub) -> None:
    owner, other = logged_in(hub, "dora"), logged_in(hub, "mallory")
    assert list(owner.start_and_watch())[-1].get("ready")
    owner.open_server()
    kernel = owner.start_kernel()
    try:
        link = kernel.run(MAKE).strip()
        assert link.startswith("/user/dora/proxy/")
        page = owner._session.get(hub.url + link, timeout=60)
        assert page.status_code == 200
        assert "bokeh" in page.text.lower()
        anonymous = requests.get(hub.url + link, timeout=60)
        assert "/hub/login" in anonymous.url
        assert "bokeh" not in anonymous.text.lower()
        refused = other._session.get(hub.url + link, timeout=60)
        assert refused.status_code in (403, 404)
        assert "bokeh" not in refused.text.lower()
    finally:
        kernel.run("cluster.close()")
        kernel.close()
        owner.stop_server()
