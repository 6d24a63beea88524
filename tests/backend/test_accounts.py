"""A task runs as the account that its app names, finds that account's environment, and no more."""

from __future__ import annotations

import os
import pwd

import pytest
from conftest import RunningBackend
from rest import eventually

from hubfleet.api.app import App
from hubfleet.api.status import TaskFailure

AS_ROOT = os.geteuid() == 0


async def printed(backend: RunningBackend, lines: int) -> list[str]:
    async def read() -> list[str]:
        found = [path.read_text().splitlines() for path in backend.state_dir.glob("sandboxes/*/stdout")]
        return found[0] if found and len(found[0]) >= lines else []

    return await eventually(read)


async def failure(backend: RunningBackend, app_id: str) -> TaskFailure:
    async def read() -> TaskFailure | None:
        return (await backend.client.get_app(app_id)).last_task_failure

    found = await eventually(read)
    assert found is not None
    return found


@pytest.mark.skipif(not AS_ROOT, reason="only root can run tasks as another account")
async def test_a_task_runs_as_the_account_of_its_app(backend: RunningBackend) -> None:
    nobody = pwd.getpwnam("nobody")
    cmd = 'id -un; echo "$HOME $USER $LOGNAME"; pwd; echo "$MESOS_SANDBOX"; '
    cmd += f"ls {backend.state_dir} || echo closed; cat {backend.state_dir}/backend.sqlite || echo closed; "
    cmd += "ls ../ || echo closed; echo mine > own && cat own; exec sleep 300"
    await backend.client.create_app(App(id="/as-nobody", cmd=cmd, user="nobody", cpus=0.1, mem=8))
    who, variables, place, sandbox, *rest = await printed(backend, 8)
    assert who == "nobody"
    assert variables == f"{nobody.pw_dir} nobody nobody"
    assert place == sandbox
    assert rest == ["closed", "closed", "closed", "mine"]


async def test_a_task_without_an_account_runs_as_the_backend(backend: RunningBackend) -> None:
    cmd = 'id -un; echo "$HOME"; exec sleep 300'
    await backend.client.create_app(App(id="/as-backend", cmd=cmd, cpus=0.1, mem=8))
    who, home = await printed(backend, 2)
    assert who == pwd.getpwuid(os.geteuid()).pw_name
    assert home == os.environ.get("HOME", pwd.getpwuid(os.geteuid()).pw_dir)


async def test_an_account_that_there_is_not_is_named_in_the_failure(backend: RunningBackend) -> None:
    await backend.client.create_app(App(id="/as-who", cmd="true", user="no-such-account", cpus=0.1, mem=8))
    assert "no-such-account" in (await failure(backend, "/as-who")).message


async def test_nothing_of_the_backends_own_environment_passes(backend: RunningBackend) -> None:
    await backend.client.create_app(App(id="/env", cmd="env; echo END; exec sleep 300", cpus=0.1, mem=8))
    found: list[str] = []
    while "END" not in found:
        found = await printed(backend, len(found) + 1)
    assert not [line for line in found if backend.admin_token in line or line.startswith("HUBFLEET_BACKEND")]
