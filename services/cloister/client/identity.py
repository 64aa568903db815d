"""An identity's folder, as `cloister identity issue` makes it, and whether it may still be shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.client.bundle import TrustBundle
from cloister.errors import InvalidRequest, NotFound, Unauthenticated
from cloister.rpc.certificates import load_certificate
from cloister.rpc.files import read_private
from cloister.rpc.identity import TlsFiles, TlsIdentity

SIGNING_KEY: Final = "signing_key.pem"


def tls_files(folder: Path) -> TlsFiles:
    """The three TLS files in an identity's folder; raises NotFound when it holds none."""
    files = TlsFiles(
        certificate=folder / "certificate.pem",
        private_key=folder / "private_key.pem",
        trust_roots=folder / "trust_roots.pem",
    )
    missing = [path.name for path in (files.certificate, files.private_key, files.trust_roots) if not path.is_file()]
    if missing:
        raise NotFound(
            f"{folder} holds no {' and no '.join(missing)}; name the folder of an identity, "
            "as 'cloister identity issue' makes it"
        )
    return files


def signing_key(path: Path) -> Ed25519PrivateKey:
    """A model owner's signing key.

    Args:
        path: PEM without a passphrase, or an owner's identity folder that holds one.

    Raises:
        NotFound: There is no such file.
        NotReady: It lies open to others.
        InvalidRequest: It is no Ed25519 key.
    """
    path = path / SIGNING_KEY if path.is_dir() else path
    if not path.is_file():
        raise NotFound(f"there is no signing key {path}; only the identity of an owner has one")
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{path} is not a private key in PEM without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidRequest(f"{path} is not an Ed25519 key")
    return key


def check_same_mesh(identity: TlsIdentity, trust: TrustBundle) -> None:
    """Raise InvalidRequest where a trust bundle is of another mesh than the identity: no gateway would fit both."""
    if identity.spiffe_id.cluster != trust.cluster:
        raise InvalidRequest(
            f"the trust bundle is of the mesh '{trust.cluster}', the identity '{identity.spiffe_id}' of another; "
            "give both of the same",
            reason="trust.other_mesh",
        )


def check_current(identity: TlsIdentity, files: TlsFiles) -> None:
    """Raise Unauthenticated where the certificate is not valid now: a gateway only hangs up on it, and says nothing."""
    certificate = load_certificate(identity.certificate)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins <= datetime.now(UTC) <= ends:
        return
    raise Unauthenticated(
        f"the certificate {files.certificate} is valid from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC, and "
        "not now; 'cloister identity renew' makes a new one, or is this machine's clock wrong?",
        reason="identity.expired",
    )
