"""Make `job-v1.json`: jobs from sealing to receipts, from fixed keys and "random" bytes.

    PYTHONPATH=tests python -m vectors.make_job_v1

One client seals four jobs to one epoch key; the first is answered twice, the last without the Attestation Result that
its ticket has. The same bytes come out each time; the HPKE opening is kept from the file that is there, as in
`make_seal_v1`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.seal_pb2 import OpenedJobResult, ReceiptBody, SealedJob
from cloister.api.v1.worker_pb2 import Failure
from cloister.seal import envelope, hpke, job_keys, receipt
from cloister.seal.job import JobKey, JobOpener, JobSealer, JobTicket, OpenedJob
from cloister.seal.keys import Secret, expand
from vectors.make_seal_v1 import CLUSTER, DIGEST, INSTANCE, NOW, fixed_randomness, keeping

PATH = Path(__file__).with_name("job-v1.json")
EPOCH = 7
SEED = hashlib.sha256(b"epoch").digest()
RECEIPT_SEED = hashlib.sha256(b"receipt key").digest()
TOKEN = "the Attestation Result"
FAILURE = Failure(error="InvalidRequest", reason="request.invalid", message="tensor 'x': shape")
JOBS: tuple[dict[str, Any], ...] = (
    {"request": b"a job", "padded": False},
    {"request": b"a padded job", "padded": True, "model_version": "1", "model_digest": DIGEST},
    {"request": b"a job that does not fit", "padded": True, "model_version": "stable"},
    {"request": b"a job by who knows its worker", "padded": True, "known": {"ear-other": "another", "ear-0": TOKEN}},
)


def vectors() -> dict[str, Any]:
    """Return what the file is to hold."""
    pair = hpke.KeyPair.from_seed(hpke.XWING, SEED)
    kept = bytes.fromhex(json.loads(PATH.read_text())["opening"]) if PATH.exists() else b""
    secrets: list[bytes] = []
    with fixed_randomness("job"), mock.patch.object(hpke, "seal", keeping(kept, pair, secrets)):
        jobs = _jobs(pair)
    message = SealedJob.FromString(bytes.fromhex(jobs[0]["sealed_job"]))
    info = job_keys.opening_info(CLUSTER, "resnet", EPOCH, pair.key_id, message.session_id)
    wrapping = expand(Secret(secrets[0]), b"cloister job wrap v1" + message.session_id)
    return {
        "cluster": CLUSTER,
        "instance": INSTANCE,
        "model_name": "resnet",
        "epoch": EPOCH,
        "suite": pair.suite,
        "epoch_seed": SEED.hex(),
        "key_id": pair.key_id.hex(),
        "now": NOW.isoformat(),
        "session_id": message.session_id.hex(),
        "session_secret": secrets[0].hex(),
        "opening_info": info.hex(),
        "opening": message.opening.hex(),
        "wrapping_key": wrapping.reveal().hex(),
        "receipt_seed": RECEIPT_SEED.hex(),
        "jobs": jobs,
    }


def _jobs(pair: hpke.KeyPair) -> list[dict[str, Any]]:
    ends = NOW + timedelta(days=2)
    key = JobKey(
        model_name="resnet", epoch=EPOCH, suite=pair.suite, public=pair.public, seal_until=ends, open_until=ends
    )
    sealer, opener = JobSealer(CLUSTER), JobOpener(lambda *_: pair, CLUSTER)
    found = []
    for number, given in enumerate(JOBS):
        sealed, ticket = sealer.seal(epoch=key, not_after=NOW + timedelta(days=1), now=NOW, **given)
        job = opener.open(sealed, now=NOW, digest_of=lambda *_: DIGEST)
        answers = [_answer(ticket, job, number) for _ in range(2 if number == 0 else 1)]
        found.append({**_steps(sealed, ticket, job), "answers": answers})
    return found


def _steps(sealed: bytes, ticket: JobTicket, job: OpenedJob) -> dict[str, Any]:
    message = SealedJob.FromString(sealed)
    carried = envelope.build_job(sealed, model_name=job.model_name, model_version=job.model_version)
    return {
        "request": job.request.hex(),
        "padded": ticket.padded,
        "header": message.header.hex(),
        "wrapping_nonce": job_keys.wrapping_nonce(job.job_id).hex(),
        "wrapping_aad": job_keys.wrapping_aad(message.header, message.session_id).hex(),
        "wrapped_keys": message.wrapped_keys.hex(),
        "sealed_job": sealed.hex(),
        "envelope": carried.SerializeToString(deterministic=True).hex(),
        "answer_seed": ticket._seed.reveal().hex(),
        "transcript": ticket._transcript.hex(),
        "ticket": ticket.to_bytes().hex(),
    }


def _answer(ticket: JobTicket, job: OpenedJob, number: int) -> dict[str, Any]:
    result = OpenedJobResult(failure=FAILURE) if number == 2 else _response(job)
    whole = OpenedJobResult.FromString(result.SerializeToString())
    if job.known_results:
        result.known_result = job.known_results.index("ear-0") + 1
        result.ClearField("attestation_result")
    sealed = job.respond(result)
    if ticket.open(sealed) != whole:
        raise ValueError("the answer does not open")
    carried = envelope.build_job_result(sealed, model_name=job.model_name, model_version=job.model_version)
    return {
        "opened": result.SerializeToString(deterministic=True).hex(),
        "sealed_result": sealed.hex(),
        "envelope": carried.SerializeToString(deterministic=True).hex(),
    }


def _response(job: OpenedJob) -> OpenedJobResult:
    response = b"answer to " + job.request
    body = ReceiptBody(
        version=receipt.VERSION,
        request_id=job.job_id,
        request_sha256=job.request_sha256,
        response_sha256=receipt.content_hash(job.job_id, response),
        model_name=job.model_name,
        model_version="1",
        model_digest=DIGEST,
        policy_digest=hashlib.sha256(b"policy").digest(),
        ear_id="ear-0",
        instance=INSTANCE,
        issued_at_ms=int(NOW.timestamp() * 1000),
    )
    (proof,) = receipt.issue([body], Ed25519PrivateKey.from_private_bytes(RECEIPT_SEED))
    return OpenedJobResult(response=response, receipt=proof, attestation_result=TOKEN)


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
