"""The folders at the top become `hubfleet.*`, by wheel as by editable installation."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy, so that nothing of the build stays in the checkout.
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), "./source"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    return next(folder.glob("*.whl"))


def python(code: str, *path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_holds_the_rooms_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"hubfleet"}
    assert "hubfleet/__init__.py" not in names, "hubfleet is a namespace"
    for room in ("api", "spawner", "workers", "backend"):
        assert f"hubfleet/{room}/__init__.py" in names
        assert f"hubfleet/{room}/py.typed" in names
        ours = {str(path.relative_to(ROOT)) for path in (ROOT / room).rglob("*.py")}
        ours |= {str(path.relative_to(ROOT)) for path in (ROOT / room).rglob("*.html")}
        assert {f"hubfleet/{name}" for name in ours} <= names


def test_the_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import hubfleet.api.cli, hubfleet.spawner.spawner, hubfleet.workers\n"
    code += "import hubfleet.backend.service as service; print(service.__file__)"
    assert python(code, tmp_path).startswith(str(tmp_path))


def test_a_notebook_image_needs_no_hub(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import sys; sys.modules['jupyterhub'] = sys.modules['psutil'] = None; import hubfleet.workers"
    python(code, tmp_path)


def test_a_hub_needs_no_dask(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import sys; sys.modules['dask'] = sys.modules['distributed'] = None\n"
    code += "import hubfleet.spawner.spawner, hubfleet.backend.cli, hubfleet.backend.service"
    python(code, tmp_path)


def test_jupyterhub_finds_the_spawner_by_its_name() -> None:
    (found,) = entry_points(group="jupyterhub.spawners", name="marathon")
    assert found.load().__name__ == "MarathonSpawner"


def test_the_command_knows_the_rooms() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hubfleet.api.cli", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "backend" in done.stdout


def test_rooms_import_only_what_they_may() -> None:
    allowed = {"api": set(), "spawner": {"api"}, "workers": {"api"}, "backend": {"api"}}
    for room, others in allowed.items():
        for path in (ROOT / room).rglob("*.py"):
            for other in allowed.keys() - others - {room}:
                assert f"hubfleet.{other}" not in _imports(path), f"{path} imports {other}"


def _imports(path: Path) -> str:
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines if line.lstrip().startswith(("import ", "from ")))
