"""Certificates for attested workers: the mesh's second authority, whose key this service holds.

A certificate says that evidence for its key was believed; so it lives an hour at most, names one instance, and ends
with the Attestation Result that it was issued with.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from cloister.errors import InvalidRequest, NotReady
from cloister.kit.log import get_logger
from cloister.rpc.certificates import Authority, Usage, issue, load_certificates, load_spki
from cloister.rpc.files import read_private
from cloister.rpc.spiffe import WORKER, server_name, spiffe_id

MAX_LIFE = timedelta(hours=1)
_log = get_logger()


class MeshCa:
    """Signs for the workers of one cluster.

    Attributes:
        authority: What it signs with; a new one is taken over while the service runs.
        cluster: Trust domain.
    """

    def __init__(self, authority: Authority, cluster: str, files: tuple[Path, Path] | None = None) -> None:
        self.authority = authority
        self.cluster = cluster
        self._files = files

    @classmethod
    def opened(cls, certificate: Path, private_key: Path, *, cluster: str) -> MeshCa:
        """Read the authority's certificate and key.

        Raises:
            NotReady: A file is missing, open to others, or the two do not make an authority.
        """
        return cls(_read(certificate, private_key), cluster, (certificate, private_key))

    def look(self, trust_roots: bytes) -> None:
        """Take over the authority that the files hold now, if the mesh's roots vouch for it. Blocking.

        Certificates that the one before has signed stay good until they end: both lead back to a root. Two files
        that do not fit together, since only one of them is new yet, are left for the next look.
        """
        if self._files is None:
            return
        try:
            found = _read(*self._files)
            if found.certificate == self.authority.certificate:
                return
            _check_vouched_for(found, trust_roots)
        except NotReady as error:
            _log.warning("ca.refused", reason=error.reason, error=error)
            return
        self.authority = found
        _log.info("ca.replaced", ends_at=found.certificate.not_valid_after_utc)

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
        authority = self.authority
        if authority.certificate.not_valid_after_utc <= now:
            raise NotReady("the authority for attested workers has expired", reason="ca.expired")
        leaf = issue(
            authority,
            load_spki(tls_spki),
            spiffe_id(self.cluster, WORKER, instance),
            now=now,
            life=min(life, MAX_LIFE),
            usage=Usage.SERVICE,
            dns=(self.server_name(instance),),
        )
        return leaf + authority.certificate_pem


def _read(certificate: Path, private_key: Path) -> Authority:
    key = read_private(private_key)
    try:
        return Authority.from_pem(certificate.read_bytes(), key)
    except OSError as error:
        raise NotReady(f"{certificate} cannot be read: {error.strerror}", reason="ca.unusable") from error
    except InvalidRequest as error:
        raise NotReady(f"{certificate} and {private_key}: {error}", reason="ca.unusable") from error


def _check_vouched_for(authority: Authority, trust_roots: bytes) -> None:
    for root in load_certificates(trust_roots):
        try:
            authority.certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise NotReady("the new authority is not one that the mesh's root signed", reason="ca.untrusted")
