"""The encryption between scheduler, workers and clients, and how a worker comes by its part."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import dask.config
from distributed import Security

_PREFIX = "DASK_DISTRIBUTED__COMM__"
KEY_VARIABLE = f"{_PREFIX}TLS__WORKER__KEY"
"""The variable that holds the worker's private key; its value is never shown."""

_VALID = datetime.timedelta(days=365)
_CLOCKS = datetime.timedelta(hours=1)
"""By how much a worker's machine may be behind ours."""


def checked_security(security: Any) -> Security:
    """Return what ``security=`` means: None or True makes certificates, False does without.

    Raises
    ------
    TypeError
        It is neither a truth value nor a `distributed.Security`.
    """
    if security is None or security is True:
        return own_certificate()
    if security is False:
        # Explicitly nothing: a certificate in Dask's configuration would switch it on again.
        return Security(require_encryption=False, tls_ca_file=None, tls_scheduler_cert=None)
    if not isinstance(security, Security):
        raise TypeError(
            "security must be True (certificates made for this cluster), False (no encryption) "
            f"or a distributed.Security, got {type(security).__name__}"
        )
    return security


def own_certificate() -> Security:
    """Return encryption by one certificate for all, made for one cluster and kept in memory.

    Like ``Security.temporary()``, but with a key on the curve P-256: it is made at once, while RSA's takes a
    tenth of a second that a notebook waits for. Who has named ciphers may have named such as are for RSA
    alone, and gets that.
    """
    if dask.config.get("distributed.comm.tls.ciphers", None):
        return Security.temporary()
    # Imported by none but those who encrypt.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dask-internal")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("dask-internal")]), critical=False)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    own = {
        "cert": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }
    parts = {
        f"tls_{role}_{part}": text for role in ("client", "scheduler", "worker") for part, text in own.items()
    }
    return Security(require_encryption=True, tls_ca_file=own["cert"], **parts)


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
