"""Key stores for a Flink cluster that asks this mesh: PKCS #12, as Java reads it, with one password for all of them.

Two keys, each with a certificate that it has signed itself, which serves both ends of a connection and is all that
either end trusts. `internal.p12` is what Flink's processes know each other by; `rest.p12` is for the REST interface and
whoever may call it, and so run code in the cluster. Neither is under the mesh's root: no identity of the mesh opens
Flink, and Flink opens nothing of the mesh.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.rpc import certificates
from cloister.rpc.files import replace_private

STORES: Final = ("internal", "rest")
PASSWORD: Final = "password"  # noqa: S105  # the name of the file
LIFE: Final = timedelta(days=365)
LOCAL: Final = ("localhost", "127.0.0.1")
_BACKDATED: Final = timedelta(minutes=5)


def write(folder: Path, *, now: datetime, hosts: Sequence[str] = (), life: timedelta = LIFE) -> None:
    """Write both stores and their password into `folder`, in place of what is there; it is made if it is missing.

    Args:
        folder: For the owner's eyes only, as is all in it.
        now: Aware UTC.
        hosts: Names and addresses of the JobManager's REST interface, besides the local ones.
        life: How long the certificates are good for.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = secrets.token_urlsafe(32).encode()
    for name in STORES:
        replace_private(folder / f"{name}.p12", _store(name, [*LOCAL, *hosts], password, now, life))
    replace_private(folder / PASSWORD, password)


def _store(name: str, hosts: Sequence[str], password: bytes, now: datetime, life: timedelta) -> bytes:
    key = certificates.new_key()
    certificate = _self_signed(f"Flink {name}", hosts, key, now, life)
    encryption = BestAvailableEncryption(password)
    return serialize_key_and_certificates(name.encode(), key, certificate, None, encryption)


def _self_signed(
    name: str, hosts: Sequence[str], key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(both_ends, critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
