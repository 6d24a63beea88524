"""Brings OpenSSL to know its algorithms before workers are forked, so that they share what it knows.

OpenSSL looks up and keeps an algorithm when it is used first. For a connection between a worker and its
scheduler that is 3 MiB in each worker, a seventh of what a forked one has for itself. A template therefore
shakes hands with itself once, in memory: without a certificate, a socket or a thread, and with nothing kept
but the algorithms. Random numbers are not a matter: OpenSSL seeds its generator anew in a forked process.
"""

from __future__ import annotations

import ssl

# The suites without certificates, which OpenSSL does not count as safe; nothing is sent here.
_ANONYMOUS = "aNULL:@SECLEVEL=0"
_MOST_STEPS = 10


def rehearse_encryption() -> bool:
    """Shake hands with oneself; return whether that was possible.

    It is not where OpenSSL is built or configured without suites that need no certificate. Then each worker
    looks its algorithms up itself, as an executed one does.
    """
    try:
        client, server = _context(ssl.PROTOCOL_TLS_CLIENT), _context(ssl.PROTOCOL_TLS_SERVER)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        waiting = [
            client.wrap_bio(to_client, to_server),
            server.wrap_bio(to_server, to_client, server_side=True),
        ]
        for _ in range(_MOST_STEPS):
            waiting = [side for side in waiting if not _goes_on(side)]
            if not waiting:
                return True
    except (ssl.SSLError, ValueError):  # ValueError: versions that are not compiled in
        pass
    return False


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    if protocol == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # TLS 1.3 has no such suites
    context.set_ciphers(_ANONYMOUS)
    return context


def _goes_on(side: ssl.SSLObject) -> bool:
    """Take a step; return whether this side is done."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
