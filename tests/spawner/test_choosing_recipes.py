"""The recipes of docs/choosing-a-server.md do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jupyterhub import orm
from traitlets.config import Config

TEXT = (Path(__file__).parents[2] / "docs" / "choosing-a-server.md").read_text()
RECIPES = {
    title: "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    for title, section in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}


async def gpus_are_free() -> bool:
    return True


def spawner_of(small_hub: Any, *titles: str) -> Any:
    names = {
        "c": Config(),
        "small": {"display_name": "Small", "slug": "small"},
        "gpu": {"display_name": "GPU", "slug": "gpu"},
        "gpus_are_free": gpus_are_free,
    }
    for title in titles:
        exec(RECIPES[title], names)
    small_hub.config.merge(names["c"])
    return small_hub.spawner("alice")


async def choose(spawner: Any, **options: Any) -> Any:
    spawner.user_options = options
    await spawner.apply_group_overrides()
    await spawner.apply_options()
    return spawner.build_app()


async def test_amounts_and_images(small_hub: Any) -> None:
    spawner = spawner_of(small_hub, "Amounts, with limits", "Images")
    page = await spawner.get_options_form()
    assert 'name="gpu"' in page
    assert 'name="image"' not in page, "it is not among the offered options"
    app = await choose(spawner, cpu=4, gpu=1)
    assert (app.cpus, app.gpus, app.mem) == (4, 1, 2048)
    spawner.offered_options = None
    app = await choose(spawner, image="registry.example.org/course-a:3")
    assert app.container.docker.image == "registry.example.org/course-a:3"


async def test_profiles(small_hub: Any) -> None:
    spawner = spawner_of(small_hub, "Profiles")
    assert 'value="analysis"' in await spawner.get_options_form()
    app = await choose(spawner, **{"image--unlisted-choice": "2026-09-01"})
    assert app.container.docker.image == "quay.io/jupyter/scipy-notebook:2026-09-01"
    assert app.env["OMP_NUM_THREADS"] == "4"
    assert (await choose(spawner, profile="own", cpu=16)).cpus == 16


async def test_groups_and_single_users(small_hub: Any) -> None:
    spawner = spawner_of(small_hub, "Groups and single users")
    assert list(await spawner.profiles()) == ["small"]
    spawner.user.groups.append(orm.Group(name="gpu"))
    assert list(await spawner.profiles()) == ["small", "gpu"]
    await choose(spawner, profile="gpu")
    assert (spawner.max_gpu, spawner.max_cpu) == (2, 32)


async def test_several_backends(small_hub: Any) -> None:
    spawner = spawner_of(small_hub, "Several backends")
    usual, gpu = await spawner.profiles()
    await choose(spawner, profile=gpu)
    assert spawner.marathon_host in spawner.other_backends
    await choose(spawner, profile=usual)
    assert spawner.marathon_host == "https://marathon.example.org"
