"""JupyterHub's hooks work with this spawner: called in its order, on traits that the app is made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jupyterhub import orm, scopes
from jupyterhub.crypto import CryptKeeper


@pytest.fixture
def auth_states() -> Iterator[None]:
    """The key by which a hub keeps what its authenticator knows of people."""
    keeper = CryptKeeper.instance()
    keys, keeper.keys = keeper.keys, [b"k" * 32]
    yield
    keeper.keys = keys


async def test_hooks_are_called_in_order_and_what_they_set_reaches_the_server(
    hub: Any, auth_states: None
) -> None:
    order: list[str] = []

    async def auth_state_hook(spawner: Any, auth_state: dict[str, str]) -> None:
        order.append("auth state")
        spawner.environment = {**spawner.environment, "UPSTREAM": auth_state["upstream"]}

    async def pre_spawn(spawner: Any) -> None:
        order.append("before")
        spawner.mem = 300
        spawner.environment = {**spawner.environment, "SEEN": spawner.environment["UPSTREAM"]}

    def modify(spawner: Any, app: Any) -> None:
        order.append("app")
        app.labels["memory"] = f"{app.mem:g}"

    def post_stop(spawner: Any) -> None:
        order.append("after")

    hub.config.MarathonSpawner.update(
        {
            "auth_state_hook": auth_state_hook,
            "pre_spawn_hook": pre_spawn,
            "modify_app_hook": modify,
            "post_stop_hook": post_stop,
        }
    )
    user = hub.user("alice")
    await user.save_auth_state({"upstream": "from the provider"})
    await user.spawn()
    told = await hub.ask(user.spawner.server.url)
    assert (told["env"]["UPSTREAM"], told["env"]["SEEN"]) == ("from the provider", "from the provider")
    assert told["env"]["MARATHON_APP_LABEL_MEMORY"] == "300"
    await user.stop()
    assert order == ["auth state", "before", "app", "after"]


async def test_a_servers_token_has_the_scopes_that_the_configuration_gives_it(hub: Any) -> None:
    hub.config.MarathonSpawner.server_token_scopes = lambda spawner: ["users:activity!user", "access:servers"]
    user = hub.user("alice")
    await user.spawn()
    token = (await hub.ask(user.spawner.server.url))["env"]["JUPYTERHUB_API_TOKEN"]
    found = scopes.expand_scopes(orm.APIToken.find(hub.db, token).scopes, owner=user.orm_user)
    assert "users:activity!user=alice" in found
    assert not any(scope.startswith(("servers", "delete:servers", "tokens")) for scope in found)
    await user.stop()


async def test_a_hook_that_refuses_starts_nothing(hub: Any, backend: Any) -> None:
    def refuse(spawner: Any) -> None:
        raise RuntimeError("not today")

    hub.config.MarathonSpawner.pre_spawn_hook = refuse
    user = hub.user("alice")
    with pytest.raises(RuntimeError, match="not today"):
        await user.spawn()
    assert await hub.nothing_left(backend)
    assert await user.spawner.poll() is not None
    hub.config.MarathonSpawner.pre_spawn_hook = None
    await hub.user("alice").spawn()


def test_the_kind_of_single_user_server_is_kept_from_the_hubs_environment(
    small_hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SINGLEUSER_APP", "notebook")
    assert small_hub.spawner("alice").build_app().env["JUPYTERHUB_SINGLEUSER_APP"] == "notebook"
