"""A throw-away PKI of a mesh, made like the real one and as quickly as P-256 allows (a millisecond per identity)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from cloister.rpc import certificates
from cloister.rpc.certificates import Usage
from cloister.rpc.identity import TlsFiles, TlsIdentity
from cloister.rpc.spiffe import server_name, spiffe_id

CLUSTER = "demo.cloister.internal"
_CLIENTS = {"enrol", "owner", "client", "operator", "auditor"}


@dataclass(frozen=True, slots=True)
class Pems:
    """One identity: chain (leaf first), key, roots."""

    certificate: bytes
    private_key: bytes = field(repr=False)
    trust_roots: bytes

    def held(self) -> TlsIdentity:
        return TlsIdentity.held(self.certificate, self.private_key, self.trust_roots)

    def write(self, folder: Path) -> TlsFiles:
        """Three files in `folder`, the key with mode 0600."""
        folder.mkdir(parents=True, exist_ok=True)
        files = TlsFiles(
            certificate=folder / "certificate.pem",
            private_key=folder / "key.pem",
            trust_roots=folder / "roots.pem",
        )
        files.certificate.write_bytes(self.certificate)
        files.private_key.touch(mode=0o600)
        files.private_key.write_bytes(self.private_key)
        files.trust_roots.write_bytes(self.trust_roots)
        return files


class MeshPki:
    """Root and attested intermediate of one cluster, and every identity one may want from them."""

    def __init__(self, cluster: str = CLUSTER, *, now: datetime | None = None) -> None:
        self.cluster = cluster
        self.now = now or datetime.now(UTC)
        self.root = certificates.root_ca(cluster, now=self.now)
        self.attested = certificates.intermediate_ca(self.root, cluster, now=self.now)

    @property
    def roots_pem(self) -> bytes:
        return self.root.certificate_pem

    def identity(
        self,
        role: str,
        name: str,
        dns: Sequence[str] | None = None,
        ips: Sequence[str] = (),
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        life: timedelta = timedelta(hours=1),
        now: datetime | None = None,
        usage: Usage | None = None,
        authority: certificates.Authority | None = None,
        cluster: str | None = None,
    ) -> Pems:
        """An identity as `cloister init` or the verifier would make it.

        A worker comes from the intermediate, all others from the root; a service gets its DNS name, a mere client none.
        Whatever is given explicitly wins, also where it makes an identity that must be refused.
        """
        cluster = cluster or self.cluster
        key = key or certificates.new_key()
        authority = authority or (self.attested if role == "worker" else self.root)
        if dns is None:
            own = server_name(cluster, role, name if role == "worker" else "")
            dns = () if role in _CLIENTS else (own,)
        leaf = certificates.issue(
            authority,
            key.public_key(),
            spiffe_id(cluster, role, name),
            now=now or self.now,
            life=life,
            usage=usage or (Usage.CLIENT if role in _CLIENTS else Usage.SERVICE),
            dns=dns,
            ips=ips,
        )
        chain = leaf if authority is self.root else leaf + authority.certificate_pem
        return Pems(chain, certificates.key_pem(key), self.roots_pem)
