"""One sealed request and its answer: to whom it is sealed, and what is checked before the answer is believed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import Receipt, ReceiptBody, ReceiptBundle, SealedResponse
from cloister.client.answer import Answer
from cloister.client.trust import VerifiedWorker
from cloister.errors import InvalidRequest, NotFound, SealBroken
from cloister.oip.tensors import decode_response, parse_response
from cloister.rpc.status import from_failure
from cloister.seal import envelope, receipt
from cloister.seal.session import ClientSessions, PendingResponse

MAX_RECIPIENTS: Final = 4
DIGEST_BYTES: Final = 32
MAX_LIFE_S: Final = 590.0  # a worker refuses what is valid for more than ten minutes


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that is the one to our request, by the model we meant, from an enclave that we believe.

    Attributes:
        response: Serialised ModelInferResponse.
        body: Of its receipt, which holds under the worker's attested key.
    """

    response: bytes
    receipt: Receipt
    body: ReceiptBody
    worker: VerifiedWorker


@dataclass(frozen=True, slots=True)
class Sent:
    """A sealed request, and what is needed to believe its answer."""

    envelope: ModelInferRequest
    pending: PendingResponse
    request: bytes
    workers: Mapping[str, VerifiedWorker]
    model_name: str
    model_version: str
    model_digest: bytes

    def forget_sessions(self) -> None:
        """A worker does not know its session any more: open new ones with all it was sealed to."""
        for instance in self.workers:
            self.pending.forget(instance)

    def opened(self, response: ModelInferResponse) -> Opened:
        """Open the answer, and check its receipt.

        Raises:
            SealBroken: It is not the answer of one of the workers to this request, or its receipt does not hold.
            CloisterError: What the worker answered in place of outputs.
        """
        sealed = envelope.sealed_response(response)
        if response != self._expected(sealed):
            raise SealBroken
        answer = self.pending.open(sealed)
        worker = self.workers[SealedResponse.FromString(sealed).instance]
        if answer.WhichOneof("outcome") == "failure":
            raise from_failure(answer.failure)
        body = receipt.verify(answer.receipt, worker.result.receipt_key)
        receipt.verify_content(body, request=self.request, response=answer.response)
        stated = (body.request_id, body.instance, body.model_name, body.model_version, body.model_digest)
        meant = (self.pending.request_id, worker.instance, self.model_name, self.model_version, self.model_digest)
        if stated != meant:
            raise SealBroken
        return Opened(answer.response, answer.receipt, body, worker)

    def _expected(self, sealed: bytes) -> ModelInferResponse:
        """The one envelope that may be around an answer: nothing in it is left to who carries it."""
        asked = self.envelope
        return envelope.build_response(
            sealed, model_name=asked.model_name, model_version=asked.model_version, request_id=asked.id
        )

    def answer(self, opened: Opened, worker: VerifiedWorker) -> Answer:
        """Make the answer; `worker` is the one that answered, with the Attestation Result its receipt names."""
        response = parse_response(opened.response)
        kept = ReceiptBundle(
            receipt=opened.receipt,
            request=self.request,
            response=opened.response,
            attestation_result=worker.token,
        )
        return Answer(
            outputs=decode_response(response),
            model_name=opened.body.model_name,
            model_version=opened.body.model_version,
            carried=self.envelope,
            worker=worker,
            proof=lambda: kept,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """One version of a model, and the believed workers that serve it."""

    model_name: str
    model_version: str
    model_digest: bytes
    workers: Sequence[VerifiedWorker]


def target(model_name: str, believed: Sequence[VerifiedWorker], *, version: str, digest: bytes | None) -> Target:
    """Choose what to ask: the highest version that a believed worker serves, of those that were asked for.

    Args:
        model_name: The model that the workers serve.
        believed: At least one.
        version: The only version that may answer. Empty, or a label, for any: what that stands for the gateway says by
            whom it lists, and it is the operator's to say.
        digest: The only digest that may answer; None for any. With a version, both must fit.

    Raises:
        InvalidRequest: The digest is none.
        NotFound: No believed worker serves what was asked for; nothing else answers in its place.
    """
    if digest is not None and not (isinstance(digest, bytes) and len(digest) == DIGEST_BYTES):
        raise InvalidRequest("a digest is 32 bytes; bytes.fromhex(...) makes them of the 64 digits that are shown")
    pinned = version if version.isdecimal() else ""
    fitting = [each for each in believed if pinned in ("", each.model_version) and digest in (None, each.model_digest)]
    if not fitting:
        wanted = f"{model_name}@{version}" if version else model_name
        with_digest = " with the digest that was asked for" if digest is not None else ""
        raise NotFound(f"no worker that is believed serves '{wanted}'{with_digest}", reason="model.unknown")
    best = max(fitting, key=_version)
    chosen = (best.model_version, best.model_digest)
    workers = [each for each in fitting if (each.model_version, each.model_digest) == chosen]
    return Target(model_name, best.model_version, best.model_digest, workers)


def sealed_to(aim: Target, request: bytes, sessions: ClientSessions, timeout_s: float, *, padded: bool = True) -> Sent:
    """Seal a serialised ModelInferRequest to some of the workers that may answer it.

    Args:
        aim: Which model, and who serves it.
        request: What only they may read.
        sessions: Of this client.
        timeout_s: How long anybody may still be interested.
        padded: Whether to hide lengths, where the workers can.
    """
    count = min(len(aim.workers), MAX_RECIPIENTS)
    chosen = random.sample(aim.workers, count)  # spreads load, hides nothing
    sealed, pending = sessions.seal(
        request,
        model_name=aim.model_name,
        model_version=aim.model_version,
        model_digest=aim.model_digest,
        not_after=datetime.now(UTC) + timedelta(seconds=min(timeout_s, MAX_LIFE_S)),
        recipients=[worker.recipient for worker in chosen],
        padded=padded,
    )
    workers = {worker.instance: worker for worker in chosen}
    message = envelope.build_request(
        sealed, model_name=aim.model_name, model_version=aim.model_version, instances=list(workers)
    )
    return Sent(message, pending, request, workers, aim.model_name, aim.model_version, aim.model_digest)


def _version(worker: VerifiedWorker) -> int:
    return worker.model.version
