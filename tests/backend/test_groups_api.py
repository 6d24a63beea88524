"""Groups over the API: the tree of apps as each caller sees it, scaled and ended as one."""

from __future__ import annotations

from conftest import RunningBackend
from rest import Rest


async def test_a_group_is_shown_scaled_and_ended_as_one(shared_rest: Rest, shared: RunningBackend) -> None:
    await shared_rest.create("/team/one", instances=1)
    await shared_rest.create("/team/deep/two", instances=2)
    await shared_rest.deployed()
    group = await shared_rest.get("/v2/groups/team")
    assert [app["id"] for app in group["apps"]] == ["/team/one"]
    assert [app["id"] for app in group["groups"][0]["apps"]] == ["/team/deep/two"]
    assert "apps" not in await shared_rest.get("/v2/groups/team?embed=group.groups")
    assert len(await shared_rest.get("/v2/groups/team/apps")) == 2
    counted = await shared_rest.get("/v2/groups/team?embed=group.apps.counts")
    assert counted["apps"][0]["tasksRunning"] == 1
    scaled = await shared_rest("PUT", "/v2/groups/team", {"scaleBy": 1.5})
    assert scaled.status_code == 200, scaled.text
    await shared_rest.running("/team/one", 2)
    await shared_rest.running("/team/deep/two", 3)
    await shared_rest.deployed()
    ended = await shared_rest("DELETE", "/v2/groups/team")
    assert ended.status_code == 200, ended.text
    await shared_rest.deployed()
    gone = await shared_rest("GET", "/v2/groups/team")
    assert (gone.status_code, gone.json()) == (404, {"message": "Group '/team' does not exist"})


async def test_a_bad_scaling_changes_nothing(shared_rest: Rest) -> None:
    await shared_rest.create("/odd/one", labels={"MARATHON_SINGLE_INSTANCE_APP": "true"}, **STILL)
    await shared_rest.deployed()
    before = await shared_rest.app("/odd/one")
    for factor in ("2", True, -1, 1e300, 2):
        answer = await shared_rest("PUT", "/v2/groups/odd", {"scaleBy": factor})
        assert answer.status_code == 422, (factor, answer.text)
    assert (await shared_rest("PUT", "/v2/groups/odd", b'{"scaleBy": 1e999}')).status_code == 422
    assert await shared_rest.app("/odd/one") == before


STILL = {"upgradeStrategy": {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}}
