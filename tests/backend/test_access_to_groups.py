"""Who sees and changes which group, and what is told of others where a change touches both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from rest import stream
from sites import BODY, READER, Site, running_site

ALICES, BOBS = "/jupyter/alice/dask/c/workers", "/jupyter/bob/dask/c/workers"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(autouse=True)
def nothing_is_left(site: Site) -> Iterator[None]:
    yield

    async def clean() -> None:
        await site.admin("DELETE", "/v2/groups?force=true")
        await site.admin.deployed()

    asyncio.run(clean())


async def test_a_deployment_of_others_too_is_not_named(site: Site) -> None:
    waiting = {**BODY, "cpus": 33, "instances": 2}
    both = [{"id": ALICES, **waiting}, {"id": BOBS, **waiting}]
    assert (await site.admin("PUT", "/v2/apps", both)).status_code == 200
    (deployment,) = await site.admin.get("/v2/deployments")
    for path in (
        *("/v2/apps", f"/v2/apps{ALICES}", "/v2/apps/jupyter/alice/*"),
        *("/v2/groups?embed=group.apps&embed=group.groups&embed=group.apps.deployments", "/v2/deployments"),
    ):
        assert deployment["id"] in (await site.admin("GET", path)).text
        assert deployment["id"] not in (await site.alice("GET", path)).text, path


async def test_a_user_makes_changes_and_ends_groups_in_their_own_group(site: Site) -> None:
    alice, path = site.alice, "/v2/groups/jupyter/alice/dask"
    small = {"id": "workers", **BODY}
    made = await alice("POST", f"{path}/c", {"apps": [small], "groups": [{"id": "more"}]})
    assert made.status_code == 201, made.text
    await alice.deployed()
    shown = await alice.get(f"{path}/c")
    assert [group["id"] for group in shown["groups"]] == ["/jupyter/alice/dask/c/more"]
    for body in ({"scaleBy": 2}, {"version": shown["version"]}, {"apps": []}):
        assert (await alice("PUT", f"{path}/c?force=true", body)).status_code == 200, body
    assert len(await alice.get(f"{path}/c/versions")) == 4
    assert (await alice("DELETE", f"{path}?force=true")).status_code == 200
    await alice.deployed()
    assert (await alice("GET", f"{path}/c")).status_code == 404


@pytest.mark.parametrize(
    "group", ["", "/jupyter", "/jupyter/alice", "/jupyter/alice/other", "/jupyter/bob/dask/c", "/x"]
)
async def test_a_user_changes_no_group_elsewhere(site: Site, group: str) -> None:
    await site.admin("PUT", f"/v2/apps{BOBS}", {**BODY, "instances": 0})
    await site.admin("PUT", f"/v2/apps{ALICES}", {**BODY, "instances": 0})
    await site.admin.deployed()
    before = await site.admin.get("/v2/groups")
    for method, body in (
        *(("POST", {}), ("PUT", {}), ("PUT", {"scaleBy": 2}), ("PUT", {"version": before["version"]})),
        *(("PUT", {"groups": []}), ("PATCH", {}), ("DELETE", None)),
    ):
        for query in ("", "?dryRun=true", "?force=true"):
            answer = await site.alice(method, f"/v2/groups{group}{query}", body)
            assert (answer.status_code, answer.json()) == (
                403,
                {
                    "message": "the user alice may make and change apps only under /jupyter/alice/dask/, "
                    f"and {group or '/'} is not there"
                },
            )
    for token in (READER, "token-of-a-dashboard"):
        looks = await site.user(token)("PUT", f"/v2/groups{group}", {})
        assert looks.status_code == 403
        assert looks.json()["message"].endswith("may look, but not make or change apps")
    assert await site.admin.get("/v2/groups") == before


async def test_a_way_around_by_ids_in_a_body_is_none(site: Site) -> None:
    for body in (
        {"id": "/jupyter/bob/dask/c"},
        {"id": "../../../bob/dask/c"},
        {"apps": [{"id": "/jupyter/bob/dask/x", **BODY}]},
        {"apps": [{"id": "../x", **BODY}]},
        {"groups": [{"id": "/jupyter/bob/dask/x", "apps": []}]},
        {"apps": [{"id": "x", **BODY, "labels": {"HUBFLEET_OWNER": "/jupyter/bob/notebook"}}]},
    ):
        for method in ("PUT", "POST"):
            answer = await site.alice(method, "/v2/groups/jupyter/alice/dask/c", body)
            assert answer.status_code in (403, 422), (body, answer.text)
    assert (await site.admin.get("/v2/apps"))["apps"] == []


async def test_of_groups_that_others_have_a_part_in_one_sees_ones_own(site: Site) -> None:
    hidden = {"id": "/jupyter/bob/dask", "apps": [{"id": "c", **BODY, "instances": 0}]}
    await site.admin("PUT", f"/v2/apps{ALICES}", {**BODY, "instances": 0})
    await site.admin("POST", "/v2/groups", hidden)
    await site.admin("PUT", "/v2/groups/jupyter", {"dependencies": ["/jupyter/bob/dask", "/secret"]})
    await site.admin("PUT", "/v2/groups/jupyter/alice/dask", {"dependencies": ["/secret", ALICES]})
    await site.admin("POST", "/v2/groups/jupyter/bob/empty", {})
    await site.admin.deployed()
    for path in ("", "/jupyter", "/jupyter/alice", "/jupyter/alice/dask"):
        answer = await site.alice("GET", f"/v2/groups{path}")
        assert answer.status_code == 200
        assert "bob" not in answer.text, path
        assert "secret" not in answer.text, path
    versions = {
        (await site.alice.get(f"/v2/groups{path}"))["version"]
        for path in ("", "/jupyter", "/jupyter/alice/dask/c")
    }
    assert versions == {(await site.alice.app(ALICES))["version"]}, "when others change something is theirs"
    assert len(await site.alice.get("/v2/groups/jupyter/alice/versions")) == 2
    for path in ("", "/jupyter"):
        version = (await site.admin.get(f"/v2/groups{path}"))["version"]
        for of in ("versions", f"versions/{version}"):
            assert (await site.alice("GET", f"/v2/groups{path}/{of}")).status_code == 403
    for path in ("/jupyter/bob", "/jupyter/bob/dask", "/jupyter/bob/empty", "/jupyter/bob/not"):
        for of in ("", "/apps", "/versions", "/versions/2020-01-01T00:00:00Z"):
            none = await site.alice("GET", f"/v2/groups{path}{of}")
            assert (none.status_code, none.json()) == (404, {"message": f"Group '{path}' does not exist"})


async def test_what_was_in_a_group_is_shown_to_a_reader_without_its_secrets(site: Site) -> None:
    secret = {"id": "app", **BODY, "instances": 0, "env": {"KEY": "the-secret"}}
    await site.admin("POST", "/v2/groups", {"id": "/jupyter/alice/dask/s", "apps": [secret]})
    path = "/v2/groups/jupyter/alice/dask/s"
    (version,) = await site.alice.get(f"{path}/versions")
    for token, told in (("token-of-alice", True), (READER, False), ("token-of-a-teacher", False)):
        for of in ("", f"/versions/{version}", "/apps"):
            answer = await site.user(token)("GET", f"{path}{of}")
            assert (answer.status_code, "the-secret" in answer.text) == (200, told)


async def test_a_refusal_names_no_app_of_others(site: Site) -> None:
    await site.admin("PUT", "/v2/apps/jupyter/alice", {**BODY, "instances": 0})
    sentence = "Groups and Applications may not have the same identifier."
    for method, path, body in (
        ("POST", "/v2/apps", {"id": ALICES, **BODY}),
        ("PUT", "/v2/apps", [{"id": ALICES, **BODY}]),
        ("PUT", "/v2/groups/jupyter/alice/dask/c", {}),
    ):
        answer = await site.alice(method, path, body)
        assert answer.json()["details"] == [{"path": "/id", "errors": [sentence]}]
        told = await site.admin(method, path, body)
        assert "/jupyter/alice is an app, so it cannot hold the" in told.text


async def test_a_plan_names_no_app_of_others_that_goes_with_ones_own(site: Site) -> None:
    await site.admin("PUT", f"/v2/apps{ALICES}", {**BODY, "instances": 0})
    owned = {**BODY, "instances": 0, "labels": {"HUBFLEET_OWNER": ALICES}}
    await site.admin("PUT", f"/v2/apps{BOBS}", owned)
    await site.admin.deployed()
    path = "/v2/groups/jupyter/alice/dask/c"
    plan = (await site.alice("PUT", f"{path}?dryRun=true", {"apps": []})).json()
    assert plan == {"steps": [{"actions": [{"action": "StopApplication", "app": ALICES}]}]}
    assert (await site.alice("DELETE", path)).status_code == 200
    assert (await site.admin("GET", f"/v2/apps{BOBS}")).status_code == 404


async def test_changes_of_a_group_are_heard_by_who_sees_it(site: Site) -> None:
    async with stream(site.backend.url, "token-of-alice") as heard:
        await site.bob("PUT", "/v2/groups/jupyter/bob/dask/c", {})
        await site.admin("PUT", "/v2/groups/jupyter", {"dependencies": ["/x"]})
        for body in ({"apps": [{"id": "a", **BODY, "mem": 1e9}]}, {}):
            await site.alice("PUT", "/v2/groups/jupyter/alice/dask/c", body)
        await heard.until("group_change_success")
    told = [(event["eventType"], event["groupId"]) for event in heard.events if "groupId" in event]
    group = "/jupyter/alice/dask"
    assert told == [("group_change_failed", group), ("group_change_success", group)]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    configuration = 'c.Backend.user_quota = {"instances": 5}\nc.Backend.max_apps_of_user = 3'
    with running_site(tmp_path_factory.mktemp("limited"), configuration=configuration) as site:
        yield site


async def test_quotas_hold_for_changes_of_groups(limited: Site) -> None:
    alice, path = limited.alice, "/v2/groups/jupyter/alice/dask/c"
    many = {"apps": [{"id": name, **BODY, "instances": 2} for name in "abc"]}
    for query in ("", "?dryRun=true"):
        refused = await alice("PUT", f"{path}{query}", many)
        assert refused.status_code == 403, refused.text
        assert "may have 5 instances in all" in refused.json()["message"]
    assert (await alice("PUT", path, {"apps": many["apps"][:2]})).status_code == 200
    await alice.deployed()
    assert (await alice("PUT", path, {"scaleBy": 1.5})).status_code == 403
    assert (await alice("PUT", path, {"scaleBy": 1.1})).status_code == 403, "each is rounded up"
    assert (await alice("PUT", path, {"scaleBy": 0.5})).status_code == 200
    groups = {"groups": [{"id": name} for name in "wxyz"]}
    refused = await alice("PUT", path, groups)
    assert (refused.status_code, "may make 3 groups" in refused.text) == (403, True)
    report = await alice.get("/hubfleet/quota")
    assert report["used"]["instances"] in (2, 3, 4), "those that still end count"


async def test_apps_that_take_the_place_of_others_are_no_more_than_before(limited: Site) -> None:
    alice, path = limited.alice, "/v2/groups/jupyter/alice/dask/full"
    none = {**BODY, "instances": 0}
    await limited.admin("DELETE", "/v2/groups/jupyter?force=true")
    assert (await alice("PUT", path, {"apps": [{"id": name, **none} for name in "abc"]})).status_code == 200
    refused = await alice("PUT", f"{path}?force=true", {"apps": [{"id": name, **none} for name in "bcde"]})
    assert (refused.status_code, "may have 3 apps and has 3" in refused.text) == (403, True)
    others = await alice("PUT", f"{path}?force=true", {"apps": [{"id": name, **none} for name in "cde"]})
    assert others.status_code == 200, others.text


async def test_a_group_may_fail_fast(limited: Site) -> None:
    room = {**BODY, "cpus": 20}
    body = {"apps": [{"id": name, **room, "instances": 2} for name in "ab"]}
    refused = await limited.admin("PUT", "/v2/groups/fast?failFast=true", body)
    assert refused.status_code == 409, "each would find a place, but not all together"
    assert "no room now for 2 more of /fast/b" in refused.json()["message"]
    assert (await limited.admin("GET", "/v2/groups/fast")).status_code == 404
