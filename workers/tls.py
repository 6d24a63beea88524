"""The encryption between scheduler, workers and clients, and how a worker comes by its part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed import Security

_PREFIX = "DASK_DISTRIBUTED__COMM__"
KEY_VARIABLE = f"{_PREFIX}TLS__WORKER__KEY"
"""The variable that holds the worker's private key; its value is never shown."""


def checked_security(security: Any) -> Security:
    """Return what ``security=`` means: None or True makes certificates, False does without.

    Raises
    ------
    TypeError
        It is neither a truth value nor a `distributed.Security`.
    """
    if security is None or security is True:
        return Security.temporary()
    if security is False:
        # Explicitly nothing: a certificate in Dask's configuration would switch it on again.
        return Security(require_encryption=False, tls_ca_file=None, tls_scheduler_cert=None)
    if not isinstance(security, Security):
        raise TypeError(
            "security must be True (certificates made for this cluster), False (no encryption) "
            f"or a distributed.Security, got {type(security).__name__}"
        )
    return security


def encrypts(security: Security) -> bool:
    """Whether the scheduler is to listen with TLS."""
    return bool(security.tls_ca_file and security.tls_scheduler_cert)


def worker_environment(security: Security) -> dict[str, str]:
    """Return the variables by which a worker configures its side.

    distributed takes the text of a certificate wherever it takes a path, so nothing needs
    to be written to a disk that scheduler and workers share; and a variable, unlike an
    argument, is not in the list of processes that everybody on the machine may read.
    """
    if not encrypts(security):
        return {f"{_PREFIX}REQUIRE_ENCRYPTION": "False"}
    values = {
        f"{_PREFIX}REQUIRE_ENCRYPTION": str(bool(security.require_encryption)),
        f"{_PREFIX}TLS__CA_FILE": security.tls_ca_file,
        f"{_PREFIX}TLS__WORKER__CERT": security.tls_worker_cert,
        KEY_VARIABLE: security.tls_worker_key,
        f"{_PREFIX}TLS__CIPHERS": security.tls_ciphers,
    }
    return {name: value for name, value in values.items() if value is not None}


def scheduler_environment(security: Security) -> dict[str, str]:
    """Return the variables by which a scheduler in an app configures its side, and what it tells on."""
    values = worker_environment(security)
    if encrypts(security):
        for role in ("scheduler", "client"):
            for part in ("cert", "key"):
                value = getattr(security, f"tls_{role}_{part}") or getattr(security, f"tls_worker_{part}")
                if value is not None:
                    values[f"{_PREFIX}TLS__{role.upper()}__{part.upper()}"] = value
    return values


def scheduler_security(variables: Mapping[str, str]) -> Security:
    """Return the encryption that the variables of a scheduler, or of a worker, configure."""
    ca_file = variables.get(f"{_PREFIX}TLS__CA_FILE")
    if ca_file is None:
        return checked_security(False)
    found: dict[str, Any] = {"tls_ca_file": ca_file}
    for role in ("scheduler", "worker", "client"):
        for part in ("cert", "key"):
            # What a worker knows is enough to talk to its scheduler.
            found[f"tls_{role}_{part}"] = variables.get(
                f"{_PREFIX}TLS__{role.upper()}__{part.upper()}",
                variables.get(f"{_PREFIX}TLS__WORKER__{part.upper()}"),
            )
    ciphers = variables.get(f"{_PREFIX}TLS__CIPHERS")
    required = variables.get(f"{_PREFIX}REQUIRE_ENCRYPTION") == "True"
    return Security(require_encryption=required, **found, **({"tls_ciphers": ciphers} if ciphers else {}))
