"""Static identities: a TLS certificate under the mesh's root for each service and person; an owner's signing key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.rpc import certificates
from cloister.rpc.files import create_private, read_private, replace_private
from cloister.rpc.spiffe import ROLES, WORKER, SpiffeId, server_name, spiffe_id

SERVICES = frozenset({"verifier", "provisioner", "gateway", "console", "redis"})
ISSUED_ROLES = sorted(ROLES - {WORKER})  # a worker's certificate is earned by evidence, never issued by hand
LIFE = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One identity as its certificate states it; `owner_key` is a model owner's public signing key, in hex."""

    folder: Path
    spiffe_id: str
    expires_at: datetime
    owner_key: str | None


def issue(
    root: certificates.Authority,
    cluster: str,
    role: str,
    name: str,
    folder: Path,
    *,
    now: datetime,
    life: timedelta = LIFE,
    hosts: Sequence[str] = (),
) -> None:
    """Make a key and its certificate in `folder`, which must not exist.

    Args:
        root: Signs it.
        cluster: Of the mesh.
        role: Any but worker.
        name: Which of that role.
        folder: Gets certificate.pem, private_key.pem, trust_roots.pem and, for an owner, signing_key.pem.
        now: Aware UTC.
        life: How long the certificate is good for.
        hosts: More names or IP addresses under which clients reach this service.
    """
    if role == WORKER:
        raise Stop("a worker gets its certificate from the verifier, by evidence; nobody can issue one", ExitCode.USAGE)
    identity = spiffe_id(cluster, role, name)
    key = certificates.new_key()
    ips = [host for host in hosts if _is_address(host)]
    names = [host for host in hosts if not _is_address(host)]
    if role in SERVICES:
        usage, names = certificates.Usage.SERVICE, [server_name(cluster, role), *names]
    else:
        usage = certificates.Usage.CLIENT
    pem = certificates.issue(root, key.public_key(), identity, now=now, life=life, usage=usage, dns=names, ips=ips)
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise Stop(f"{folder} exists already; name another identity, or remove that folder first") from error
    create_private(folder / "private_key.pem", certificates.key_pem(key))
    (folder / "certificate.pem").write_bytes(pem)
    (folder / "trust_roots.pem").write_bytes(root.certificate_pem)
    if role == "owner":
        create_private(folder / "signing_key.pem", new_ed25519_pem())


def renew(
    root: certificates.Authority, folder: Path, *, now: datetime, life: timedelta = LIFE, roots: bytes = b""
) -> Identity:
    """Give an identity a new key and a new certificate for the same names; whoever uses it takes both up by itself.

    The owner's signing key stays: models and policies are signed by it.

    Args:
        root: Signs it.
        folder: Of the identity.
        now: Aware UTC.
        life: How long the certificate is good for.
        roots: The roots to trust from now on, in PEM; empty leaves them.
    """
    old = certificates.load_certificate((folder / "certificate.pem").read_bytes())
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identity = SpiffeId.parse(described(folder).spiffe_id)
    key = certificates.new_key()
    pem = certificates.issue(
        root,
        key.public_key(),
        identity,
        now=now,
        life=life,
        usage=certificates.Usage.SERVICE if identity.role in SERVICES else certificates.Usage.CLIENT,
        dns=names.get_values_for_type(x509.DNSName),
        ips=[str(each) for each in names.get_values_for_type(x509.IPAddress)],
    )
    if roots:
        replace_public(folder / "trust_roots.pem", roots)
    # Between the two a reader finds a pair that does not fit, keeps what it has, and looks again.
    replace_private(folder / "private_key.pem", certificates.key_pem(key))
    replace_public(folder / "certificate.pem", pem)
    return described(folder)


def replace_public(path: Path, content: bytes) -> None:
    """Write a file that anybody may read, in place of what is there: whole, or not at all."""
    staged = path.with_name(f".{path.name}.new")
    staged.write_bytes(content)
    staged.replace(path)


def listed(mesh: Mesh) -> Iterator[Identity]:
    """All identities in a mesh folder, by role and name."""
    for path in sorted(mesh.folder.glob("identities/*/*/certificate.pem")):
        yield described(path.parent)


def described(folder: Path) -> Identity:
    """What the identity in `folder` is."""
    try:
        certificate = certificates.load_certificate((folder / "certificate.pem").read_bytes())
    except FileNotFoundError as error:
        raise Stop(f"{folder} holds no certificate.pem; name an identity's folder", ExitCode.USAGE) from error
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise Stop(
            f"{folder / 'certificate.pem'} names no SPIFFE id; 'cloister identity issue' makes certificates that do"
        ) from error
    return Identity(
        folder=folder,
        spiffe_id=uri,
        expires_at=certificate.not_valid_after_utc,
        owner_key=owner_key(folder) if (folder / "signing_key.pem").is_file() else None,
    )


def mesh_root(mesh: Mesh) -> certificates.Authority:
    """The root CA with its key; raises Stop where the key is not."""
    pki = mesh.folder / "pki"
    try:
        return certificates.Authority.from_pem((pki / "root_ca.pem").read_bytes(), (pki / "root_ca.key").read_bytes())
    except FileNotFoundError as error:
        raise Stop(
            f"{error.filename} is not here; only the holder of the root CA's key issues identities", ExitCode.USAGE
        ) from error


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """A model owner's signing key."""
    path = folder / "signing_key.pem"
    if not path.exists():
        raise Stop(f"{folder} holds no signing_key.pem; only an owner's identity has one", ExitCode.USAGE)
    return key_in(path)


def key_in(path: Path) -> Ed25519PrivateKey:
    """The signing key of a person in a file that only they may read."""
    if not path.exists():
        raise Stop(f"there is no key {path}", ExitCode.USAGE)
    return ed25519_key(read_private(path), path)


def ed25519_key(pem: bytes, path: Path) -> Ed25519PrivateKey:
    """A person's signing key; `path` is what the message calls it."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise Stop(f"{path} is not a private key in PEM without a passphrase", ExitCode.USAGE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Stop(
            f"{path} is not an Ed25519 key; 'openssl genpkey -algorithm ed25519 -out FILE' makes one", ExitCode.USAGE
        )
    return key


def owner_key(folder: Path) -> str:
    """The public half of a model owner's signing key, in hex: what clients pin."""
    return signing_key(folder).public_key().public_bytes_raw().hex()


def new_ed25519_pem() -> bytes:
    """A fresh Ed25519 private key in PEM, for a file that only its owner may read."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
