"""A submission that would rather be refused than wait is told what is missing."""

from __future__ import annotations

from typing import Any

from rest import Rest

LARGE: dict[str, Any] = {"id": "/large", "cmd": "exec sleep 600", "cpus": 40, "mem": 1}


async def test_what_has_no_room_now_is_refused_with_what_is_missing(rest: Rest) -> None:
    refused = await rest("POST", "/v2/apps?failFast=true", {**LARGE, "instances": 2})
    assert refused.status_code == 409
    message = refused.json()["message"]
    assert message.startswith("There is no room now for 2 more of /large: ")
    assert "cpus" in message
    assert (await rest("GET", "/v2/apps/large")).status_code == 404
    assert (await rest("POST", "/v2/apps?failFast=true", LARGE)).status_code == 201
    await rest.running("/large")
    await rest.deployed()
    for method in ("PUT", "PATCH"):
        grown = await rest(method, "/v2/apps/large?failFast=True", {"instances": 2})
        assert grown.status_code == 409
        bulk = await rest(method, "/v2/apps?failFast=true", [{"id": "/large", "instances": 2}])
        assert bulk.status_code == 409
    assert (await rest.app("/large"))["instances"] == 1
    assert (await rest("PUT", "/v2/apps/large?failFast=true", {"env": {"A": "1"}})).status_code == 200
    assert (await rest("PUT", "/v2/apps/large?force=true", {"instances": 2})).status_code == 200
