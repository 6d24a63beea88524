"""One process that stands for thousands of servers: it listens on a range of ports, and answers all alike.

A double of jupyterhub-singleuser as far as the hub looks: any request is answered by 200 and JupyterHub's
version. Run as ``python stub_servers.py HOST FIRST LAST``; it prints a line as soon as it listens.
"""

from __future__ import annotations

import asyncio
import resource
import sys

import jupyterhub

_ANSWER = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    f"X-JupyterHub-Version: {jupyterhub.__version__}\r\n\r\n{{}}"
).encode()


class Anything(asyncio.Protocol):
    """Answers each request of a connection; none has a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            _, _, self.received = self.received.partition(b"\r\n\r\n")
            self.transport.write(_ANSWER)  # type: ignore[attr-defined]


async def main(host: str, first: int, last: int) -> None:
    """Listen until killed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.get_running_loop()
    for port in range(first, last + 1):
        await loop.create_server(Anything, host, port)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
