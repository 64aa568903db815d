"""How owners, auditors and operators reach a service of the mesh: as an identity, which names the mesh too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cloister.client.health import is_serving
from cloister.client.identity import check_current, tls_files
from cloister.errors import InvalidRequest
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsFiles, TlsIdentity
from cloister.rpc.spiffe import server_name

LOOK_S: Final = 3.0
"""How long one of several addresses has to say whether it serves."""


@asynccontextmanager
async def reached(address: str, role: str, identity: TlsFiles | Path | str) -> AsyncIterator[tuple[Peer, str]]:
    """The service of this role at host:port, called as an identity; with it, the cluster that both are of.

    Raises:
        NotFound, InvalidRequest, NotReady: A file is missing, is not what it should be, or lies open to others; or the
            address is not host:port (`address.invalid`).
        Unauthenticated: The identity has expired (`identity.expired`).
    """
    check_address(address)
    files = identity if isinstance(identity, TlsFiles) else tls_files(Path(identity))
    async with TlsIdentity.watching(files) as own:
        check_current(own, files)
        cluster = own.spiffe_id.cluster
        async with Peer(address, own, server_name(cluster, role)) as peer:
            await settled(peer)
            yield peer, cluster


async def settled(peer: Peer) -> None:
    """Have calls go to the first address that serves, where there are several; to the first one if none does."""
    if len(peer.addresses) == 1:
        return
    for address in peer.addresses:
        _turn(peer, address)
        if await is_serving(peer, LOOK_S):
            return
    _turn(peer, peer.addresses[0])


def _turn(peer: Peer, address: str) -> None:
    while peer.address != address:
        peer.move_on()


def check_address(address: str) -> None:
    """Raise InvalidRequest for what is not host:port, or several with commas; gRPC would look for it until the end."""
    for each in address.split(","):
        _check_one(each)


def _check_one(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise InvalidRequest(f"'{address[:100]}' is no address: write HOST:PORT", reason="address.invalid")
