"""From the bytes of a request to the bytes of its answer: open, check, encode, receipt, seal. Nothing here waits.

Walk 2 of the house, the worker's part. A request that says it is sealed is never answered in clear: what is wrong with
its content is content, and goes back sealed. What fails before it is open goes back as an outer Failure, in the words
of `seal`, which tell a gateway nothing. Answers that leave together share one signature (design section 5).

Which version answers where a sealed job names none, or a label, is the operator's choice, as it is for every client
that leaves it open; the worker takes the gateway's word for it, and the receipt says which one it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.seal_pb2 import ReceiptBody
from cloister.api.v1.worker_pb2 import InferResult
from cloister.errors import InvalidRequest, NotAllowed, NotReady
from cloister.oip.tensors import parse_request
from cloister.seal import envelope, receipt
from cloister.seal.conversation_worker import OpenedChunk
from cloister.seal.job_worker import JobOpener, OpenedJob
from cloister.seal.session import OpenedRequest, WorkerSessions
from cloister.worker.attester import OwnResult
from cloister.worker.clock import MeshClock
from cloister.worker.conversations import Conversations
from cloister.worker.requests import Opened
from cloister.worker.results import Answer, result_of
from cloister.worker.served import ServedModels
from cloister.worker.settings import MAX_MESSAGE_BYTES


class Answers:
    """Opens requests and seals answers, for one worker.

    Args:
        served: The models.
        sessions: Opens what is sealed to this worker.
        jobs: Opens what is sealed to an epoch key.
        clock: The verifier's time, for deadlines and receipts.
        receipt_key: Signs receipts.
        vouched: The Attestation Result that is in force; receipts of jobs name it.
        instance: Of this worker.
        max_message_bytes: Largest request that is opened, and largest answer that is given.
        drop_ended: Drops the key whose time is up, called before anything is opened: after a pause of the process its
            timer may be late.

    Attributes:
        conversations: That it opens, answers and ends.
        max_message_bytes: As given.
    """

    def __init__(
        self,
        served: ServedModels,
        sessions: WorkerSessions,
        jobs: JobOpener,
        clock: MeshClock,
        receipt_key: Ed25519PrivateKey,
        *,
        vouched: Callable[[], OwnResult],
        instance: str,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        drop_ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._served = served
        self._sessions = sessions
        self._jobs = jobs
        self._clock = clock
        self._receipt_key = receipt_key
        self._vouched = vouched
        self.conversations = Conversations(served, clock, receipt_key, instance=instance)
        self._instance = instance
        self.max_message_bytes = max_message_bytes
        self._drop_ended = drop_ended

    def open(self, raw: bytes, version: str = "") -> Opened:
        """Open a serialised ModelInferRequest, sealed or in clear.

        Args:
            raw: The client's bytes.
            version: What the gateway says that a label, or no version, stands for. A request that is sealed to workers
                says for itself.

        Raises:
            CloisterError: It is too large, does not open, or the model is not here; may be told to the gateway.
        """
        self._drop_ended()
        if len(raw) > self.max_message_bytes:
            raise InvalidRequest("the request is larger than this worker takes", reason="message.too_large")
        chunk = self.conversations.open(raw)
        if chunk is not None:
            return self._in_conversation(chunk)
        request = parse_request(raw)
        if envelope.is_job(request):
            return self._job(request, version)
        if envelope.is_sealed(request):
            return self._sealed(request)
        model = self._served.find(request.model_name, version or request.model_version)
        if not model.allow_plain:
            raise NotAllowed("the owner of this model allows sealed requests only", reason="model.sealed_only")
        return Opened(model, request.id, plain=request)

    def _sealed(self, request: ModelInferRequest) -> Opened:
        chunk = self.conversations.open_parsed(request)
        if chunk is not None:
            return self._in_conversation(chunk)
        sealed = self._sessions.open(
            envelope.sealed_request(request), now=self._clock.now(), digest_of=self._served.digest_of
        )
        envelope.check_request(
            request,
            model_name=sealed.model_name,
            model_version=sealed.model_version,
            instances=sealed.recipients,
        )
        found = Opened(self._served.find(sealed.model_name, sealed.model_version), request.id, sealed=sealed)
        if sealed.conversation is not None:
            found.reply = self.conversations.begin(sealed, sealed.conversation, found.model)
        return found

    def _in_conversation(self, chunk: OpenedChunk) -> Opened:
        opened = Opened(self.conversations.model_of(chunk), "", sealed=chunk)
        if chunk.is_last:
            opened.reply = self.conversations.end(chunk)
        return opened

    def _job(self, request: ModelInferRequest, told: str) -> Opened:
        def meant(asked: str) -> str:
            return asked if asked.isdecimal() else told

        job = self._jobs.open(
            envelope.sealed_job(request),
            now=self._clock.now(),
            digest_of=lambda name, asked: self._served.digest_of(name, meant(asked)),
        )
        envelope.check_job(request, model_name=job.model_name, model_version=job.model_version)
        model = self._served.find(job.model_name, meant(job.model_version))
        model.job_epochs.check(job.epoch)
        return Opened(model, request.id, sealed=job)

    def finish(self, answers: Sequence[Answer]) -> list[InferResult]:
        """Make the results of a frame: receipts under one signature, then the seals.

        Nothing leaves of a model whose lease has ended meanwhile (attacks I04).
        """
        now_ms, vouched, bodies = int(self._clock.now().timestamp() * 1000), self._vouched(), []
        for answer in answers:
            self._check_lease(answer)
            body = self._body(answer, now_ms, vouched.ear_id)
            if body is not None:
                bodies.append(body)
        receipts = iter(receipt.issue(bodies, self._receipt_key) if bodies else ())
        return [result_of(answer, receipts, now_ms, vouched) for answer in answers]

    def _check_lease(self, answer: Answer) -> None:
        if answer.opened is not None and answer.response is not None:
            try:
                self._served.check(answer.opened.model)
            except NotReady as error:
                answer.response, answer.error = None, error

    def _body(self, answer: Answer, now_ms: int, ear_id: str) -> ReceiptBody | None:
        """What the receipt of an answer says; None where it has none, or has it at the end of a conversation.

        The receipt of a job names the Attestation Result `ear_id`; any other, the one of the key it was sealed to.
        """
        sealed, opened, response = answer.sealed, answer.opened, answer.response
        if opened is None or response is None or not isinstance(sealed, OpenedRequest | OpenedJob):
            return None
        if isinstance(sealed, OpenedJob):
            request_id, request_sha256 = sealed.job_id, sealed.request_sha256
        else:
            request_id, ear_id = sealed.request_id, sealed.ear_id
            request_sha256 = receipt.content_hash(request_id, sealed.request)
        return ReceiptBody(
            version=receipt.VERSION,
            request_id=request_id,
            request_sha256=request_sha256,
            response_sha256=receipt.content_hash(request_id, response),
            model_name=opened.model.name,
            model_version=opened.model.version,
            model_digest=opened.model.digest,
            policy_digest=opened.model.policy_digest,
            ear_id=ear_id,
            instance=self._instance,
            issued_at_ms=now_ms,
        )
