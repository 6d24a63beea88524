"""How a choice reaches the server, whichever way it came, and what becomes of it at the next start."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyterhub import orm

from hubfleet.spawner.errors import StartRefused

PROFILES: list[dict[str, Any]] = [
    {"display_name": "Small", "slug": "small", "overrides": {"cpu": 0.5, "environment": {"SIZE": "small"}}},
    {
        "display_name": "Large",
        "slug": "large",
        "overrides": {"cpu": 2, "mem": 4096, "environment": {"SIZE": "large", "TOKEN": None}},
        "profile_options": {
            "image": {
                "display_name": "Image",
                "choices": {
                    "plain": {"display_name": "Plain", "overrides": {"app_image": "site/plain:1"}},
                    "full": {
                        "display_name": "Full",
                        "overrides": {"app_image": "site/full:1", "environment": {"FULL": "yes"}},
                    },
                },
                "unlisted_choice": {
                    "enabled": True,
                    "validation_regex": r"site/\w+:\d+",
                    "overrides": {"app_image": "{value}", "environment": {"OWN": "<{value}>"}},
                },
            },
        },
    },
    {
        "display_name": "Own",
        "slug": "own",
        "overrides": {"offered_options": ["cpu", "mem"], "max_cpu": 3, "max_mem": 2048},
        "profile_options": {
            "boost": {
                "display_name": "Boost",
                "choices": {
                    "none": {"display_name": "None"},
                    "much": {"display_name": "Much", "overrides": {"max_cpu": 8, "cpu": 4}},
                },
                "unlisted_choice": {
                    "enabled": True,
                    "validation_regex": r"[-.\d]+",
                    "overrides": {"cpu": "{value}", "max_cpu": "{value}"},
                },
            },
            "memory": {
                "display_name": "Memory",
                "choices": {"usual": {"display_name": "Usual"}},
                "unlisted_choice": {
                    "enabled": True,
                    "validation_regex": r"\w+",
                    "overrides": {"mem_limit": "{value}"},
                },
            },
        },
    },
]


async def prepare(spawner: Any, options: dict[str, Any] | None = None) -> Any:
    """What JupyterHub's ``User.spawn`` does before it calls `start`."""
    if options is not None:
        spawner.orm_spawner.user_options = options
        spawner.user.db.commit()
        spawner.user_options = options
    await spawner.apply_group_overrides()
    await spawner._run_apply_user_options(spawner.user_options)
    return spawner.build_app()


@pytest.fixture
def spawner(small_hub: Any) -> Any:
    small_hub.config.MarathonSpawner.profile_list = PROFILES
    small_hub.config.MarathonSpawner.environment = {"TOKEN": "t", "SITE": "s"}
    return small_hub.spawner("alice")


async def test_a_profile_and_its_choices_make_the_server(spawner: Any) -> None:
    app = await prepare(spawner, {"profile": "large", "image": "full"})
    assert (app.cpus, app.mem, app.container.docker.image) == (2, 4096, "site/full:1")
    assert (app.env["SIZE"], app.env["FULL"], app.env["SITE"]) == ("large", "yes", "s")
    assert "TOKEN" not in app.env


async def test_unasked_the_default_profile_is_taken(spawner: Any) -> None:
    app = await prepare(spawner)
    assert (app.cpus, app.env["SIZE"], app.env["TOKEN"]) == (0.5, "small", "t")


async def test_a_text_of_ones_own_goes_where_the_administrator_says(spawner: Any) -> None:
    app = await prepare(spawner, {"profile": "large", "image--unlisted-choice": "site/mine:3"})
    assert (app.container.docker.image, app.env["OWN"]) == ("site/mine:3", "<site/mine:3>")


async def test_the_next_start_has_nothing_of_the_last(spawner: Any) -> None:
    before = deepcopy(PROFILES)
    await prepare(spawner, {"profile": "large", "image": "full"})
    app = await prepare(spawner, {"profile": "small"})
    assert (app.cpus, app.mem, app.container) == (0.5, 1024, None)
    assert (app.env["TOKEN"], "FULL" in app.env) == ("t", False)
    assert before == PROFILES
    spawner.undo_overrides()
    assert (spawner.cpu, spawner.environment) == (1.0, {"TOKEN": "t", "SITE": "s"})


async def test_who_leaves_a_group_loses_what_it_gave(small_hub: Any) -> None:
    small_hub.config.MarathonSpawner.group_overrides = {
        "staff": {
            "groups": ["staff"],
            "spawner_override": {"max_cpu": 8.0, "environment": {"STAFF": "yes"}, "mem": lambda _: 2000.0},
        }
    }
    spawner = small_hub.spawner("alice")
    with pytest.raises(StartRefused, match=r"asks for 8; allowed is 0\.001 to 2"):
        await prepare(spawner, {"cpu": 8})
    group = orm.Group(name="staff")
    spawner.user.groups.append(group)
    app = await prepare(spawner, {"cpu": 8})
    assert (app.cpus, app.mem, app.env["STAFF"]) == (8, 2000, "yes")
    spawner.user.groups.remove(group)
    with pytest.raises(StartRefused, match=r"allowed is 0\.001 to 2"):
        await prepare(spawner, {"cpu": 8})
    assert "STAFF" not in (await prepare(spawner, {})).env


@pytest.mark.parametrize("way", ["dict", "sync", "async"])
async def test_single_users_may_have_other_limits(small_hub: Any, way: str) -> None:
    def sync(spawner: Any) -> dict[str, Any]:
        return {"max_cpu": 8} if spawner.user.name == "alice" else {}

    async def slow(spawner: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return sync(spawner)

    ways = {"dict": {"alice": {"max_cpu": 8}}, "sync": sync, "async": slow}
    small_hub.config.MarathonSpawner.user_overrides = ways[way]
    assert (await prepare(small_hub.spawner("alice"), {"cpu": 8})).cpus == 8
    with pytest.raises(StartRefused, match="allowed is"):
        await prepare(small_hub.spawner("bob"), {"cpu": 8})


@pytest.mark.parametrize("is_async", [False, True])
async def test_profiles_overrides_and_images_may_be_functions(small_hub: Any, is_async: bool) -> None:
    def answering(value: Any) -> Any:
        async def slow(spawner: Any) -> Any:
            await asyncio.sleep(0)
            return value(spawner)

        return slow if is_async else value

    small_hub.config.MarathonSpawner.allowed_images = answering(
        lambda spawner: [f"site/{spawner.user.name}:*"]
    )
    small_hub.config.MarathonSpawner.profile_list = answering(
        lambda spawner: [
            {
                "display_name": spawner.user.name,
                "overrides": {"offered_options": ["image"], "cpu": answering(lambda spawner: 1.5)},
            }
        ]
    )
    spawner = small_hub.spawner("alice")
    app = await prepare(spawner, {"profile": "alice", "image": "site/alice:3"})
    assert (app.cpus, app.container.docker.image) == (1.5, "site/alice:3")
    with pytest.raises(StartRefused, match="allowed is site/alice"):
        await prepare(spawner, {"image": "site/bob:3"})
    with pytest.raises(StartRefused, match="no profile 'bob'; allowed are alice"):
        await prepare(spawner, {"profile": "bob"})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"profile": "small", "cpu": 1}, "no option 'cpu' here; allowed are profile"),
        ({"profile": "large", "image": "evil/root"}, "no choice 'evil/root'; allowed are plain, full"),
        ({"profile": "large", "image--unlisted-choice": "site/a:1;x"}, "cannot be 'site/a:1;x'"),
        ({"profile": "own", "cpu": 4}, r"allowed is 0\.001 to 3"),
        ({"profile": "own", "boost--unlisted-choice": "3.5"}, r"gives 3\.5 as cpu; allowed is 0\.001 to 3"),
        ({"profile": "own", "boost--unlisted-choice": "-1"}, "gives 0 as cpu; allowed is"),
        ({"profile": "own", "boost--unlisted-choice": "1.2.3"}, "'boost' cannot be that"),
        ({"profile": "own", "memory--unlisted-choice": "3G"}, "gives 3072 as mem; allowed is 32 to 2048 MiB"),
        ({"profile": "own", "memory--unlisted-choice": "big"}, "'memory' cannot be that"),
        ({"profiles": "small"}, "no option 'profiles'"),
    ],
)
async def test_what_is_not_allowed_is_refused_and_changes_nothing(
    spawner: Any, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(StartRefused, match=told) as refused:
        await prepare(spawner, options)
    assert (refused.value.reason, refused.value.status_code) == ("options", 400)
    assert (spawner.cpu, spawner.environment) == (1.0, {"TOKEN": "t", "SITE": "s"})
    assert await spawner.poll() == 1


async def test_a_text_that_is_within_the_limits_is_taken(spawner: Any) -> None:
    assert (await prepare(spawner, {"profile": "own", "boost--unlisted-choice": "2.5"})).cpus == 2.5
    assert (await prepare(spawner, {"profile": "own", "memory--unlisted-choice": "1G"})).mem == 1024
    assert (await prepare(spawner, {"profile": "own", "boost": "much", "cpu": "7.5"})).cpus == 7.5


async def test_images_that_are_allowed_bound_free_images_too(spawner: Any) -> None:
    spawner.allowed_images = ["site/tested:*"]
    asked = {"profile": "large", "image--unlisted-choice": "site/tested:1"}
    assert (await prepare(spawner, asked)).container.docker.image == "site/tested:1"
    with pytest.raises(StartRefused, match="asks for 'site/other:1'; allowed is"):
        await prepare(spawner, {**asked, "image--unlisted-choice": "site/other:1"})


async def test_what_is_refused_is_not_remembered(spawner: Any) -> None:
    await prepare(spawner, {"profile": "large"})
    spawner.orm_spawner.user_options = asked = {"profile": "huge", "padding": "x" * 10**6}
    with pytest.raises(StartRefused):
        await prepare(spawner, asked)
    assert spawner.orm_spawner.user_options == {"profile": "large"}


async def test_saved_options_that_are_not_allowed_any_more_are_refused_and_kept(small_hub: Any) -> None:
    saved = small_hub.spawner("alice")
    saved.orm_spawner.user_options = {"cpu": 2, "mem": 4096}
    saved.user.db.commit()
    small_hub.config.MarathonSpawner.max_cpu = 1
    spawner = small_hub.spawner("alice")  # as after a restart of the hub
    assert spawner.user_options == {"cpu": 2, "mem": 4096}
    with pytest.raises(StartRefused, match=r"'cpu' asks for 2; allowed is 0\.001 to 1"):
        await prepare(spawner)
    assert spawner.orm_spawner.user_options == {"cpu": 2, "mem": 4096}


async def test_options_of_a_sites_own_hooks_are_let_through(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", ignored_options=["course"])
    assert await prepare(spawner, {"course": ["maths"], "cpu": 2})
    with pytest.raises(StartRefused, match=r"no option 'curse'.*ignored_options"):
        await prepare(spawner, {"curse": "maths"})


async def test_options_that_a_site_maps_to_traits_itself_are_let_through(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", apply_user_options={"page": "default_url"})
    assert await prepare(spawner, {"page": "/lab/tree/course", "cpu": 2})
    assert spawner.default_url == "/lab/tree/course"
    with pytest.raises(StartRefused, match="no option 'side'"):
        await prepare(spawner, {"side": "/lab"})


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        ({"profile_list": [{"display_name": "A", "slug": "../a"}]}, r"profile_list\[0\] \('A'\): slug"),
        ({"profile_list": lambda _: 1 // 0}, r"the function <lambda> in it failed \(ZeroDivisionError\)"),
        ({"profile_list": lambda _: "profiles"}, "profile_list is a list or a dict, got str"),
        ({"profile_list": [{"display_name": "A", "overrides": {"cpu": "two"}}]}, "'cpu' trait"),
        ({"user_overrides": {"alice": {"max_cpus": 9}}}, "user_overrides names max_cpus"),
    ],
)
async def test_a_configuration_that_cannot_be_used_is_said_to_be_so(
    small_hub: Any, configuration: dict[str, Any], told: str
) -> None:
    spawner = small_hub.spawner("alice", **configuration)
    with pytest.raises(StartRefused, match=told) as refused:
        await prepare(spawner, {})
    assert refused.value.reason == "configuration"
    with pytest.raises(StartRefused, match=told):
        await spawner.get_options_form()


async def test_a_site_with_its_own_way_to_apply_options_has_them_checked_all_the_same(spawner: Any) -> None:
    spawner.apply_user_options = {}
    spawner.clear_state()
    spawner.user_options = {"profile": "large"}
    await spawner.apply_group_overrides()
    await spawner._run_apply_user_options(spawner.user_options)
    assert (await spawner.app_to_submit()).cpus == 2


async def test_hooks_see_the_profile_and_have_the_last_word(hub: Any, backend: Any) -> None:
    seen = []

    def hook(spawner: Any) -> None:
        seen.append((spawner.cpu, spawner.environment["SIZE"]))
        spawner.mem = 300

    hub.config.MarathonSpawner.profile_list = PROFILES
    hub.config.MarathonSpawner.pre_spawn_hook = hook
    user = hub.user("alice")
    await user.spawn(options={"profile": "small"})
    app = await backend.client.get_app(user.spawner.app_id)
    assert seen == [(0.5, "small")]
    assert (app.cpus, app.mem) == (0.5, 300)
    await user.stop()


async def test_a_hub_that_is_started_again_knows_what_the_profile_said_of_a_running_server(
    small_hub: Any,
) -> None:
    small_hub.config.MarathonSpawner.profile_list = [
        {
            "display_name": "Long",
            "overrides": {"autotimeout": None, "restart_after_failure": False, "cpu": 2.0},
        }
    ]
    small_hub.config.MarathonSpawner.autotimeout = 3600
    spawner = small_hub.spawner("alice")
    app = await prepare(spawner, {})
    spawner._app_id = app.id
    state = json.loads(json.dumps(spawner.get_state()))

    restored = small_hub.spawner("alice")
    restored.load_state(state)
    assert (restored.autotimeout, restored.restart_after_failure, restored.cpu) == (None, False, 1.0)
    restored.profile_list = []
    await prepare(restored, {})
    assert (restored.autotimeout, restored.restart_after_failure) == (3600, True)


AMOUNTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.floats(0, 10),
    st.text(max_size=5),
    st.floats(0, 10).map(str),
    st.from_regex(r"\d{1,4}[KMGT]?", fullmatch=True),
    st.lists(st.integers(), max_size=2),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "profile": st.sampled_from(["small", "large", "own", "huge", ""]) | AMOUNTS,
        "cpu": AMOUNTS,
        "mem": AMOUNTS,
        "disk": AMOUNTS,
        "gpu": AMOUNTS,
        "boost": st.sampled_from(["none", "much", "unlisted-choice"]),
        "boost--unlisted-choice": AMOUNTS,
        "memory": st.sampled_from(["usual", "unlisted-choice"]),
        "memory--unlisted-choice": AMOUNTS,
        "image": st.sampled_from(["plain", "full", "evil/root"]),
    },
)
MOST = {"small": (0.5, 1024), "large": (2, 4096), "own": (3, 2048), "much": (8, 2048)}


@given(options=OPTIONS)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_nothing_that_is_accepted_exceeds_the_limits(spawner: Any, options: dict[str, Any]) -> None:
    try:
        app = await prepare(spawner, options)
    except StartRefused:
        return
    kind = options.get("profile") or "small"
    if kind == "own" and options.get("boost") == "much":
        kind = "much"
    cpus, mem = MOST[kind]
    assert 0 < app.cpus <= cpus
    assert 0 < app.mem <= mem
    assert app.gpus == 0
    assert app.container is None or app.container.docker.image in {"site/plain:1", "site/full:1"}
