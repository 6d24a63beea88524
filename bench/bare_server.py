"""A Jupyter server without a hub around it: its environment, and the little that it asks a hub."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping

import jupyterhub
import tornado.web
from tornado.httpclient import AsyncHTTPClient


class HubHandler(tornado.web.RequestHandler):
    """What a server asks of its hub while it starts."""

    def get(self, path: str) -> None:
        """Tell the version."""
        self.set_header("X-JupyterHub-Version", jupyterhub.__version__)
        self.write({"version": jupyterhub.__version__})

    post = get


def server_environment(hub_url: str, name: str, port: int) -> dict[str, str]:
    """Return what JupyterHub adds to the environment of a user's server."""
    return {
        "JUPYTERHUB_ACTIVITY_URL": f"{hub_url}/hub/api/users/{name}/activity",
        "JUPYTERHUB_API_TOKEN": "a-token-of-the-bench",
        "JUPYTERHUB_API_URL": f"{hub_url}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": f"jupyterhub-user-{name}",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"/user/{name}/oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": "[]",
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_SERVICE_PREFIX": f"/user/{name}/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/user/{name}/",
        "JUPYTERHUB_USER": name,
    }


async def answered(port: int, name: str, seconds: float = 60) -> None:
    """Return as soon as a server answers 200."""
    client, ends_at = AsyncHTTPClient(), time.perf_counter() + seconds
    code = 0
    while code != 200:
        assert time.perf_counter() < ends_at, f"the server of {name} answers {code or 'not'}"
        try:
            url = f"http://127.0.0.1:{port}/user/{name}/api"
            code = (await client.fetch(url, raise_error=False)).code
        except OSError:
            code = 0
        await asyncio.sleep(0.002)


async def bare_start(environment: Mapping[str, str], port: int, name: str, folder: str) -> tuple[float, int]:
    """Execute ``jupyterhub-singleuser``; return the seconds to its answer, and its process."""
    os.makedirs(folder, exist_ok=True)
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *("jupyterhub-singleuser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        env={**environment, "HOME": folder},
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await answered(port, name)
    except BaseException:  # also when this is given up: nobody else knows it
        process.kill()
        raise
    return time.perf_counter() - begun, process.pid
