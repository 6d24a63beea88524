"""JupyterHub's own tests of spawners, named servers and its API, with our spawner in place of its mock.

They come with its wheel and run in a pytest of their own, over a real backend (`peer_plugin`). Those that do
not apply are named in the plugin, each with the reason.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

MODULES = ["test_api", "test_named_servers", "test_spawner"]
SECONDS = 500.0


@pytest.mark.parametrize("module", MODULES)
async def test_the_hubs_own_tests_pass_with_our_spawner(module: str, backend: Any, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "pytest_asyncio.plugin",
            "-p",
            "peer_plugin",
            "-c",
            os.devnull,
        ),
        *("-p", "no:cacheprovider"),
        *("--rootdir", str(tmp_path), "-o", "asyncio_mode=auto", "-W", "ignore"),
        *("-o", "asyncio_default_fixture_loop_scope=module"),
        *("-o", "asyncio_default_test_loop_scope=module"),
        *("--pyargs", f"jupyterhub.tests.{module}"),
        env={
            **backend.whole_environment(),
            "PEER_BACKEND": backend.url,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # of others there is no need, and they take long to import
            "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}",
        },
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    assert process.returncode == 0, text[-20_000:]
    assert " passed" in text
