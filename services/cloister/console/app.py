"""The console's parts, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from cloister.client import TrustBundle
from cloister.console.door import ENTER, Door
from cloister.console.pages import pages
from cloister.console.sessions import Sessions
from cloister.console.settings import Settings
from cloister.console.watch import SERVICES, MeshWatch
from cloister.errors import NotAllowed
from cloister.kit.https import HttpsLimits, https_server, loopback_server
from cloister.kit.lifecycle import Lifecycle
from cloister.rpc import certificates
from cloister.rpc.channel import Peer
from cloister.rpc.files import replace_private
from cloister.rpc.identity import PeerIdentity, TlsIdentity, peer_of
from cloister.rpc.spiffe import server_name

HTTPS_PORT: Final = 443
LIMITS: Final = HttpsLimits(max_connections=64, max_concurrent=32, max_body_bytes=0)


@asynccontextmanager
async def opened(settings: Settings, lifecycle: Lifecycle, on_url: Callable[[str], None]) -> AsyncIterator[int]:
    """A console that answers while the block lasts; yields its port.

    Args:
        settings: Whom it asks, and where it listens.
        lifecycle: Of the process.
        on_url: Told where a browser finds it; of one-time links, each as it comes into force.
    """
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(TlsIdentity.watching(settings.identity))
        addresses = dict(zip(SERVICES, (settings.gateway, settings.verifier, settings.provisioner), strict=True))
        peers = {
            name: await stack.enter_async_context(Peer(address, identity, server_name(settings.cluster, name)))
            for name, address in addresses.items()
        }
        trust = await asyncio.to_thread(TrustBundle.read, settings.trust)
        watch = MeshWatch(peers, trust)
        behind = pages(watch, settings.cluster, lambda: datetime.now(UTC))
        lifecycle.spawn(watch.running(), "mesh.watching")
        if settings.https is None:
            if settings.link is not None:
                stack.callback(settings.link.unlink, missing_ok=True)
            hosts = _hosts({settings.host, "localhost", "127.0.0.1"}, settings.port)
            door = Door(behind, hosts=hosts, sessions=Sessions(_links(settings, on_url)))
            server = await stack.enter_async_context(
                loopback_server(settings.listen, door, lifecycle=lifecycle, limits=LIMITS)
            )
        else:
            shown = await stack.enter_async_context(TlsIdentity.watching(settings.https))
            hosts = _hosts({settings.host, *_named(shown)}, settings.port)
            door = Door(behind, hosts=hosts, identify=_of_cluster(settings.cluster))
            serving = https_server(
                settings.listen, shown, settings.https, door, lifecycle=lifecycle, limits=LIMITS, clients=True
            )
            server = await stack.enter_async_context(serving)
            on_url(f"https://{settings.listen}/")
        yield server.port


def _hosts(names: Iterable[str], port: int) -> tuple[str, ...]:
    """As browsers write them: without the port where it is that of HTTPS."""
    written = [f"[{name}]" if ":" in name else name for name in names]
    return tuple([f"{name}:{port}" for name in written] + (written if port == HTTPS_PORT else []))


def _named(identity: TlsIdentity) -> list[str]:
    """What a certificate is for: the names by which browsers may know us."""
    certificate = certificates.load_certificate(identity.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _links(settings: Settings, on_url: Callable[[str], None]) -> Callable[[str], None]:
    def told(link: str) -> None:
        url = f"http://{settings.listen}{ENTER}?link={link}"
        if settings.link is not None:
            replace_private(settings.link, f"{url}\n".encode())
        on_url(url)

    return told


def _of_cluster(cluster: str) -> Callable[[str], PeerIdentity]:
    def identify(certificate_pem: str) -> PeerIdentity:
        peer = peer_of(certificate_pem.encode())
        if peer.cluster != cluster:
            raise NotAllowed("this certificate is of another mesh")
        return peer

    return identify
