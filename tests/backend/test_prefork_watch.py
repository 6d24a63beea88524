"""Which looks at their surroundings modules take while they are imported, and who depends on them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubfleet.backend.drivers.prefork.watch import ALL_VARIABLES, Watch

MODULES = {
    "wa_plain": "import json",
    "wa_home": "import os; HOME = os.path.expanduser('~')",
    "wa_all": "import os; ALL = dict(os.environ)",
    "wa_calls": "import os, uuid; A, B, C = os.getcwd(), os.urandom(4), uuid.uuid1()",
    "wa_runs": "import subprocess; OUT = subprocess.check_output(['true'])",
    "wa_keeps": "import os\nfound = {}\ndef home():\n    return found.setdefault(1, os.environ['HOME'])",
    "wa_asks": "import wa_keeps; HOME = wa_keeps.home()",
    "wa_later": "import os\ndef home():\n    return os.environ['HOME']",
    "wa_needs": "from wa_home import HOME",
    "wa_needs_needs": "import importlib; importlib.import_module('wa_needs')",
    "wa_takes": "from os import urandom",
}


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    for name, content in MODULES.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HOME", "/home/ann")
    with Watch() as watch:
        for name in MODULES:
            importlib.import_module(name)
    yield watch
    for name in MODULES:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("wa_plain", set()),
        ("wa_home", {"HOME"}),
        ("wa_calls", {"os.getcwd()", "os.urandom()", "uuid.uuid1()"}),
        ("wa_runs", {"PATH", "Popen._execute_child()"}),
        ("wa_later", set()),
        # The one that asks has it, and the one that was asked may have kept it.
        ("wa_asks", {"HOME"}),
        ("wa_keeps", {"HOME"}),
        ("wa_needs", set()),
    ],
)
def test_a_look_is_noted_of_whoever_may_keep_what_it_saw(
    watch: Watch, module: str, expected: set[str]
) -> None:
    assert {what for name, what in watch.reads if name == module} == expected


def test_the_whole_environment_is_noted_as_such(watch: Watch) -> None:
    assert ("wa_all", ALL_VARIABLES) in watch.reads


def test_what_was_found_is_remembered(watch: Watch) -> None:
    assert watch.reads["wa_home", "HOME"] == "/home/ann"


def test_all_depend_on_a_module_that_would_import_it(watch: Watch) -> None:
    assert watch.dependents({"wa_home"}) - {__name__} == {"wa_home", "wa_needs", "wa_needs_needs"}


def test_nothing_stays_watched(watch: Watch) -> None:
    import os

    assert sys.modules["wa_takes"].urandom is os.urandom
    assert type(os.urandom).__name__ == "builtin_function_or_method"
    assert subprocess.Popen._execute_child.__module__ == "subprocess"
