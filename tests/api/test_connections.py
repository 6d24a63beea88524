"""How a client reaches a backend: several addresses, credentials, certificates, and waits that end."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from pathlib import Path

import pytest
from answering import listening, saying, silent
from certified import asking_for_certificates, authority, relaying
from conftest import RunningBackend
from ports import free_port
from rest import eventually

from hubfleet.api import watcher as watching
from hubfleet.api.app import App
from hubfleet.api.client import Client, split_urls
from hubfleet.api.errors import AccessDenied, BackendUnreachable, NotFound
from hubfleet.api.watcher import Watcher

pytestmark = pytest.mark.usefixtures("both_ways")

AWAY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TURNED_AWAY = (
    "certificate required|unknown ca|decrypt error|[Cc]onnection reset|without response|Broken pipe"
)
PONG = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong"


def small(app_id: str) -> App:
    return App(id=app_id, cmd="exec sleep 600", cpus=0.01, mem=1, instances=0)


async def test_work_goes_on_over_the_address_that_is_left(backend: RunningBackend) -> None:
    async with relaying(backend.port) as first, relaying(backend.port) as second:
        urls = [f"http://127.0.0.1:{port}" for port in (free_port(), first, second)]
        client = Client(urls, token=backend.admin_token, timeout=60)
        await client.create_app(small("/a"))
        await client.update_app("/a", {"cpus": 0.02})
        assert (await client.get_app("/a")).cpus == 0.02
        await client.delete_app("/a")
        client.close()


async def test_a_proxy_whose_backend_is_away_is_passed_over_where_that_is_safe(
    backend: RunningBackend,
) -> None:
    async with listening(saying(AWAY)) as away:
        client = Client([f"http://127.0.0.1:{away}", backend.url], token=backend.admin_token)
        with pytest.raises(NotFound):
            await client.get_app("/nothing")
        with pytest.raises(BackendUnreachable, match="503"):
            await client.create_app(small("/a"))  # who knows what became of it there
        watcher = Watcher(client)
        watcher.start()
        assert await watcher.wait_sighted(60)
        await watcher.close()
        assert await backend.client.list_apps() == []
        client.close()


async def test_when_all_are_away_each_is_named() -> None:
    async with listening(saying(AWAY)) as away:
        client = Client([f"http://127.0.0.1:{away}", "http://127.0.0.1:1"], timeout=60)
        with pytest.raises(BackendUnreachable, match=rf"127.0.0.1:{away}: it answered 503; .*127.0.0.1:1: "):
            await client.list_apps()
        client.close()


async def test_a_server_that_says_nothing_is_given_up_and_the_next_one_asked(backend: RunningBackend) -> None:
    async with listening(silent) as dumb:
        client = Client([f"http://127.0.0.1:{dumb}", backend.url], token=backend.admin_token, timeout=0.5)

        async def answered() -> bool:
            with suppress(BackendUnreachable):  # on a busy machine so may the next one be
                return await client.list_apps() == []
            return False

        await eventually(answered)
        alone = Client(f"http://127.0.0.1:{dumb}", timeout=0.5)
        with pytest.raises(BackendUnreachable, match=r"[Tt]imed out|Timeout"):
            await alone.ping()
        client.close()
        alone.close()


async def test_user_name_and_password_are_sent_as_basic_authentication(backend: RunningBackend) -> None:
    heard: list[bytes] = []
    async with listening(saying(PONG, heard)) as port:
        client = Client(f"http://127.0.0.1:{port}", username="ann", password="a:b")
        await client.ping()
        client.close()
    assert b"\r\nAuthorization: Basic " + base64.b64encode(b"ann:a:b") + b"\r\n" in heard[0]
    # Our backend takes a token for the password.
    client = Client(backend.url, username="anybody", password=backend.admin_token)
    assert await client.list_apps() == []
    client.close()
    client = Client(backend.url, username="anybody", password="wrong")
    with pytest.raises(AccessDenied):
        await client.list_apps()
    client.close()


@pytest.mark.parametrize("url", ["http://ann:secret@h:8080", "https://token-alone@h", "ftp://a:secret@h"])
def test_an_address_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="must hold no user name or password") as refused:
        split_urls(["http://127.0.0.1:1", url])
    assert "secret" not in str(refused.value)
    assert "token-alone" not in str(refused.value)


async def test_certificates_are_shown_and_asked_for(backend: RunningBackend, tmp_path: Path) -> None:
    ours, others = authority(tmp_path / "ours"), authority(tmp_path / "others")
    token = backend.admin_token
    async with relaying(backend.port, asking_for_certificates(ours)) as port:
        url = f"https://127.0.0.1:{port}"
        client = Client(url, token=token, verify=ours.file, certificate=ours.issue("client"))
        await client.create_app(small("/a"))
        watcher = Watcher(client)
        watcher.start()
        assert await watcher.wait_sighted(60)
        assert watcher.lookup("/a") is not None
        await watcher.close()
        client.close()
        both = tmp_path / "both.pem"
        both.write_text("".join(Path(file).read_text() for file in ours.issue("in one file")))
        client = Client(url, token=token, verify=ours.file, certificate=str(both))
        assert (await client.get_app("/a")).id == "/a"
        client.close()
        for wrong, sentence in (
            ({"verify": ours.file}, _TURNED_AWAY),
            ({"verify": ours.file, "certificate": others.issue("stranger")}, _TURNED_AWAY),
            ({"verify": others.file, "certificate": ours.issue("again")}, "certificate verify failed"),
            ({"certificate": ours.issue("more")}, "certificate verify failed"),  # believes public ones only
            ({"verify": ours.file, "certificate": "/not/there.pem"}, "/not/there.pem"),
            ({"verify": "/not/there.pem"}, "/not/there.pem"),
        ):
            stranger = Client(url, token=token, **wrong)  # type: ignore[arg-type]
            with pytest.raises(BackendUnreachable, match=sentence):
                await stranger.list_apps()
            stranger.close()


async def test_a_watcher_tries_for_ever_at_pauses_that_grow_differ_and_stay_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) >= 40:
            enough.set()
            await sleep(3600)
        await sleep(0)

    client = Client("http://127.0.0.1:1", timeout=60)
    watcher = Watcher(client)
    monkeypatch.setattr(watching.asyncio, "sleep", counted)
    watcher.start()
    try:
        async with asyncio.timeout(60):
            await enough.wait()
    finally:
        monkeypatch.undo()
        await watcher.close()
        client.close()
    assert pauses[0] < 1
    assert len({round(pause, 6) for pause in pauses[10:]}) > 20
    assert all(10 < pause < 20 for pause in pauses[10:])
