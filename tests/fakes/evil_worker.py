"""A worker that cheats: genuinely attested, of the code that everybody trusts, and yet under an attacker's control.

No appraisal can tell it from an honest one. What it can get a client to believe is what receipts and seals are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedResponse, ReceiptBody, SealedRequest, SealedResponse
from cloister.seal import envelope, framing, padding, receipt
from cloister.seal import session_keys as keys
from cloister.seal.keys import KEY_BYTES
from fakes.serving import FakeWorker


def honestly(_message: object) -> None:
    """Change nothing."""


@dataclass
class EvilWorker(FakeWorker):
    """Wholly honest until told otherwise.

    Attributes:
        states: Changes the body of each receipt before it is signed.
        signs_with: The key of its receipts; its attested one if None.
        neighbours: Bodies that share the signature.
        shows: Changes an answer once it has its receipt.
        given: The answers that it gave, with their receipts.
    """

    states: Callable[[ReceiptBody], object] = honestly
    signs_with: Ed25519PrivateKey | None = None
    neighbours: Sequence[ReceiptBody] = ()
    shows: Callable[[OpenedResponse], object] = honestly
    given: list[OpenedResponse] = field(default_factory=list)

    def doubled(self, request: bytes, request_id: bytes) -> OpenedResponse:
        answer = super().doubled(request, request_id)
        body = ReceiptBody.FromString(answer.receipt.body)
        self.states(body)
        key = self.signs_with or self.evidence.receipt_key
        answer.receipt.CopyFrom(receipt.issue([body, *self.neighbours], key)[0])
        self.shows(answer)
        self.given.append(answer)
        return answer

    def answer_as(self, other: str, request: ModelInferRequest) -> ModelInferResponse:
        """Answer in the name of another recipient: who can open a request can seal every answer to it."""
        fields, _, ciphertext = framing.split(envelope.sealed_request(request), keys.REQUEST_CIPHERTEXT)
        message = SealedRequest.FromString(fields)
        recipients = {recipient.instance: recipient for recipient in message.recipients}
        honest = self.answer(request)
        known = self.sessions.epochs.find(recipients[self.instance])
        assert known is not None
        both = self.sessions._unwrap(known[1], recipients[self.instance], message.header)
        cipher = keys.response_cipher(both[KEY_BYTES:], other, recipients[other].session_id)
        content = padding.pad(self.given[-1].SerializeToString())
        transcript = keys.transcript(message.header, bytes(ciphertext[-keys.TAG_BYTES :]))
        head = framing.head(
            SealedResponse(instance=other).SerializeToString(),
            keys.RESPONSE_CIPHERTEXT,
            len(content) + keys.TAG_BYTES,
        )
        return envelope.build_response(
            head + cipher.encrypt(keys.ZERO_NONCE, content, transcript + head),
            model_name=honest.model_name,
            model_version=honest.model_version,
            request_id=honest.id,
        )
