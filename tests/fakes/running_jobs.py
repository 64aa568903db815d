"""A gateway that keeps jobs, its part that gives them to workers, and a real Redis, in one process of Python."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1 import jobs_pb2
from cloister.api.v1.jobs_pb2_grpc import JobsStub
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs_process import run_jobs
from cloister.gateway.portion import RUNNER
from cloister.gateway.settings import Settings
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.shared_port import Place
from cloister.rpc.identity import TlsFiles
from fakes.job_store_on_redis import jobs_redis
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer
from fakes.running_gateway import Rig, running_gateway

MODEL = "tiny"
MINUTE_MS = 60_000


def job_envelope(sealed: bytes = b"sealed", *, model: str = MODEL, version: str = "", seal: str = "job-v1") -> bytes:
    """A request around a sealed job, which fake workers do not open."""
    message = ModelInferRequest(model_name=model, model_version=version)
    if seal:
        message.parameters["cloister-seal"].string_param = seal
    message.raw_input_contents.append(sealed)
    return message.SerializeToString()


def submission(sealed: bytes = b"sealed", **fields: Any) -> jobs_pb2.Submission:
    """A job that lives for ten minutes."""
    wanted: dict[str, Any] = {
        "job_id": secrets.token_bytes(16),
        "request": job_envelope(sealed),
        "not_after_ms": now_ms() + 10 * MINUTE_MS,
        **fields,
    }
    return jobs_pb2.Submission(**wanted)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def answered_by(job: jobs_pb2.Job) -> tuple[str, bytes]:
    """The worker that has answered a job, and the sealed bytes that it sent back."""
    response = ModelInferResponse.FromString(job.response)
    return response.parameters["instance"].string_param, response.raw_output_contents[0]


class _Running:
    """One who gives jobs to workers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.lifecycle: asyncio.Future[Lifecycle] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Any]

    async def run(self) -> None:
        async with Lifecycle.running() as lifecycle:
            self.lifecycle.set_result(lifecycle)
            await run_jobs(self._settings, lifecycle, Place(1, 1, None, RUNNER))


class JobsRig:
    """See the module.

    Attributes:
        gateway: What clients talk to.
        redis: Where jobs lie.
        settings: Of the process that gives jobs to workers.
    """

    def __init__(self, gateway: Rig, redis: RedisServer, settings: Settings) -> None:
        self.gateway, self.redis, self.settings = gateway, redis, settings
        self._stubs: dict[tuple[str, str], Any] = {}
        self._runners: list[_Running] = []

    async def jobs(self, name: str = "ann", role: str = "client") -> Any:
        """The calls, as somebody."""
        if (role, name) not in self._stubs:
            self._stubs[role, name] = (await self.gateway.peer(role, name)).stub(JobsStub)
        return self._stubs[role, name]

    async def submit(self, *jobs: jobs_pb2.Submission, name: str = "ann", model: str = MODEL) -> list[Any]:
        request = jobs_pb2.SubmitRequest(model_name=model, jobs=jobs)
        return list((await (await self.jobs(name)).Submit(request, timeout=20)).jobs)

    async def result(self, job_id: bytes, *, wait_s: float = 20, name: str = "ann", **more: Any) -> jobs_pb2.Job:
        request = jobs_pb2.ResultRequest(model_name=MODEL, job_id=job_id, wait_ms=int(wait_s * 1000), **more)
        answer: jobs_pb2.Job = (await (await self.jobs(name)).Result(request, timeout=wait_s + 10)).job
        return answer

    async def watch(self, job_ids: Sequence[bytes], *, name: str = "ann", **more: Any) -> list[jobs_pb2.Job]:
        """All that a watch tells until it ends."""
        request = jobs_pb2.WatchRequest(model_name=MODEL, job_ids=job_ids, **more)
        return [job async for message in (await self.jobs(name)).Watch(request, timeout=60) for job in message.jobs]

    async def states(self, job_ids: Sequence[bytes]) -> list[jobs_pb2.Job]:
        """What a watch tells first."""
        request = jobs_pb2.WatchRequest(model_name=MODEL, job_ids=job_ids, without_responses=True)
        call = (await self.jobs()).Watch(request, timeout=20)
        first = await anext(aiter(call))
        call.cancel()
        return list(first.jobs)

    async def until_ready(self) -> None:
        """Wait until the gateway has found Redis fit."""
        await self.gateway.until(lambda status: status.jobs == "ready")

    def run(self, *, name: str = "gateway") -> None:
        """Begin to give jobs to workers, as a process of a gateway of this name."""
        running = _Running(replace(self.settings, name=name))
        running.task = self.gateway.lifecycle.spawn(running.run(), f"jobs of {name}")
        self._runners.append(running)

    async def stop_claiming(self) -> None:
        """Have nothing new taken, while what is under way goes on."""
        for running in self._runners:
            (await running.lifecycle).stop()

    def kill_running(self) -> None:
        """Be gone at once, with whatever was held."""
        for running in self._runners:
            running.task.cancel()
        self._runners.clear()

    async def stop_running(self) -> None:
        """Have everybody who gives jobs to workers come to an end."""
        await self.stop_claiming()
        for running in self._runners:
            await running.task
        self._runners.clear()


@asynccontextmanager
async def running_jobs(folder: Path, pki: MeshPki, *, redis_lines: str = "", **options: Any) -> AsyncIterator[JobsRig]:
    with jobs_redis(folder / "redis", pki, lines=f"appendonly yes\n{redis_lines}") as server:
        jobs = options.pop("jobs", JobsSettings())
        kept = {"redis": server.settings(user="gateway"), "jobs": jobs}
        async with running_gateway(folder, pki, **kept, **options) as gateway:
            tls = TlsFiles(
                certificate=folder / "tls" / "certificate.pem",
                private_key=folder / "tls" / "key.pem",
                trust_roots=folder / "tls" / "roots.pem",
            )
            settings = Settings(
                cluster=pki.cluster,
                listen=f"127.0.0.1:{gateway.port}",
                verifier=f"127.0.0.1:{gateway.feed.port}",
                tls=tls,
                **{"grace_s": 3.0, "front": "grpc", **kept, **options},  # type: ignore[arg-type]
            )
            rig = JobsRig(gateway, server, replace(settings))
            try:
                yield rig
            finally:
                await rig.stop_running()
