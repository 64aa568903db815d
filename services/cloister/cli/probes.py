"""What the operator of a mesh on this machine can see of it: health of each service, and the gateway's status."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from cloister.api.v1.gateway_pb2 import GetStatusResponse
from cloister.api.v1.provisioner_pb2 import ModelSummary
from cloister.cli import redis_files
from cloister.cli.mesh_folder import Mesh
from cloister.cli.programs import CONSOLE, REDIS, Program
from cloister.client import is_serving, list_models, mesh_status, tls_files
from cloister.client.reaching import settled
from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.kit.redis_settings import RedisSettings
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name

CALL_S: Final = 3.0
OTHER: Final = "writer.other"
"""What a provisioner refuses calls with while another writes."""
LOST: Final = "root_key.other"
"""And while it waits for owners' shares."""
PROVISIONER: Final = "provisioner"
SERVICES: Final = ("verifier", PROVISIONER, "gateway")


@dataclass(frozen=True, slots=True)
class Probes:
    """Connections to the three services, as the operator.

    Attributes:
        peers: By service.
        connect: Makes the handle on a further gateway, from its address.
        at_provisioner: And on one of several provisioners.
        tls: Believes the mesh's root.
        redis: How the operator looks at the mesh's own Redis.
    """

    peers: Mapping[str, Peer]
    connect: Callable[[str], Peer]
    at_provisioner: Callable[[str], Peer]
    tls: ssl.SSLContext
    redis: RedisSettings | None

    @classmethod
    @asynccontextmanager
    async def opened(cls, mesh: Mesh) -> AsyncIterator[Probes]:
        """Connect as `operator/main` of this mesh folder."""
        addresses = {"verifier": mesh.verifier, "provisioner": mesh.provisioner, "gateway": mesh.gateway}
        async with AsyncExitStack() as stack:
            files = tls_files(mesh.identity("operator"))
            identity = await stack.enter_async_context(TlsIdentity.watching(files))
            tls = ssl.create_default_context(cafile=str(files.trust_roots))
            peers = {
                service: await stack.enter_async_context(Peer(address, identity, server_name(mesh.cluster, service)))
                for service, address in addresses.items()
            }
            gateway_name = server_name(mesh.cluster, "gateway")
            provisioner_name = server_name(mesh.cluster, PROVISIONER)
            yield cls(
                peers,
                lambda address: Peer(address, identity, gateway_name),
                lambda address: Peer(address, identity, provisioner_name),
                tls,
                redis_files.as_operator(mesh),
            )

    async def serving(self, service: str) -> bool:
        """Whether a service says it is serving, at the first of its addresses that does."""
        peer = self.peers[service]
        await settled(peer)
        return await is_serving(peer, CALL_S)

    async def not_serving(self, address: str) -> tuple[str, str]:
        """Why the provisioner at `address` says that it does not serve: the reason, and its sentence."""
        async with self.at_provisioner(address) as peer:
            return await why_not_serving(peer)

    async def provisioner_serving(self, address: str) -> bool:
        """Whether the provisioner at `address` says it is serving."""
        async with self.at_provisioner(address) as peer:
            return await is_serving(peer, CALL_S)

    async def gateway_serving(self, address: str) -> bool:
        """Whether the gateway at `address` says it is serving."""
        async with self.connect(address) as peer:
            return await is_serving(peer, CALL_S)

    async def https_serving(self, address: str) -> bool:
        """Whether the gateway says over HTTPS that it is alive."""
        try:
            async with httpx.AsyncClient(verify=self.tls, timeout=CALL_S, trust_env=False) as client:
                return (await client.get(f"https://{address}/v2/health/live")).is_success
        except httpx.HTTPError:
            return False

    async def redis_serving(self) -> bool:
        """Whether the mesh's own Redis answers, and has loaded what it keeps."""
        if self.redis is None:
            return True
        from cloister.kit.redis import command, connected  # who only asks a mesh has no redis-py

        try:
            async with connected(self.redis) as client:
                await command(client, CALL_S, "PING")
        except CloisterError:
            return False
        return True

    async def status(self) -> GetStatusResponse:
        """The gateway's status; raises what the call raised."""
        return await mesh_status(self.peers["gateway"], CALL_S)

    async def models(self) -> Sequence[ModelSummary]:
        """The models of all owners; none where they cannot be told."""
        try:
            return await list_models(self.peers["provisioner"])
        except (CloisterError, TimeoutError):
            return ()

    async def ready(self, program: Program) -> bool:
        """Whether a program does what it is there for."""
        if program.ready_file is not None:
            return program.ready_file.exists()
        if not await _listens(program.address):  # gRPC would wait ever longer between its attempts
            return False
        if program.service == CONSOLE:
            return True
        if program.service == REDIS:
            return await self.redis_serving()
        if program.service == "worker":
            return await self.linked(program.address)
        if program.service == PROVISIONER:  # it serves, or another does and it stands by, or it waits for shares
            if await self.serving(PROVISIONER):
                return True
            reason, _ = await self.not_serving(program.address)
            return reason == LOST
        if program.service == "gateway":
            return (not program.https or await _listens(program.https)) and await self.gateway_serving(program.address)
        return await self.serving(program.service)

    async def linked(self, address: str) -> bool:
        """Whether the worker at `address` is attested and has a link with the gateway."""
        try:
            workers = (await self.status()).workers
        except (CloisterError, TimeoutError):
            return False
        return any(worker.linked and worker.endpoint == address for worker in workers)


async def why_not_serving(provisioner: Peer) -> tuple[str, str]:
    """Why a provisioner says that it does not serve; empty for one that does, or is not there."""
    if await is_serving(provisioner, CALL_S):
        return "", ""
    try:
        await list_models(provisioner)
    except (NotReady, Unavailable) as error:
        return ("", "") if error.reason == Unavailable.default_reason else (error.reason, str(error))
    except (CloisterError, TimeoutError):
        pass
    return "", ""


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True
