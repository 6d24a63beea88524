"""The certificates of internal_ssl reach the account of the server, and nobody else."""

from __future__ import annotations

import json
import os
import pwd
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hubfleet.spawner.certificates import Certificates, alt_names
from hubfleet.spawner.errors import StartRefused

CERTIFICATES = Certificates("-key-", "-cert-", "-ca-")
# Another account if we may hand files over, else our own.
ACCOUNT = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


class MarathonInfo(BaseHTTPRequestHandler):
    """A double of Marathon, of which no other thing is asked here than what it is."""

    def do_GET(self) -> None:
        body = json.dumps({"name": "marathon", "version": "1.11.24", "buildref": "unknown"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def marathon() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), MarathonInfo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def made(tmp_path: Path) -> dict[str, str]:
    """What `create_certs` returns."""
    paths = {}
    for name in ("keyfile", "certfile", "cafile"):
        paths[name] = str(tmp_path / f"made-{name}")
        Path(paths[name]).write_text(f"-{name}-")
    return paths


def test_files_are_for_one_account(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        paths = CERTIFICATES.lay_down(tmp_path / "certs", "jupyter/alice/notebook", ACCOUNT.pw_name)
    finally:
        os.umask(before)
    assert {name: Path(path).read_text() for name, path in paths.items()} == {
        "keyfile": "-key-",
        "certfile": "-cert-",
        "cafile": "-ca-",
    }
    for path in map(Path, paths.values()):
        status = path.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (ACCOUNT.pw_uid, 0o600)
        for directory in list(path.parents)[:3]:
            assert directory.stat().st_uid == os.geteuid()
            assert stat.S_IMODE(directory.stat().st_mode) == 0o711


def test_a_new_start_replaces_them_and_follows_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    place = tmp_path / "certs" / "alice"
    place.mkdir(parents=True)
    for name in ("keyfile.pem", f".keyfile.{os.getpid()}"):
        (place / name).symlink_to(victim)
    for text in ("first", "second"):
        paths = Certificates(text, "c", "a").lay_down(tmp_path / "certs", "alice", None)
        assert Path(paths["keyfile"]).read_text() == text
        assert not Path(paths["keyfile"]).is_symlink()
    assert victim.read_text() == "untouched"
    assert len(list(place.iterdir())) == 3


def test_an_account_that_there_is_not_gets_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'no-such-account', which the hub's machine does not know"):
        CERTIFICATES.lay_down(tmp_path / "certs", "alice", "no-such-account")
    assert not (tmp_path / "certs").exists()


def test_the_hosts_of_the_backend_are_names_of_the_certificate() -> None:
    urls = ["http://m1.example.org:8080", "https://10.0.0.4", "http://[::1]:1", "http://10.0.0.4:2"]
    assert alt_names(urls) == ["DNS:m1.example.org", "IP:10.0.0.4", "IP:::1"]


async def test_marathon_is_not_trusted_with_a_key(
    small_hub: Any, marathon: str, made: dict[str, str]
) -> None:
    spawner = small_hub.spawner("alice", internal_ssl=True, marathon_host=marathon)
    with pytest.raises(StartRefused, match=r"set c\.MarathonSpawner\.certs_dir") as refused:
        await spawner.move_certs(made)
    assert refused.value.reason == "configuration"
    with pytest.raises(StartRefused, match="given no certificates"):
        spawner.build_app()


async def test_with_marathon_a_shared_directory_holds_them(
    small_hub: Any, marathon: str, made: dict[str, str], tmp_path: Path
) -> None:
    found = []
    for name, server in (("../x", ""), ("alice", "default"), ("alice", "")):
        spawner = small_hub.spawner(
            name, server, internal_ssl=True, marathon_host=marathon, certs_dir=str(tmp_path / "shared")
        )
        spawner.cert_paths = await spawner.move_certs(made)
        app = spawner.build_app()
        path = Path(str(app.env["JUPYTERHUB_SSL_KEYFILE"]))
        assert path.read_text() == "-keyfile-"
        assert path.is_relative_to(tmp_path / "shared")
        assert "-keyfile-" not in json.dumps(app.to_wire())
        assert str(app.env["JUPYTERHUB_SERVICE_URL"]).startswith("https://")
        found.append(path)
    assert len(set(found)) == 3


async def test_a_backend_that_cannot_be_reached_is_said_to_be_so(
    small_hub: Any, made: dict[str, str]
) -> None:
    spawner = small_hub.spawner("alice", internal_ssl=True)
    with pytest.raises(StartRefused, match="cannot be reached") as refused:
        await spawner.move_certs(made)
    assert refused.value.status_code == 503


async def test_our_own_backend_hands_them_to_the_task(hub: Any, made: dict[str, str]) -> None:
    spawner = hub.spawner("alice", internal_ssl=True)
    assert await spawner.move_certs(made) == {}
    app = spawner.build_app()
    assert app.env["HUBFLEET_TLS_KEY"] == "-keyfile-"
    assert "-keyfile-" not in str(app.cmd)
    spawner.clear_state()
    with pytest.raises(StartRefused, match="given no certificates"):
        spawner.build_app()
