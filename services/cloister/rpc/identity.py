"""Who we are on the wire, and who the peer is.

A `TlsIdentity` holds one service's certificate chain, key and trust roots, read from files that are watched, or held in
memory by a worker. Servers pick up a new certificate at the next handshake, clients at the next call. A `PeerIdentity`
comes from the certificate that TLS has verified and from nowhere else.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, cast

import grpc
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.errors import CloisterError, InvalidRequest, Unauthenticated
from cloister.rpc import certificates
from cloister.rpc.certificates import ATTESTED_NAME, ROOT_NAME
from cloister.rpc.files import read_private, read_public
from cloister.rpc.spiffe import WORKER, SpiffeId

__all__ = ["PeerIdentity", "TlsFiles", "TlsIdentity", "peer_identity", "peer_of", "read_private", "spki_sha256"]

POLL_S: Final = 3.0
_log = logging.getLogger("cloister.rpc.identity")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where a static identity lies, in PEM: the `[tls]` table of every service's settings."""

    certificate: Path
    private_key: Path
    trust_roots: Path


@dataclass(frozen=True, slots=True)
class _Pems:
    certificate: bytes
    private_key: bytes = field(repr=False)
    trust_roots: bytes


class TlsIdentity:
    """A certificate chain, its key and the roots that peers must chain to; replaceable while in use."""

    def __init__(self, certificate: bytes, private_key: bytes, trust_roots: bytes) -> None:
        self._pems = _checked(_Pems(certificate, private_key, trust_roots))
        self._spiffe_id = _own_spiffe_id(certificate)
        self._generation = 1
        self._change: asyncio.Event | None = None

    @classmethod
    def held(cls, certificate: bytes, private_key: bytes, trust_roots: bytes) -> TlsIdentity:
        """An identity in memory, from PEM.

        Raises:
            InvalidRequest: Something does not parse, or key and certificate do not belong together.
        """
        return cls(certificate, private_key, trust_roots)

    @classmethod
    @asynccontextmanager
    async def watching(cls, files: TlsFiles, *, poll_s: float = POLL_S) -> AsyncIterator[TlsIdentity]:
        """An identity from files, read again while open whenever their content changes.

        A pair that does not fit together (one file already replaced, the other not yet) is left for the next look.

        Raises:
            NotReady: A file is missing, or the private key lies open to others.
            InvalidRequest: As `held`.
        """
        read = await asyncio.to_thread(_read, files)
        identity = cls(read.certificate, read.private_key, read.trust_roots)
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            try:
                identity.look(files)
            except (CloisterError, OSError) as error:
                _log.warning("identity kept: the files on disk are not usable: %s", error)
            timer = loop.call_later(poll_s, look)

        timer = loop.call_later(poll_s, look)
        try:
            yield identity
        finally:
            timer.cancel()

    @property
    def generation(self) -> int:
        """Goes up by one with every replacement."""
        return self._generation

    @property
    def spiffe_id(self) -> SpiffeId:
        """Who we are."""
        return self._spiffe_id

    @property
    def certificate(self) -> bytes:
        """The chain in PEM, leaf first."""
        return self._pems.certificate

    @property
    def trust_roots(self) -> bytes:
        """Roots in PEM."""
        return self._pems.trust_roots

    def look(self, files: TlsFiles) -> None:
        """Read the files again now; raises as `watching` does, and then keeps what it has."""
        self._adopt(_read(files))

    async def changed(self, generation: int) -> None:
        """Wait until there is a later generation than this."""
        while self._generation <= generation:
            self._change = self._change or asyncio.Event()
            await self._change.wait()

    def replace(self, certificate: bytes, private_key: bytes) -> None:
        """Go on with another certificate and key; calls in flight are not disturbed.

        Raises:
            InvalidRequest: As `held`, or the new certificate names somebody else.
        """
        self._adopt(_Pems(certificate, private_key, self._pems.trust_roots))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask this identity at each handshake, and every client for a certificate."""
        given = self._generation

        def current() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            if given == self._generation:
                return None
            given = self._generation
            return _configuration(self._pems)

        # None means "as before" to gRPC, which the published types do not know.
        fetcher = cast(Callable[[], grpc.ServerCertificateConfiguration], current)
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._pems), fetcher, require_client_authentication=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials with the certificate of this moment."""
        pems = self._pems
        return grpc.ssl_channel_credentials(pems.trust_roots, pems.private_key, pems.certificate)

    def _adopt(self, pems: _Pems) -> None:
        if pems == self._pems:
            return
        _checked(pems)
        if _own_spiffe_id(pems.certificate) != self._spiffe_id:
            raise InvalidRequest("the new certificate names another identity")
        self._pems = pems
        self._generation += 1
        if self._change is not None:
            self._change.set()
            self._change = None


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who is at the other end, as its verified certificate says.

    Attributes:
        spiffe_id: `spiffe://<cluster>/<role>/<name>`.
        cluster: Trust domain.
        role: What it may call.
        name: Which one it is; for a worker, its instance.
        spki_sha256: SHA-256 of its public key, 32 bytes.
        expires_at: End of the certificate, Unix time in seconds.
    """

    spiffe_id: str
    cluster: str
    role: str
    name: str
    spki_sha256: bytes
    expires_at: float


class _Authenticated(Protocol):
    """The one thing we ask of a servicer context."""

    def auth_context(self) -> Any: ...


def peer_identity(context: _Authenticated) -> PeerIdentity:
    """The identity at the other end of a call.

    TLS has checked the chain, the signatures and the dates at the handshake. Here: that the certificate is meant for a
    client, names exactly one SPIFFE identity, and comes from the authority that may speak for its role. The caller
    compares the cluster and, on a long connection, `expires_at`.

    Raises:
        Unauthenticated: No certificate, or one that names nobody of the mesh.
    """
    found = context.auth_context().get("x509_pem_cert")
    if not found:
        raise Unauthenticated("no client certificate")
    return peer_of(found[0])


def spki_sha256(certificate_pem: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of the first certificate in PEM."""
    return certificates.spki_sha256(certificate_pem)


@functools.lru_cache(maxsize=1024)
def peer_of(pem: bytes) -> PeerIdentity:
    """The identity in a client certificate, PEM, that TLS has verified; raises as `peer_identity` does."""
    try:
        certificate = certificates.load_certificate(pem)
        named = _named(certificate)
    except InvalidRequest as error:
        raise Unauthenticated("the client certificate names nobody of the mesh") from error
    # The name suffices: TLS has checked that an authority of this name signed, and neither the root nor the
    # intermediate (path length 0) lets anybody else be called so. BoringSSL ignores a root's own path length.
    if _issuer_name(certificate) != (ATTESTED_NAME if named.role == WORKER else ROOT_NAME):
        raise Unauthenticated("the client certificate comes from an authority that may not speak for its role")
    return PeerIdentity(
        spiffe_id=str(named),
        cluster=named.cluster,
        role=named.role,
        name=named.name,
        spki_sha256=certificates.spki_sha256(certificate),
        expires_at=certificate.not_valid_after_utc.timestamp(),
    )


def _named(certificate: x509.Certificate) -> SpiffeId:
    """The one SPIFFE id of a leaf (X.509-SVID, sections 4 and 5); raises InvalidRequest."""
    try:
        extensions = certificate.extensions
        uris = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        )
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise InvalidRequest("the certificate lacks an extension that every identity has") from error
    if constraints.ca or ExtendedKeyUsageOID.CLIENT_AUTH not in usage or len(uris) != 1:
        raise InvalidRequest("the certificate is not that of one identity")
    return SpiffeId.parse(uris[0])


def _issuer_name(certificate: x509.Certificate) -> str:
    names = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def _own_spiffe_id(certificate: bytes) -> SpiffeId:
    return _named(certificates.load_certificate(certificate))


def _checked(pems: _Pems) -> _Pems:
    key = certificates.load_key(pems.private_key)
    if certificates.load_certificate(pems.certificate).public_key() != key.public_key():
        raise InvalidRequest("the private key is not the one of the certificate")
    certificates.load_certificates(pems.trust_roots)
    return pems


def _configuration(pems: _Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.private_key, pems.certificate)], pems.trust_roots)


def _read(files: TlsFiles) -> _Pems:
    return _Pems(
        certificate=read_public(files.certificate),
        private_key=read_private(files.private_key),
        trust_roots=read_public(files.trust_roots),
    )
