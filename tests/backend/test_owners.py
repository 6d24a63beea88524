"""Apps that have no reason to be without another one: made, ended and restored with their owner."""

from __future__ import annotations

from conftest import LINGERING, RunningBackend, task_id_of
from rest import Rest


async def test_an_app_goes_with_its_owner(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/owner")
    await rest.create("/owned", labels={"HUBFLEET_OWNER": "/owner"})
    await rest.create("/owned-by-owned", labels={"HUBFLEET_OWNER": "/owned"})
    await rest.create("/other")
    await rest.running("/owned-by-owned")
    await rest("DELETE", "/v2/apps/owner")
    assert [app["id"] for app in (await rest.get("/v2/apps"))["apps"]] == ["/other"]
    await rest.deployed()
    (other,) = await rest.running("/other")
    assert {task_id_of(each) for each in backend.tasks()} == {other["id"]}
    refused = await rest("POST", "/v2/apps", {"id": "/x", "cmd": "x", "labels": {"HUBFLEET_OWNER": "/owner"}})
    assert refused.status_code == 422
    assert "is not there, or is ending" in refused.json()["details"][0]["errors"][0]


async def test_reverting_the_making_of_an_owner_takes_what_it_owns(rest: Rest) -> None:
    made = await rest.create("/owner", cpus=40, instances=2)
    await rest.create("/owned", instances=0, labels={"HUBFLEET_OWNER": "/owner"})
    reverted = await rest("DELETE", f"/v2/deployments/{made['deployments'][0]['id']}")
    assert reverted.status_code == 200, reverted.text
    await rest.deployed()
    assert (await rest.get("/v2/apps"))["apps"] == []


async def test_reverting_an_end_restores_owner_and_owned(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/owner", cmd=LINGERING, taskKillGracePeriodSeconds=600)
    await rest.create("/owned", labels={"HUBFLEET_OWNER": "/owner"})
    (task,) = await rest.running("/owner")
    await rest.deployed()
    await backend.deaf(1)
    ended = (await rest("DELETE", "/v2/apps/owner")).json()
    reverted = await rest("DELETE", f"/v2/deployments/{ended['deploymentId']}")
    assert reverted.status_code == 200, reverted.text
    backend.let_end(task["id"])
    await rest.deployed()
    await rest.running("/owner")
    await rest.running("/owned")
