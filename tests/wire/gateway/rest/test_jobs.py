"""Jobs over REST: submitted, waited for, forgotten and cancelled; sealed ones only."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.gateway.jobs_process import run_jobs
from cloister.gateway.portion import RUNNER
from cloister.gateway.settings import Settings
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.shared_port import Place
from cloister.rpc.identity import TlsFiles
from fakes.gateway_parts import A, infer_request
from fakes.job_store_on_redis import jobs_redis
from fakes.pki import MeshPki
from fakes.running_jobs import submission
from fakes.running_rest import RestRig, running_rest

PATH = "/v2/models/tiny/jobs"


class Jobs:
    """A gateway's HTTPS face, and what gives its jobs to workers once a test says so."""

    def __init__(self, rest: RestRig, client: httpx.AsyncClient, settings: Settings, lifecycle: Lifecycle) -> None:
        self.rest, self.client = rest, client
        self._settings, self._lifecycle = settings, lifecycle

    def run(self) -> None:
        place = Place(1, 1, None, RUNNER)
        self._lifecycle.spawn(run_jobs(self._settings, self._lifecycle, place), "jobs")


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Jobs]:
    pki = MeshPki()
    with jobs_redis(tmp_path / "redis", pki, lines="appendonly yes") as server:
        redis = server.settings(user="gateway")
        async with running_rest(tmp_path, pki, "own", redis=redis) as rest, Lifecycle.running() as lifecycle:
            await rest.worker(A)
            client = await rest.client()
            while (await client.get(f"{PATH}/{'00' * 16}")).status_code != 404:  # until Redis was found fit
                pass
            tls = rest.folder / "tls"
            files = TlsFiles(
                certificate=tls / "certificate.pem", private_key=tls / "key.pem", trust_roots=tls / "roots.pem"
            )
            settings = Settings(
                cluster=pki.cluster,
                listen="127.0.0.1:0",
                verifier=f"127.0.0.1:{rest.feed.port}",
                tls=files,
                grace_s=1.0,
                redis=redis,
            )
            yield Jobs(rest, client, settings, lifecycle)
            lifecycle.stop()


def body(carried: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """A job as JSON has it."""
    made = submission(**({} if carried is None else {"request": carried}))
    fields = {
        "job_id": made.job_id.hex(),
        "request": base64.b64encode(made.request).decode(),
        "not_after_ms": made.not_after_ms,
    }
    return {**fields, **changes}


async def test_a_job_is_submitted_waited_for_and_forgotten(jobs: Jobs) -> None:
    job = body(key="row 1", priority="high")
    answer = await jobs.client.post(PATH, json=job)
    assert (answer.status_code, answer.json()) == (200, {"job_id": job["job_id"], "existed": False})
    assert (await jobs.client.post(PATH, json=job)).json()["existed"]
    place = f"{PATH}/{job['job_id']}"
    shown = (await jobs.client.get(place)).json()
    assert (shown["state"], shown["attempts"]) == ("queued", 0)
    jobs.run()
    ended = (await jobs.client.get(place, params={"wait_ms": 15_000})).json()
    assert (ended["state"], ended["attempts"]) == ("answered", 1)
    response = ModelInferResponse.FromString(base64.b64decode(ended["response"]))
    assert response.raw_output_contents == [b"sealed"]
    assert (await jobs.client.get(place)).json()["state"] == "answered", "a GET forgets nothing"
    forgotten = await jobs.client.post(f"{place}/forget")
    assert (forgotten.status_code, forgotten.json()) == (200, {})
    gone = await jobs.client.get(place)
    assert (gone.status_code, gone.json()["reason"]) == (404, "job.unknown")


async def test_of_several_each_is_accepted_or_refused_for_itself(jobs: Jobs) -> None:
    good, plain = body(), body(infer_request())
    answer = await jobs.client.post(PATH, json={"jobs": [good, plain]})
    assert answer.status_code == 200
    accepted, refused = answer.json()["jobs"]
    assert accepted == {"job_id": good["job_id"], "existed": False}
    assert refused["reason"] == "job.not_sealed"


async def test_what_is_cancelled_says_so(jobs: Jobs) -> None:
    job = body()
    await jobs.client.post(PATH, json=job)
    place = f"{PATH}/{job['job_id']}"
    assert (await jobs.client.delete(place)).json()["state"] == "cancelled"
    assert (await jobs.client.get(place)).json()["state"] == "cancelled"
    unknown = await jobs.client.delete(f"{PATH}/{'ab' * 16}")
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "job.unknown")


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (body(infer_request()), 400, "job.not_sealed"),
        ({"inputs": []}, 400, "job.not_sealed"),
        (body(job_id="00"), 400, "job.id_invalid"),
        (body(job_id="not hexadecimal"), 400, "request.invalid"),
        (body(request="not base64!"), 400, "request.invalid"),
        (body(priority="urgent"), 400, "request.invalid"),
        (body(not_after_ms="soon"), 400, "request.invalid"),
        (body(not_after_ms=1 << 70), 400, "request.invalid"),
        (body(more=1), 400, "request.invalid"),
        ({"jobs": []}, 400, "jobs.too_many"),
        ({"jobs": 1}, 400, "request.invalid"),
        ([], 400, "request.invalid"),
    ],
    ids=[
        "plain",
        "oip",
        "short id",
        "bad id",
        "base64",
        "priority",
        "time",
        "range",
        "unknown",
        "none",
        "no list",
        "list",
    ],
)
async def test_what_cannot_be_kept_is_refused_by_a_reason(jobs: Jobs, sent: Any, status: int, reason: str) -> None:
    answer = await jobs.client.post(PATH, json=sent)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    if reason == "job.not_sealed":
        assert "only sealed jobs" in answer.json()["error"]


@pytest.mark.parametrize("query", ["wait_ms=-1", "wait_ms=x", "wait_ms=99999999999", "forget=1"])
async def test_a_question_without_sense_is_refused(jobs: Jobs, query: str) -> None:
    answer = await jobs.client.get(f"{PATH}/{'00' * 16}?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (400, "request.invalid")
