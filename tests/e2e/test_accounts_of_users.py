"""With `mesos_user = "{username}"` a whole server runs as its user's account, apart from all others."""

from __future__ import annotations

import os
import pwd
import shutil
import site
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from hub import Hub
from hubs import AdminOf, make_hub

pytestmark = pytest.mark.long

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def may_be_run_by_all(program: Path) -> bool:
    """Whether every account reaches a program; ours may be in somebody's closed home."""
    place = program.resolve()
    return place.is_file() and all(each.stat().st_mode & stat.S_IXOTH for each in (place, *place.parents))


# Our own interpreter, or the machine's of the same version, for which our packages are made too.
INTERPRETER = next(filter(may_be_run_by_all, [Path(sys.executable), Path("/usr/bin", VERSION)]), None)

# Accounts that every Linux has; the hub's users are called so.
NAMES = ("daemon", "nobody")

OWN_ACCOUNTS = """
c.JupyterHub.services[0]["command"].remove("--accounts=shared")
c.MarathonSpawner.mesos_user = "{{username}}"
c.MarathonSpawner.home_dir = {home!r}
c.Spawner.cmd = {command!r}
c.Spawner.args = []
c.Spawner.environment = {{"PYTHONPATH": {packages!r}}}
c.MarathonSpawner.start_failures = 1
c.JupyterHub.internal_ssl = True
c.JupyterHub.internal_certs_location = os.environ["HUBFLEET_STATE"] + "/certificates"
c.JupyterHub.hub_bind_url = c.JupyterHub.hub_bind_url.replace("http:", "https:")
c.ConfigurableHTTPProxy.api_url = c.ConfigurableHTTPProxy.api_url.replace("http:", "https:")
"""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other accounts may pass through, unlike pytest's own."""
    place = Path(tempfile.mkdtemp(prefix="hubfleet-accounts-"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def hub(open_place: Path) -> Iterator[Hub]:
    homes = open_place / "homes"
    homes.mkdir(mode=0o755)
    for name in NAMES:
        (homes / name).mkdir(mode=0o700)
        account = pwd.getpwnam(name)
        os.chown(homes / name, account.pw_uid, account.pw_gid)
    extra = OWN_ACCOUNTS.format(
        home=str(homes / "{username}"),
        command=[str(INTERPRETER), "-m", "jupyterhub.singleuser"],
        packages=site.getsitepackages()[0],
    )
    hub = make_hub(open_place / "hub", extra)
    hub.state.mkdir(mode=0o711)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


def server_of(hub: Hub, name: str) -> psutil.Process:
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("JUPYTERHUB_USER") == name and str(hub.state) in environment.get(
            "MESOS_SANDBOX", ""
        ):
            return process
    raise AssertionError(f"no server of {name} runs")


@pytest.mark.skipif(
    os.geteuid() != 0 or INTERPRETER is None,
    reason="only root runs servers as other accounts, and they need an interpreter that they reach",
)
def test_each_server_runs_as_its_users_account_and_reaches_no_others_files(hub: Hub) -> None:
    admin = AdminOf(hub)
    for name in (*NAMES, "no-such-account", "root"):
        assert admin("POST", f"/users/{name}").status_code == 201
    for name in NAMES:
        admin.start(name)
        assert admin.whoami(name) == name

    for name in NAMES:
        account, process = pwd.getpwnam(name), server_of(hub, name)
        assert set(process.uids()) == {account.pw_uid}
        assert set(process.gids()) == {account.pw_gid}
        assert process.environ()["HOME"].endswith(f"/homes/{name}")
        for file in ("KEYFILE", "CERTFILE", "CLIENT_CA"):
            status = os.stat(process.environ()[f"JUPYTERHUB_SSL_{file}"])
            assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (account.pw_uid, 0o600)

        answer = requests.put(
            f"{hub.url}/user/{name}/api/contents/mine.txt",
            json={"type": "file", "format": "text", "content": "x"},
            headers={"Authorization": f"token {admin.token_of(name)}"},
            timeout=60,
        )
        assert answer.status_code == 201, answer.text
        home = Path(process.environ()["HOME"])
        assert (home / "mine.txt").stat().st_uid == account.pw_uid

    first, second = NAMES
    as_account(second, [f"{home.parent}/{first}/mine.txt", server_of(hub, first).environ()["MESOS_SANDBOX"]])

    for name, said in (("no-such-account", "no account"), ("root", "runs as root only if")):
        refused = admin("POST", f"/users/{name}/server")
        assert refused.status_code >= 400
        assert said in refused.text


def as_account(name: str, paths: list[str]) -> None:
    """Assert that an account can open none of these."""
    account = pwd.getpwnam(name)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        for path in paths:
            try:
                os.close(os.open(path, os.O_RDONLY))
                os._exit(1)
            except PermissionError:
                pass
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
