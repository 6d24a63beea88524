"""What a template has looked up for its tasks: shared, and the same as they would find."""

from __future__ import annotations

import platform
import ssl
import subprocess
import sys

import pytest
from tornado import netutil

from hubfleet.backend.drivers.prefork import firsts, repairs

# Forks as a template does; the child then asks as a worker does, and says how many pages it wrote to.
FORK = """
import gc, os, resource, sys
import distributed.worker, distributed.versions, tornado.netutil
from hubfleet.backend.drivers.prefork import firsts
if sys.argv[1] == "before":
    firsts.look_up()
gc.collect()
gc.freeze()
if os.fork() == 0:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tornado.netutil._client_ssl_defaults()
    distributed.versions.get_versions()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)
    os._exit(0)
os.wait()
"""


def pages(how: str) -> int:
    command = [sys.executable, "-c", FORK, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_what_a_template_has_looked_up_its_workers_share() -> None:
    assert pages("before") < 0.5 * pages("after the fork")


def test_nothing_is_looked_up_for_what_is_not_imported() -> None:
    code = """
import sys
from hubfleet.backend.drivers.prefork import firsts
firsts.look_up()
assert not {"tornado", "distributed"} & sys.modules.keys()
assert list(firsts.paths())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_certificates_that_cannot_be_read_are_no_reason_against_a_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise ssl.SSLError("no certificate that makes sense")

    monkeypatch.setattr(netutil, "_client_ssl_defaults", refuse)
    firsts.look_up()


def test_a_host_that_was_renamed_has_its_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    now = platform.uname()
    renamed = platform.uname_result(now.system, "its-old-name", now.release, now.version, now.machine)
    monkeypatch.setattr(platform, "_uname_cache", renamed)
    assert platform.node() == "its-old-name"
    repairs._repair_platform(platform)
    assert platform.uname() == now
