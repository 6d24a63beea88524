"""COMMAND health checks on a real backend: run beside the task (``marathon-v2`` 2.4)."""

from __future__ import annotations

from typing import Any

from rest import Rest, eventually


def command(value: str, **fields: Any) -> dict[str, Any]:
    quick = {"delaySeconds": 0, "intervalSeconds": 1, "timeoutSeconds": 60, "gracePeriodSeconds": 0}
    return {"protocol": "COMMAND", "command": {"value": value}, **quick, **fields}


async def test_a_command_is_run_as_the_task_is(shared_rest: Rest) -> None:
    check = command('test "$MARATHON_APP_ID" = /told && test -n "$PORT0" && test -f mark')
    await shared_rest.create("/told", cmd="touch mark; exec sleep 600", healthChecks=[check])

    async def healthy() -> bool:
        return bool((await shared_rest.app("/told"))["tasksHealthy"] == 1)

    await eventually(healthy)
    await shared_rest("DELETE", "/v2/apps/told")


async def test_a_task_whose_command_fails_is_killed_and_the_failure_told(shared_rest: Rest) -> None:
    check = command("exit 7", maxConsecutiveFailures=1)
    await shared_rest.create("/ill", healthChecks=[check])

    async def failure() -> Any:
        app = (await shared_rest.get("/v2/apps/ill?embed=lastTaskFailure"))["app"]
        return app.get("lastTaskFailure")

    told = await eventually(failure)
    assert told["state"] == "TASK_KILLED"
    assert told["message"] == (
        "Task was killed since health check failed. Reason: Command exited with status 7"
    )
    await shared_rest("DELETE", "/v2/apps/ill")
