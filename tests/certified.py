"""A certificate authority, and a proxy with its certificates in front of a backend, as sites have them."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from answering import listening
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@asynccontextmanager
async def relaying(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Pass on all that comes to a port of this machine, as a proxy in front of a backend does."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with listening(relay, ssl=context) as own:
        yield own


_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass
class Authority:
    """A certificate authority of a test, and what it has signed."""

    folder: Path

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ca of {self.folder.name}")])
        self.certificate = self._sign(self.name, self.key.public_key(), True)
        self.file = self._write("ca", self.certificate)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, ca: bool) -> x509.Certificate:
        begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        # Python 3.13 wants to see which key has signed, and that it may.
        usage = dict.fromkeys(_USAGES, False) | {
            "key_cert_sign": ca,
            "crl_sign": ca,
            "digital_signature": True,
        }
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(signer, critical=False)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> str:
        file = self.folder / f"{name}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(file)

    def issue(self, name: str) -> tuple[str, str]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        file = self._write(name, self._sign(subject, key.public_key(), False))
        key_file = self.folder / f"{name}.key"
        kind = serialization.PrivateFormat.PKCS8
        none = serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, none))
        return file, str(key_file)


def authority(folder: Path) -> Authority:
    folder.mkdir()
    return Authority(folder)


def asking_for_certificates(ours: Authority) -> ssl.SSLContext:
    """Return what a server needs that speaks only with those who show a certificate of an authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*ours.issue("server"))
    return context
