"""Certificates for attested workers: the mesh's second authority, whose key this service holds.

A certificate says that evidence for its key was believed; so it lives an hour at most, names one instance, and ends
with the Attestation Result that it was issued with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cloister.errors import InvalidRequest, NotReady
from cloister.rpc.certificates import Authority, Usage, issue, load_spki
from cloister.rpc.files import read_private
from cloister.rpc.spiffe import WORKER, server_name, spiffe_id

MAX_LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MeshCa:
    """Signs for the workers of one cluster."""

    authority: Authority
    cluster: str

    @classmethod
    def opened(cls, certificate: Path, private_key: Path, *, cluster: str) -> MeshCa:
        """Read the authority's certificate and key.

        Raises:
            NotReady: A file is missing, open to others, or the two do not make an authority.
        """
        key = read_private(private_key)
        try:
            return cls(Authority.from_pem(certificate.read_bytes(), key), cluster)
        except OSError as error:
            raise NotReady(f"{certificate} cannot be read: {error.strerror}", reason="ca.unusable") from error
        except InvalidRequest as error:
            raise NotReady(f"{certificate} and {private_key}: {error}", reason="ca.unusable") from error

    def server_name(self, instance: str) -> str:
        """The DNS name in the certificate of this instance."""
        return server_name(self.cluster, WORKER, instance)

    def certify(self, tls_spki: bytes, instance: str, *, now: datetime, life: timedelta) -> bytes:
        """A chain in PEM, leaf first, for the attested key of one instance.

        Args:
            tls_spki: DER SubjectPublicKeyInfo, P-256, whose hash the believed claims carry.
            instance: From the same claims.
            now: Aware UTC.
            life: An hour at most.

        Raises:
            InvalidRequest: The key is none we sign for.
            NotReady: The authority has expired (`ca.expired`).
        """
        if self.authority.certificate.not_valid_after_utc <= now:
            raise NotReady("the authority for attested workers has expired", reason="ca.expired")
        leaf = issue(
            self.authority,
            load_spki(tls_spki),
            spiffe_id(self.cluster, WORKER, instance),
            now=now,
            life=min(life, MAX_LIFE),
            usage=Usage.SERVICE,
            dns=(self.server_name(instance),),
        )
        return leaf + self.authority.certificate_pem
