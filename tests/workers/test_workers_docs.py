"""The reference of the options is that of the code."""

from __future__ import annotations

import runpy
from pathlib import Path

from generated import rendered

from hubfleet.workers.config import DEFAULTS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_is_up_to_date_and_has_every_option() -> None:
    generate = runpy.run_path(str(DOCS / "generate_workers.py"))
    page = (DOCS / "workers.md").read_text()
    assert page == rendered(page, generate["reference"]()), "run `make docs`"
    for section, options in DEFAULTS["hubfleet"].items():
        for option in options:
            assert f"`hubfleet.{section}.{option}`" in page
