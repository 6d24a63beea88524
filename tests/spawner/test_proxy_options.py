"""The proxy takes the options that a hub gives it for encryption and sub-domains, which 0.4.0 does not."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ports import free_port

from hubfleet.spawner.proxy_options import take_over


def test_the_proxy_starts_without_the_hub_and_the_spawner() -> None:
    """A hub gives its proxy ten seconds to listen, and cannot start without."""
    code = "import sys, hubfleet.spawner.proxy; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "configurable_http_proxy" in done.stdout.split()
    assert not {"jupyterhub", "sqlalchemy", "pydantic", "marathon"} & set(done.stdout.split())


def test_what_is_not_about_encryption_is_left_as_it_came() -> None:
    arguments = ["--ip", "127.0.0.1", "--port", "8000", "--log-level", "INFO"]
    rest, encryption = take_over(arguments)
    assert rest == arguments
    assert (encryption.public, encryption.api, encryption.client) == (None, None, None)


def test_an_option_that_stands_alone_takes_no_value_from_the_next() -> None:
    rest, _ = take_over(["--api-ssl-request-cert", "--host-routing", "--ip", "127.0.0.1"])
    assert rest == ["--ip", "127.0.0.1", "--host-routing=true"]


@pytest.mark.parametrize("side", ["", "api-", "client-"])
def test_a_key_without_its_certificate_is_refused(side: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        take_over([f"--{side}ssl-key", "/key.pem"])
    assert "go together" in capsys.readouterr().err


class Named(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{self.server.server_port}{self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[list[int]]:
    """The ports of two servers, each of which tells its own and the path that it was asked for."""
    running = [ThreadingHTTPServer(("127.0.0.1", 0), Named) for _ in range(2)]
    for server in running:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [server.server_port for server in running]
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def proxy() -> Iterator[tuple[int, int]]:
    """The public port and that of the API of a proxy that routes by host."""
    port, api = free_port(), free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "hubfleet.spawner.proxy", "--ip", "127.0.0.1", "--port", str(port)),
            *("--api-ip", "127.0.0.1", "--api-port", str(api), "--host-routing"),
        ]
    )
    try:
        deadline = time.monotonic() + 60
        while not listens(api):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port, api
    finally:
        process.terminate()
        process.wait(60)


def listens(api: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{api}/api/routes", timeout=60).close()
    except OSError:
        return False
    return True


def test_the_same_path_on_two_hosts_leads_to_two_servers(proxy: tuple[int, int], servers: list[int]) -> None:
    port, api = proxy
    for host, server in zip(("alice.example.org", "bob.example.org"), servers, strict=True):
        body = f'{{"target": "http://127.0.0.1:{server}"}}'.encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{api}/api/routes/{host}/user/x", data=body, method="POST"
        )
        urllib.request.urlopen(request, timeout=60).close()

    def ask(host: str, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    assert ask(f"alice.example.org:{port}", "/user/x/a%40b?c=d") == (200, f"{servers[0]}/user/x/a%40b?c=d")
    assert ask("BOB.example.org", "/user/x/lab") == (200, f"{servers[1]}/user/x/lab")
    assert ask("carol.example.org", "/user/x/lab")[0] == 404
