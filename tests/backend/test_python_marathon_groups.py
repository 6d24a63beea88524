"""The groups of the field's own Python client, 0.13.0, as it asks for them and reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import RunningBackend
from field_client import small, wait_until
from marathon import MarathonClient, NotFoundError
from marathon.exceptions import ConflictError, MarathonHttpError
from marathon.models import MarathonGroup


@pytest.fixture
def client(shared: RunningBackend) -> Iterator[MarathonClient]:
    client = MarathonClient(shared.url, username="anybody", password=shared.admin_token, timeout=60)
    yield client
    for group in client.list_groups():
        client.delete_group(group.id, force=True)
    settled(client)


def settled(client: MarathonClient) -> None:
    wait_until(lambda: not client.list_deployments())


def test_a_groups_whole_life(client: MarathonClient) -> None:
    web = MarathonGroup(id="web", apps=[small("front", instances=1)], dependencies=["../base"])
    base = MarathonGroup(id="base", apps=[small("db", instances=1)])
    made = client.create_group(MarathonGroup(id="/shop", groups=[web, base]))
    assert made.keys() == {"version", "deploymentId"}
    settled(client)
    (listed,) = client.list_groups()
    assert (listed.id, sorted(group.id for group in listed.groups)) == ("/shop", ["/shop/base", "/shop/web"])
    shown = client.get_group("shop/web")
    assert (shown.apps[0].id, shown.dependencies) == ("/shop/web/front", ["/shop/base"])
    with pytest.raises(ConflictError, match="already created"):
        client.create_group(MarathonGroup(id="/shop"))
    first = client.get_group("shop").version

    shown.apps.append(small("/shop/web/back", instances=0))
    assert client.update_group("/shop/web", shown)["deploymentId"]
    settled(client)
    assert sorted(app.id for app in client.list_apps()) == [
        *("/shop/base/db", "/shop/web/back", "/shop/web/front")
    ]
    assert client.scale_group("shop", 2)["version"]
    settled(client)
    assert {app.id: app.instances for app in client.list_apps()} == {
        **{"/shop/base/db": 2, "/shop/web/back": 0, "/shop/web/front": 2}
    }
    assert len(client.list_tasks()) == 4

    assert client.rollback_group("shop", first)["deploymentId"]
    settled(client)
    assert {app.id: app.instances for app in client.list_apps()} == {
        **{"/shop/base/db": 1, "/shop/web/front": 1}
    }
    with pytest.raises(MarathonHttpError, match="not available in version"):
        client.rollback_group("shop", "2001-01-01T00:00:00.000Z")
    assert client.delete_group("shop", force=True)["version"]
    settled(client)
    with pytest.raises(NotFoundError, match="Group '/shop' does not exist"):
        client.get_group("shop")
    assert client.list_apps() == client.list_groups() == []


def test_what_a_group_leaves_out_stays_with_a_minimal_update(client: MarathonClient) -> None:
    client.create_group(MarathonGroup(id="/kept", apps=[small("a", instances=0)]))
    settled(client)
    client.update_group("kept", MarathonGroup(groups=[MarathonGroup(id="inner")]))
    settled(client)
    found = client.get_group("kept")
    assert ([app.id for app in found.apps], [group.id for group in found.groups]) == (
        ["/kept/a"],
        ["/kept/inner"],
    )
    refused = MarathonGroup(id="/kept", apps=[small("a", instances=-1)])
    with pytest.raises(MarathonHttpError, match="422"):
        client.update_group("kept", refused)
