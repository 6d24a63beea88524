"""A template that has shaken hands with itself: what forked workers share of OpenSSL, and what not."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import Security

from hubfleet.backend.drivers.prefork import handshake

# Forks as a template does; the child then takes up a scheduler's certificate, and says what it grew by (KiB).
FORK = """
import gc, os, ssl, sys
import distributed.worker
from hubfleet.backend.drivers.prefork.handshake import rehearse_encryption
if sys.argv[1] == "rehearsed":
    assert rehearse_encryption()
gc.freeze()

def private():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
before = private()
for purpose in ssl.Purpose:
    context = ssl.create_default_context(purpose, cafile=sys.argv[2])
    context.load_cert_chain(sys.argv[3], sys.argv[4])
print(private() - before, flush=True)
os._exit(0)
"""


def grown_by(how: str, folder: Path) -> int:
    files = [str(folder / name) for name in ("ca", "cert", "key")]
    command = [sys.executable, "-c", FORK, how, *files]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


def test_forked_workers_share_what_openssl_has_looked_up(tmp_path: Path) -> None:
    security = Security.temporary()
    for name, text in (
        ("ca", security.tls_ca_file),
        ("cert", security.tls_worker_cert),
        ("key", security.tls_worker_key),
    ):
        (tmp_path / name).write_text(text)
    assert grown_by("rehearsed", tmp_path) < 0.6 * grown_by("not", tmp_path)


def test_forked_processes_draw_random_numbers_of_their_own() -> None:
    code = """
import os, ssl
from hubfleet.backend.drivers.prefork.handshake import rehearse_encryption
assert rehearse_encryption()
for _ in range(2):
    if pid := os.fork():
        os.waitpid(pid, 0)
    else:
        print(ssl.RAND_bytes(16).hex(), flush=True)
        os._exit(0)
print(ssl.RAND_bytes(16).hex(), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert len(set(done.stdout.split())) == 3


def test_an_openssl_without_such_suites_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "_ANONYMOUS", "ECDHE-RSA-AES256-GCM-SHA384")  # needs a certificate
    assert handshake.rehearse_encryption() is False
    monkeypatch.setattr(handshake, "_ANONYMOUS", "no such suite")
    assert handshake.rehearse_encryption() is False
    assert ssl.create_default_context().get_ciphers(), "other contexts have their suites as ever"
