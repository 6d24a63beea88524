"""The options of ``configurable-http-proxy`` that its Python version 0.4.0 refuses or misreads, done here.

With `JupyterHub.internal_ssl` a hub gives its proxy certificates: for the API that the hub speaks to, and for
the proxy as a client of hub and servers; with `JupyterHub.ssl_key` those of the public side. 0.4.0 ends with
`NotImplementedError`, and takes options that stand alone in the original for such that have a value.
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Encryption:
    """How each side of the proxy is encrypted; None for not at all."""

    public: ssl.SSLContext | None = None
    api: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None


def take_over(arguments: Sequence[str]) -> tuple[list[str], Encryption]:
    """Return the arguments that are left for 0.4.0, and what the others say about encryption.

    Raises
    ------
    SystemExit
        An option lacks its value, or of a key and a certificate only one is there.
    OSError
        A file cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="python -m hubfleet.spawner.proxy", add_help=False, allow_abbrev=False
    )
    for side in ("", "api-", "client-"):
        for part in ("key", "cert", "ca"):
            parser.add_argument(f"--{side}ssl-{part}", dest=f"{side.rstrip('-') or 'public'}_{part}")
        for flag in ("request-cert", "reject-unauthorized"):
            parser.add_argument(
                f"--{side}ssl-{flag}", dest=f"{side.rstrip('-') or 'public'}_{flag[:7]}", action="store_true"
            )
    parser.add_argument("--host-routing", action="store_true")
    known, rest = parser.parse_known_args(list(arguments))
    for side in ("public", "api", "client"):
        if bool(getattr(known, f"{side}_key")) != bool(getattr(known, f"{side}_cert")):
            parser.error(f"the key and the certificate of the {side} side go together, got only one")
    if known.host_routing:
        rest.append("--host-routing=true")
    return rest, Encryption(
        public=_serving(known.public_key, known.public_cert, known.public_ca, known.public_request),
        api=_serving(known.api_key, known.api_cert, known.api_ca, known.api_request),
        client=_asking(known.client_key, known.client_cert, known.client_ca),
    )


def _serving(key: str | None, cert: str | None, ca: str | None, request: bool) -> ssl.SSLContext | None:
    if not key or not cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(cert, key)
    if request:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _asking(key: str | None, cert: str | None, ca: str | None) -> ssl.SSLContext | None:
    if not key or not cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.load_cert_chain(cert, key)
    return context
