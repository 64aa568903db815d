"""What comes back for a job, and what is checked before it is believed.

Whoever looks for an answer may find nobody any more who gave it: worker, lease and epoch may be gone. So the answer
brings all that proves it: the receipt, and the Attestation Result whose key signed that. Nothing is taken from the
gateway but bytes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.message import DecodeError

from cloister import ear
from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.api.v1 import jobs_pb2 as pb
from cloister.api.v1.seal_pb2 import OpenedJobResult, ReceiptBody, ReceiptBundle
from cloister.client.answer import Answer
from cloister.client.receipts import check_issued
from cloister.client.roster import Roster
from cloister.client.trust import MESH_AUDIENCE, MESH_LIFE, check_believable
from cloister.ear import AttestationResult
from cloister.errors import CloisterError, EvidenceRejected, NotFound, NotReady, SealBroken
from cloister.oip.tensors import decode_response, parse_response
from cloister.rpc.status import from_failure
from cloister.seal import envelope, receipt
from cloister.seal.job import JobTicket

_KEPT_RESULTS: Final = 256
_SKEW: Final = timedelta(minutes=5)
"""How far our clock may be ahead of the mesh's."""
_NEWS_S: Final = 10.0
"""How often the verifier's keys are asked for, at most, and for how long."""


class JobAnswers:
    """Opens answers, and remembers whose Attestation Results it has checked.

    Args:
        roster: Says whom to believe, and hears of the verifier's new keys.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._results: OrderedDict[str, AttestationResult] = OrderedDict()
        self._asked_at_s = -_NEWS_S

    async def ended(self, ticket: JobTicket, job: pb.Job) -> Answer | CloisterError | TimeoutError | None:
        """What a job ended with; None while it has not ended.

        An error is the worker's about the request, the gateway's of a dead letter, a cancelled job or one that is not
        there (`job.unknown`), or ours: the answer is not believed.
        """
        outcome = self._ended(ticket, job)
        if isinstance(outcome, EvidenceRejected) and outcome.reason == "token.key_unknown" and self._may_ask():
            with suppress(CloisterError, TimeoutError):  # the verifier may have a key by now that we have not seen
                await self._roster.offered(ticket.model_name, "", _NEWS_S)
            return self._ended(ticket, job)
        return outcome

    def _may_ask(self) -> bool:
        before_s, self._asked_at_s = self._asked_at_s, time.monotonic()
        return self._asked_at_s - before_s >= _NEWS_S

    def _ended(self, ticket: JobTicket, job: pb.Job) -> Answer | CloisterError | TimeoutError | None:
        if job.state in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING):
            return None
        if job.state == pb.JOB_STATE_CANCELLED:
            return NotReady("the job was cancelled", reason="job.cancelled")
        if job.state == pb.JOB_STATE_ANSWERED and not job.HasField("failure"):
            try:
                return self.opened(ticket, job.response)
            except (CloisterError, TimeoutError) as error:
                return error
        if job.HasField("failure"):
            return from_failure(job.failure)
        return NotFound(
            "there is no such job: never submitted by this identity, or kept no longer", reason="job.unknown"
        )

    def opened(self, ticket: JobTicket, response: bytes) -> Answer:
        """Open the answer to a job, and check its receipt.

        Args:
            ticket: Of the job.
            response: Serialised ModelInferResponse, as the gateway kept it.

        Raises:
            SealBroken: It is not an enclave's answer to this job.
            EvidenceRejected: The enclave that answered is not one that this client believes, or it answered before
                there was anything to answer (`receipt.untimely`).
            CloisterError: What the worker answered in place of outputs.
        """
        try:
            message = ModelInferResponse.FromString(response)
        except DecodeError:
            raise SealBroken from None
        named = {"model_name": ticket.model_name, "model_version": ticket.model_version}
        result = ticket.open(envelope.sealed_job_result(message, **named))
        if result.WhichOneof("outcome") == "failure":
            raise from_failure(result.failure)
        issued_at = _issued_at(result)
        _check_later(ticket, issued_at)
        attested = self._believed(result.attestation_result, issued_at)
        body = _proven(ticket, result, attested)
        check_issued(body, attested)
        return Answer(
            outputs=decode_response(parse_response(result.response)),
            model_name=body.model_name,
            model_version=body.model_version,
            carried=b"",
            attestation=attested,
            proof=lambda: _bundle(ticket, result),
        )

    def _believed(self, token: str, issued_at: datetime) -> AttestationResult:
        """The Attestation Result that came along: by the verifier we know, of a worker that we would have sealed to."""
        known = self._results.get(token)
        if known is None:
            trust = self._roster.trust
            known = ear.check(
                token,
                trust.keys(),
                issuer=trust.verifier_id,
                audience=MESH_AUDIENCE,
                now=issued_at,
                max_life=MESH_LIFE,
            )
            check_believable(known, trust)
            self._results[token] = known
            if len(self._results) > _KEPT_RESULTS:
                self._results.popitem(last=False)
        return known


def _proven(ticket: JobTicket, result: OpenedJobResult, attested: AttestationResult) -> ReceiptBody:
    body = receipt.verify(result.receipt, attested.receipt_key)
    response_sha256 = receipt.content_hash(ticket.job_id, result.response)
    stated = (body.request_id, body.request_sha256, body.response_sha256, body.instance, body.ear_id, body.model_name)
    meant = (
        ticket.job_id,
        ticket.request_sha256,
        response_sha256,
        attested.instance,
        attested.ear_id,
        ticket.model_name,
    )
    if stated != meant:
        raise SealBroken
    if ticket.model_version.isdecimal() and body.model_version != ticket.model_version:
        raise SealBroken
    if ticket.model_digest and body.model_digest != ticket.model_digest:
        raise SealBroken
    return body


def _bundle(ticket: JobTicket, result: OpenedJobResult) -> ReceiptBundle:
    if not ticket.request:
        raise NotReady(
            "the ticket was kept without the request, which a receipt proves as well", reason="receipt.request_unknown"
        )
    return ReceiptBundle(
        receipt=result.receipt,
        request=ticket.request,
        response=result.response,
        attestation_result=result.attestation_result,
    )


def _check_later(ticket: JobTicket, issued_at: datetime) -> None:
    """Check that an answer is not older than its job: nobody may date it back to when he was still believed."""
    if issued_at < ticket.sealed_at - _SKEW:
        raise EvidenceRejected("the answer is dated before its job was sealed", reason="receipt.untimely")


def _issued_at(result: OpenedJobResult) -> datetime:
    """When the enclave says it answered: what an Attestation Result must have held at, long ago as it may be."""
    try:
        body = ReceiptBody.FromString(result.receipt.body)
        return datetime.fromtimestamp(body.issued_at_ms / 1000, UTC)
    except (DecodeError, ValueError, OverflowError, OSError) as error:
        raise EvidenceRejected("the receipt says no time", reason="receipt.malformed") from error
