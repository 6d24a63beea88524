"""The example notebook, run by a real kernel as a user would run it; and a kernel that nobody tidied up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from .conftest import GROUP, until

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[2] / "examples" / "dask.ipynb"


@pytest.fixture
def server(backend: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The environment that hubfleet's spawner gives a notebook server."""
    monkeypatch.setenv("HUBFLEET_URL", backend.url)
    monkeypatch.setenv("HUBFLEET_DASK_GROUP", GROUP)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", backend.admin_token)
    return backend


def run(notebook: Any, folder: Path, of_kernels: dict[str, Any]) -> Any:
    """Run all cells in a kernel, and end the kernel as Jupyter ends it."""
    client = NotebookClient(
        notebook,
        timeout=200,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        config=Config(KernelManager=of_kernels),
    )
    return client.execute()


def test_the_example_is_a_clean_notebook() -> None:
    notebook = nbformat.read(EXAMPLE, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert len(notebook.cells) > len(code) >= 6


async def test_the_example_runs_and_leaves_nothing_behind(
    server: Any, tmp_path: Path, of_kernels: dict[str, Any]
) -> None:
    notebook = nbformat.read(EXAMPLE, as_version=4)
    await asyncio.to_thread(run, notebook, tmp_path, of_kernels)
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "148,933 primes below 2,000,000" in printed
    assert "2016" in printed
    assert "TASK_RUNNING jupyter_alice_dask_" in printed
    assert "Traceback" not in printed
    assert await server.client.list_apps() == []
    assert server.tasks() == []


async def test_a_kernel_that_ends_without_close_takes_its_workers_along(
    server: Any, tmp_path: Path, of_kernels: dict[str, Any]
) -> None:
    cells = [
        "from hubfleet.workers import MarathonCluster\ncluster = MarathonCluster(n_workers=1, cpus=0.1)",
        "client = cluster.get_client()\nprint(client.submit(sum, [1, 2]).result(timeout=90))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    await asyncio.to_thread(run, notebook, tmp_path, of_kernels)
    assert notebook.cells[1].outputs[0].text == "3\n"
    assert await server.client.list_apps() == []
    await until(lambda: not server.tasks(), what="its workers end")


SCRIPT = """
from hubfleet.workers import MarathonCluster
cluster = MarathonCluster(n_workers=1, cpus=0.1)
with cluster.get_client() as client:
    assert client.submit(sum, [1, 2]).result(timeout=90) == 3
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("raise SystemExit(3)", 3), ("raise RuntimeError('a mistake')", 1)]
)
async def test_a_script_that_ends_without_close_takes_its_workers_along(
    server: Any, end: str, code: int
) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SCRIPT.format(end=end)],
        timeout=200,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == code, ended.stderr
    assert await server.client.list_apps() == []
    await until(lambda: not server.tasks(), what="its workers end")


async def test_a_script_closes_its_cluster_with_with(server: Any) -> None:
    script = """
from hubfleet.workers import MarathonCluster
with MarathonCluster(cpus=0.1) as cluster, cluster.get_client() as client:
    cluster.scale(2)
    cluster.wait_for_workers(2, timeout=90)
    print(client.submit(sum, [1, 2]).result(timeout=90), len(cluster.workers), cluster.status.name)
print(cluster.status.name)
"""
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], timeout=200, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["3", "2", "running", "closed"], ended.stderr
    assert server.tasks() == []
