"""What libraries look up at their first use and keep: done in the template, for all that are forked from it.

It is the same for all tasks of an environment: which versions are installed, what machine this is, and whom
it trusts. Each worker would find it out for itself, with a quarter of the processor time of its start, and
keep it in 2 MiB of its own. What of it is on the disk is watched with the modules (`imports`), the variables
that it depends on must be the same for template and task, and the host's name is put right (`repairs`).
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress

VARIABLES = ("SSLKEYLOGFILE",)
"""Beside those that OpenSSL itself reads."""


def look_up() -> None:
    """Use for the first time what is imported; what is not, or not of the version we know, is left."""
    if keep := getattr(sys.modules.get("tornado.netutil"), "_client_ssl_defaults", None):
        # What connections without a context of their own use, and asked for by those that have one, too.
        with suppress(OSError):  # as ssl.SSLError is one: then each worker hears of it, as ever
            keep()
    if versions := sys.modules.get("distributed.versions"):
        versions.get_versions()


def paths() -> Iterator[str]:
    """Yield the files and directories that this depends on."""
    trusted = ssl.get_default_verify_paths()
    yield trusted.openssl_cafile
    yield trusted.openssl_capath
