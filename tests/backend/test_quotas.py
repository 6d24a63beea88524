"""Quotas: who may have how much, what counts as use, and that no crowd of requests gets more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LINGERING
from rest import eventually
from sites import BODY, Site

from hubfleet.api.app import App, UpgradeStrategy
from hubfleet.api.client import Client
from hubfleet.backend.quotas import Generation, Held, Quota, QuotaRules, excesses, fitting, use

RULES = QuotaRules(
    user={"cpus": 4, "instances": 10},
    app={"instances": 5},
    of_groups={
        "small": {"user": {"cpus": 1}},
        "large": {"user": {"cpus": 64, "gpus": 2}},
        "endless": {"user": {"cpus": None}, "app": {"instances": None}},
    },
    of_users={"zoe": {"user": {"cpus": 2}}, "max": {"user": {"cpus": None}}},
)


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("al", [], Quota({"instances": 10, "cpus": 4}, {"instances": 5})),
        ("al", ["unknown"], Quota({"instances": 10, "cpus": 4}, {"instances": 5})),
        ("al", ["small"], Quota({"instances": 10, "cpus": 1}, {"instances": 5})),
        ("al", ["small", "large"], Quota({"instances": 10, "cpus": 64, "gpus": 2}, {"instances": 5})),
        ("al", ["large", "endless"], Quota({"instances": 10, "gpus": 2}, {})),
        ("zoe", ["endless"], Quota({"instances": 10, "cpus": 2}, {})),
        ("max", ["small"], Quota({"instances": 10}, {"instances": 5})),
    ],
)
def test_the_users_word_counts_before_the_most_generous_group(
    user: str, groups: list[str], expected: Quota
) -> None:
    assert RULES.of(user, groups) == expected


def app(count: int, cmd: str = "a", cpus: float = 1, over: float = 1.0, least: float = 1.0) -> App:
    strategy = UpgradeStrategy(maximum_over_capacity=over, minimum_health_capacity=least)
    return App(id="/u/a", cmd=cmd, cpus=cpus, mem=10, instances=count, upgrade_strategy=strategy)


@pytest.mark.parametrize(
    ("generations", "target", "restarted", "instances", "cpus"),
    [
        ([], app(3), False, 3, 3),
        ([Generation(app(3), 3, 0)], app(3), False, 3, 3),
        ([Generation(app(3), 3, 0)], app(5), False, 5, 5),
        # Scaled down, the surplus runs until it has ended.
        ([Generation(app(3), 3, 0)], app(1), False, 3, 3),
        ([Generation(app(3), 1, 2)], app(1), False, 3, 3),
        ([Generation(app(3), 1, 2)], app(3), False, 5, 5),
        ([Generation(app(3), 0, 3)], None, False, 3, 3),
        # Replaced, old and new ones run side by side as far as the strategy lets them.
        ([Generation(app(4), 4, 0)], app(4, "b"), False, 8, 8),
        ([Generation(app(4), 4, 0)], app(4, "b", over=0.5), False, 6, 6),
        ([Generation(app(4), 4, 0)], app(4, "b", over=0, least=0), False, 4, 4),
        ([Generation(app(4), 4, 0)], app(4, "b", over=0), False, 5, 5),
        ([Generation(app(4, over=0.5), 4, 0)], app(4, over=0.5), True, 6, 6),
        ([Generation(app(4), 4, 0)], app(2, "b", cpus=3, over=0, least=0), False, 4, 6),
    ],
)
def test_use_is_what_an_app_may_come_to_take_at_once(
    generations: list[Generation], target: App | None, restarted: bool, instances: float, cpus: float
) -> None:
    found = use(Held(target, generations), target, restarted)
    assert (found["instances"], found["cpus"], found["mem"]) == (instances, cpus, 10 * instances)


def test_going_down_is_allowed_above_the_limit_and_going_up_is_not() -> None:
    held = {"/u/a": Held(app(8), [Generation(app(8), 8, 0)])}
    quota = Quota({"cpus": 4}, {"instances": 2})
    for target in (app(7), app(8), app(0), None):
        assert not excesses(quota, held, {"/u/a": target})
    above_both = excesses(quota, held, {"/u/a": app(9)})
    assert [(each.of, each.most, each.used, each.asked) for each in above_both] == [
        ("user", 4, 8, 9),
        ("/u/a", 2, 8, 9),
    ]
    assert fitting(quota, held, app(9)) == 8


def test_all_apps_count_together() -> None:
    other = App(id="/u/b", cmd="a", cpus=1, mem=10, instances=3)
    held = {"/u/b": Held(other, [])}
    quota = Quota({"cpus": 4, "mem": 35})
    (first, second) = excesses(quota, held, {"/u/a": app(2)})
    assert (first.resource, first.used, first.asked) == ("cpus", 3, 5)
    assert (second.resource, second.used, second.asked) == ("mem", 30, 50)
    assert fitting(quota, held, app(2)) == 0
    assert not excesses(quota, held, {"/u/a": app(2), "/u/b": None})


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("limited")
    site = Site(
        folder,
        configuration="""
c.Backend.user_quota = {"instances": 10, "cpus": 4}
c.Backend.group_quotas = {"physics": {"user": {"cpus": 40, "instances": 40}}}
c.Backend.max_apps_of_user = 30
c.Backend.max_labels = 3
c.Backend.max_variables = 3
""",
    )
    site.hub.owners["token-of-carl"] = {
        "kind": "user",
        "name": "carl",
        "scopes": ["access:servers!user=carl"],
        "groups": ["physics"],
    }
    try:
        asyncio.run(site.backend.start())
        yield site
    finally:
        asyncio.run(site.backend.destroy())
        site.hub.close()


async def clean(site: Site) -> None:
    for each in (await site.admin.get("/v2/apps"))["apps"]:
        await site.admin("DELETE", f"/v2/apps{each['id']}")
    await site.admin.deployed()


async def test_a_hundred_requests_at_once_cannot_exceed_a_quota(limited: Site) -> None:
    def body(number: int) -> dict[str, Any]:
        return {"id": f"/jupyter/alice/dask/c{number}", **BODY, "instances": 2}

    answers = await asyncio.gather(
        *(limited.alice("POST", "/v2/apps", body(number)) for number in range(100))
    )
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(201) == 5
    assert statuses.count(403) == 95
    report = await limited.alice.get("/hubfleet/quota")
    assert (report["used"]["instances"], report["left"]["instances"]) == (10, 0)
    await clean(limited)


async def test_a_refusal_names_the_limit_what_uses_it_and_what_would_fit(limited: Site) -> None:
    await limited.admin("POST", "/v2/apps", {"id": "/jupyter/bob/notebook", **BODY, "cpus": 1})
    made = await limited.bob("POST", "/v2/apps", {"id": "/jupyter/bob/dask/c/workers", **BODY, "cpus": 1})
    assert made.status_code == 201
    refused = await limited.bob("PUT", "/v2/apps/jupyter/bob/dask/c/workers?force=true", {"instances": 8})
    assert refused.status_code == 403
    sentence = (
        "the user bob may have 4 cpus in all; 2 are in use (1 by /jupyter/bob/dask/c/workers,"
        " 1 by /jupyter/bob/notebook), and this would make it 9; 3 instances would fit"
    )
    assert refused.json()["message"] == sentence
    (detail,) = refused.json()["details"]
    assert detail == {
        "path": "/cpus",
        "errors": [sentence],
        "resource": "cpus",
        "of": "user",
        "most": 4,
        "used": 2,
        "asked": 9,
        "apps": {"/jupyter/bob/dask/c/workers": 1, "/jupyter/bob/notebook": 1},
        "fits": 3,
    }
    assert (await limited.bob.app("/jupyter/bob/dask/c/workers"))["instances"] == 1
    fitted = await limited.bob("PUT", "/v2/apps/jupyter/bob/dask/c/workers?force=true", {"instances": 3})
    assert fitted.status_code == 200
    # The hub's own changes count, but are not refused; what goes down never is.
    grown = await limited.admin("PUT", "/v2/apps/jupyter/bob/notebook?force=true", {"instances": 3})
    assert grown.status_code == 200
    lowered = await limited.bob("PUT", "/v2/apps/jupyter/bob/dask/c/workers?force=true", {"instances": 2})
    assert lowered.status_code == 200
    await clean(limited)


async def test_tasks_that_will_not_end_are_no_way_around(limited: Site) -> None:
    stubborn = {
        "id": "/jupyter/alice/dask/a",
        **BODY,
        "cmd": LINGERING,
        "cpus": 4,
        "taskKillGracePeriodSeconds": 600,
    }
    assert (await limited.alice("POST", "/v2/apps", stubborn)).status_code == 201
    (task,) = await limited.alice.running("/jupyter/alice/dask/a")
    await limited.backend.deaf(1)
    await limited.alice("DELETE", "/v2/apps/jupyter/alice/dask/a")
    refused = await limited.alice("POST", "/v2/apps", {**stubborn, "id": "/jupyter/alice/dask/b"})
    assert refused.status_code == 403
    assert "4 are in use (4 by /jupyter/alice/dask/a)" in refused.json()["message"]
    limited.backend.let_end(task["id"])
    await limited.admin.deployed()

    async def accepted() -> bool:
        answer = await limited.alice("POST", "/v2/apps", {"id": "/jupyter/alice/dask/b", **BODY, "cpus": 4})
        return answer.status_code == 201

    await eventually(accepted)
    await clean(limited)


async def test_who_sees_which_quota(limited: Site) -> None:
    carl = limited.user("token-of-carl")
    await carl("POST", "/v2/apps", {"id": "/jupyter/carl/dask/c", **BODY, "instances": 20, "cpus": 1})
    own = await carl.get("/hubfleet/quota")
    assert own["groups"] == ["physics"]
    assert own["limits"]["user"] == {"instances": 40, "cpus": 40, "mem": None, "gpus": None}
    assert own["limits"]["app"] == {"instances": None, "cpus": None, "mem": None, "gpus": None}
    assert own["used"] == {"instances": 20, "cpus": 20, "mem": 20, "gpus": 0}
    assert own["left"] == {"instances": 20, "cpus": 20, "mem": None, "gpus": None}
    assert own["apps"] == {"/jupyter/carl/dask/c": own["used"]}
    assert await limited.admin.get("/hubfleet/quota?user=carl") == own
    for client in (Client(limited.backend.url, token="token-of-carl"), limited.backend.client):
        report = await client.quota("carl")
        assert report is not None
        assert (report.left.cpus, report.left.mem, report.limits.app.cpus) == (20, None, None)
        assert report.apps["/jupyter/carl/dask/c"].instances == 20
    assert (await limited.admin.get("/hubfleet/quota?user=nobody-yet"))["groups"] is None
    assert (await limited.admin("GET", "/hubfleet/quota")).status_code == 400
    for token in ("token-of-alice", "a-reader-of-the-tests"):
        for name in ("carl", "not-there"):
            answer = await limited.user(token)("GET", f"/hubfleet/quota?user={name}")
            assert (answer.status_code, name in answer.text) == (403, False)
    assert (await limited.user(None)("GET", "/hubfleet/quota")).status_code == 401
    await clean(limited)


async def test_the_number_of_apps_labels_and_variables_is_limited(limited: Site) -> None:
    body = {**BODY, "instances": 0}
    answers = [
        await limited.alice("POST", "/v2/apps", {"id": f"/jupyter/alice/dask/n{number}", **body})
        for number in range(31)
    ]
    assert [answer.status_code for answer in answers] == [201] * 30 + [403]
    assert answers[-1].json()["message"] == (
        "the user alice may have 30 apps and has 30; end some that are not needed"
    )
    many = {str(number): "x" for number in range(4)}
    for field, word in (("labels", "3 labels"), ("env", "3 variables in its environment")):
        answer = await limited.admin("POST", "/v2/apps", {"id": "/many", **body, field: many})
        assert answer.status_code == 403
        assert answer.json()["message"] == f"an app may have {word}, and /many would have 4"
    patterns = [["hostname", "LIKE", ".*" + "x" * number] for number in range(101)]
    answer = await limited.admin("POST", "/v2/apps", {"id": "/many", **body, "constraints": patterns})
    assert answer.json()["message"] == "an app may have 100 constraints, and /many would have 101"
    await clean(limited)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"mem": 0}, "apps of the user alice say how much memory they may use; 0 would be no limit"),
        (
            {"taskKillGracePeriodSeconds": 3601},
            "apps of the user alice have at most 3600 s to end when they are told to",
        ),
    ],
)
async def test_a_user_has_nothing_without_end(limited: Site, asked: dict[str, Any], sentence: str) -> None:
    """What reserves no memory is held to none, and counts for nothing; a grace is cut short by nobody."""
    body = {"id": "/jupyter/alice/dask/m", **BODY, "instances": 0, **asked}
    answer = await limited.alice("POST", "/v2/apps", body)
    assert (answer.status_code, answer.json()["details"]) == (
        422,
        [{"path": f"/{next(iter(asked))}", "errors": [sentence]}],
    )
    assert (await limited.admin("POST", "/v2/apps", body)).status_code == 201
    assert (await limited.alice("PUT", f"/v2/apps{body['id']}?force=true", {"cpus": 0.02})).status_code == 422
    await clean(limited)
