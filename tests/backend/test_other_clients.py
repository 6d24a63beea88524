"""The request shapes of jmarathonspawner 0.3.25 and daskathon (``marathon-v2`` 7.2 and 7.3)."""

from __future__ import annotations

from typing import Any

from rest import Rest, eventually

DASKATHON: dict[str, Any] = {
    "cmd": "echo $MESOS_TASK_ID $PORT_WORKER $PORT_NANNY $PORT_BOKEH; exec sleep 600",
    "cpus": 0.01,
    "mem": 1,
    "instances": 0,
    "portDefinitions": [
        {"port": 0, "protocol": "tcp", "name": name} for name in ("worker", "nanny", "http", "bokeh")
    ],
}


async def test_what_needs_an_image_is_refused_with_a_sentence(shared_rest: Rest) -> None:
    docker = {
        "image": "jupyter/base-notebook",
        "network": "BRIDGE",
        "portMappings": [{"containerPort": 8888, "hostPort": 0, "protocol": "tcp"}],
        "privileged": False,
        "parameters": [],
        "forcePullImage": True,
    }
    body = {
        "id": "/jupyter/alice",
        "cmd": "start-singleuser.sh",
        "mem": 512.0,
        "instances": 1,
        "env": {},
        "container": {"type": "DOCKER", "docker": docker, "volumes": []},
        "healthChecks": [{"protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 300}],
    }
    daskathon = {**DASKATHON, "container": {"docker": {"image": "daskos/daskathon", "forcePullImage": True}}}
    for method, path, sent in (
        ("POST", "/v2/apps", body),
        ("PUT", "/v2/apps/dask-1", {**daskathon, "portDefinitions": None}),
    ):
        refused = await shared_rest(method, path, sent)
        assert (refused.status_code, refused.json()["message"]) == (422, "Object is not valid"), refused.text
        assert "image" in refused.text
    assert (await shared_rest.get("/v2/apps"))["apps"] == []


async def test_daskathons_workers_without_an_image_live_and_are_scaled(shared_rest: Rest) -> None:
    made = await shared_rest("PUT", "/v2/apps/dask-2", DASKATHON)
    assert made.status_code == 201, made.text
    assert (await shared_rest("PUT", "/v2/apps/dask-2?force=True", {"instances": 2})).status_code == 200
    tasks = await shared_rest.running("/dask-2", 2)
    await shared_rest.deployed()

    async def told() -> Any:
        answer = await shared_rest("GET", f"/v2/tasks/{tasks[0]['id']}/files/stdout")
        return answer.text.split()[:1] == [tasks[0]["id"]] and len(answer.text.split()) == 4

    await eventually(told)
    assert all(len(task["ports"]) == 4 for task in tasks)
    victim = tasks[0]["id"]
    killed = await shared_rest("DELETE", f"/v2/apps/dask-2/tasks/{victim}?scale=True&wipe=False")
    assert killed.json().keys() == {"version", "deploymentId"}
    await shared_rest.deployed()
    assert [task["id"] for task in await shared_rest.running("/dask-2")] == [tasks[1]["id"]]
    assert (await shared_rest("DELETE", "/v2/apps/dask-2?force=True")).status_code == 200
    await shared_rest.deployed()
