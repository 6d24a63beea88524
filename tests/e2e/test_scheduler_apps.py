"""A scheduler in an app, in a real hub: it survives its kernel, and ends when told, or with the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from hub import Hub
from person import Kernel, Person

from .test_ends_of_clusters import none_left, start, workers

pytestmark = pytest.mark.long

MAKE = """
from hubfleet.workers import MarathonCluster
cluster = MarathonCluster("survey", scheduler="app", cpus=0.1)
cluster.adapt(minimum=0, maximum=2, interval="200ms")
with cluster.get_client() as client:
    print(client.submit(sum, [1, 2]).result(timeout=110))
"""
AGAIN = """
from hubfleet.workers import MarathonCluster
cluster = MarathonCluster.from_name("survey")
with cluster.get_client() as client:
    print(client.submit(sum, [3, 4]).result(timeout=110))
print(cluster.group_states()["default"].bounds)
print(cluster.dashboard_link)
"""


def kernels_end(person: Person) -> None:
    """Have Jupyter end all kernels, as its menu does."""
    path = f"{person.server_url()}api/kernels"
    xsrf = person._xsrf(person.server_url())
    for kernel in person._api("GET", path, xsrf).json():
        person._api("DELETE", f"{path}/{kernel['id']}", xsrf)


def page_of(session: requests.Session, hub: Hub, link: str) -> requests.Response:
    return session.get(hub.url + link, timeout=60)


def once_it_runs(kernel: Kernel) -> None:
    assert kernel.run(MAKE).split() == ["3"]


def test_it_survives_its_kernel_is_seen_through_the_hub_and_ends_when_it_is_told_or_with_the_server(
    own_hub: Callable[[str], Hub],
) -> None:
    hub = own_hub("")
    owner, other = Person(hub.url, "dora", hub.password), Person(hub.url, "mallory", hub.password)
    for person in (owner, other):
        person.login()
    start(owner)
    kernel = owner.start_kernel()
    once_it_runs(kernel)
    kernel.close()
    kernels_end(owner)

    kernel = owner.start_kernel()
    seven, bounds, link = kernel.run(AGAIN).splitlines()
    assert (seven, bounds) == ("7", "(0, 2)")
    assert link.startswith("/user/dora/proxy/")
    page = page_of(owner._session, hub, link)
    assert page.status_code == 200
    assert "bokeh" in page.text.lower()
    assert "/hub/login" in page_of(requests.Session(), hub, link).url
    assert page_of(other._session, hub, link).status_code in (403, 404)

    # Closing lets go of it; asked for, it ends.
    kernel.run("cluster.close()")
    assert workers(hub)
    kernel.run('MarathonCluster.from_name("survey", shutdown_on_close=True).close()')
    none_left(hub)

    once_it_runs(kernel)
    kernel.close()
    assert workers(hub)
    owner.stop_server()
    none_left(hub)
