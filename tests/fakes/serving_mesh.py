"""A real gateway before a real worker, in this process, with a fake verifier and provisioner around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import openvino as ov
import tritonclient.grpc as triton

from cloister.api.v1.verifier_pb2 import AttestedWorker
from cloister.rpc.spiffe import server_name
from cloister.worker.tuning import Tunings
from fakes import networks
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, running_gateway
from fakes.running_rest import RestRig, running_rest
from fakes.worker_mesh import RunningWorker, WorkerMesh


@asynccontextmanager
async def serving_mesh(
    folder: Path, pki: MeshPki, models: Mapping[str, ov.Model], tunings: Tunings | None = None, **options: object
) -> AsyncIterator[Rig]:
    """A gateway with these settings, through which these models are served, each in version 1.

    Args:
        folder: Where all of it is kept.
        pki: Of everybody.
        models: By name.
        tunings: What suits these models, instead of what this machine measures.
        options: The gateway's settings.
    """
    inside = published(folder, pki, models)
    async with (
        inside.up(),
        running_gateway(folder, pki, **options) as rig,
        inside.worker(inside.settings(models=tuple(models)), tunings) as worker,
    ):
        rig.feed.join(joined(pki, worker))
        await rig.until(lambda status: any(len(each.models) == len(models) for each in status.workers))
        rig.inside = inside
        yield rig


@asynccontextmanager
async def serving_rest(
    folder: Path, pki: MeshPki, models: Mapping[str, ov.Model], engine: str, **options: object
) -> AsyncIterator[RestRig]:
    """The same over HTTPS, by either engine."""
    inside = published(folder, pki, models)
    async with (
        inside.up(),
        running_rest(folder, pki, engine, **options) as rig,
        inside.worker(inside.settings(models=tuple(models))) as worker,
    ):
        rig.feed.join(joined(pki, worker))
        client = await rig.client()
        async with asyncio.timeout(30):
            for name in models:
                while (await client.get(f"/v2/models/{name}/ready")).status_code != 200:
                    await asyncio.sleep(0.02)
        yield rig


def published(folder: Path, pki: MeshPki, models: Mapping[str, ov.Model]) -> WorkerMesh:
    """A mesh around a worker, whose provisioner has these models."""
    inside = WorkerMesh(pki, folder)
    for name, model in models.items():
        (folder / f"{name} ir").mkdir()
        inside.provisioner.publish(folder / "models", name, 1, networks.ir(model, folder / f"{name} ir"))
    return inside


def joined(pki: MeshPki, worker: RunningWorker) -> AttestedWorker:
    """What the verifier tells of a worker."""
    return AttestedWorker(
        instance=worker.instance,
        endpoint=worker.settings.listen,
        server_name=server_name(pki.cluster, "worker", worker.instance),
        expires_at_ms=1 << 45,
    )


def stock_client(rig: Rig, folder: Path) -> triton.InferenceServerClient:
    """Triton's own client, for use off the event loop."""
    files = rig.pki.identity("client", "ann").write(folder)
    return triton.InferenceServerClient(
        f"127.0.0.1:{rig.port}",
        ssl=True,
        root_certificates=str(files.trust_roots),
        private_key=str(files.private_key),
        certificate_chain=str(files.certificate),
        channel_args=[("grpc.ssl_target_name_override", server_name(rig.pki.cluster, "gateway"))],
    )
