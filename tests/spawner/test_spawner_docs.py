"""The reference of the traits says what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from generated import rendered

from hubfleet.spawner import MarathonSpawner

DOCS = Path(__file__).parents[2] / "docs"


def load() -> Any:
    specification = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


generate = load()


def test_the_reference_is_up_to_date() -> None:
    page = (DOCS / "spawner.md").read_text()
    assert rendered(page, generate.reference()) == page, "the help of a trait has changed: run `make docs`"


def test_every_trait_of_ours_is_in_the_reference_and_explained() -> None:
    reference = generate.reference()
    for name, trait in MarathonSpawner.class_traits(config=True).items():
        if trait.this_class.__module__.startswith("hubfleet.spawner"):
            assert f"#### `{name}`" in reference
            assert len(trait.help.strip()) > 20, f"{name} has no help"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the lines"):
        rendered("# nothing", "")


def test_examples_become_blocks_of_code() -> None:
    text = """
    What it is, in ``code``.

    Example::

        c.X.y = 1

        c.X.z = 2

    And more.
    """
    assert "\n".join(generate.markdown(text)) == (
        "What it is, in `code`.\n\nExample:\n\n```python\nc.X.y = 1\n\nc.X.z = 2\n```\n\nAnd more."
    )
