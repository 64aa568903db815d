"""Requests of one client to two workers, and their answers, from fixed randomness: parts of `exchange-*.json`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedResponse, Receipt, ReceiptBody, SealedRequest, SealedResponse
from cloister.errors import SealBroken
from cloister.seal import envelope, framing, hpke, padding, receipt
from cloister.seal import session_keys as keys
from cloister.seal.keys import Secret, expand
from cloister.seal.session import ClientSessions, PendingResponse, RecipientKey
from vectors import world
from vectors.make_seal_v1 import fixed_randomness
from vectors.world import CLUSTER, MODEL, MODEL_DIGEST, NOW, VERSION, Worker

WORKERS = (world.XWING, world.X25519)
NOT_AFTER = NOW + timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as its client knows it.

    Attributes:
        plain: Serialised ModelInferRequest.
        carried: Its envelope.
        pending: Opens the answer.
        steps: Every value between the two, in hex.
    """

    plain: bytes
    carried: ModelInferRequest
    pending: PendingResponse
    steps: dict[str, Any]

    def session_id(self, worker: Worker) -> bytes:
        """Of the session with one of the workers."""
        found = next(each for each in self.steps["recipients"] if each["instance"] == worker.instance)
        return bytes.fromhex(found["session_id"])

    def response_key(self, worker: Worker) -> bytes:
        """What that worker's answer is sealed with."""
        info = b"cloister response v1" + worker.instance.encode() + self.session_id(worker)
        return expand(Secret(bytes.fromhex(self.steps["response_seed"])), info).reveal()


class Asking:
    """A client with a session to each worker.

    Args:
        kept: Openings by instance, used again while they still open.
        seal_version: What the workers speak; from 2 on, requests and answers are padded and keys are named.
    """

    def __init__(self, kept: Mapping[str, str], seal_version: int = 1) -> None:
        self._kept = kept
        self._seal_version = seal_version
        self._secrets: dict[str, bytes] = {}
        self.openings: dict[str, str] = {}
        self._client = ClientSessions(CLUSTER)

    def ask(self, number: int) -> Asked:
        """Seal request `number` to both workers."""
        plain = question(number).SerializeToString()
        with fixed_randomness(f"exchange {number}"), mock.patch.object(hpke, "seal", self._open_session):
            sealed, pending = self._client.seal(
                plain,
                model_name=MODEL,
                model_version=VERSION,
                model_digest=MODEL_DIGEST,
                not_after=NOT_AFTER,
                recipients=[
                    RecipientKey(each.instance, each.pair.suite, each.pair.public, self._seal_version)
                    for each in WORKERS
                ],
                padded=self._seal_version > 1,
            )
        carried = envelope.build_request(
            sealed,
            model_name=MODEL,
            model_version=VERSION,
            instances=[each.instance for each in WORKERS],
            request_id=f"question {number}",
        )
        return Asked(plain, carried, pending, self._steps(plain, sealed, carried))

    def _open_session(self, suite: str, public: bytes, secret: bytes, info: bytes) -> bytes:
        worker = next(each for each in WORKERS if each.pair.public == public)
        self._secrets[worker.instance] = secret
        opening = bytes.fromhex(self._kept.get(worker.instance, ""))
        try:
            if worker.pair.open(opening, info) != secret:
                raise SealBroken
        except SealBroken:
            opening = _seal(suite, public, secret, info)
        self.openings[worker.instance] = opening.hex()
        return opening

    def _steps(self, plain: bytes, sealed: bytes, carried: ModelInferRequest) -> dict[str, Any]:
        message = SealedRequest.FromString(sealed)
        _, head, ciphertext = framing.split(sealed, keys.REQUEST_CIPHERTEXT)
        tag = bytes(ciphertext[-keys.TAG_BYTES :])
        both = self._unwrapped(message)
        return {
            "request": plain.hex(),
            "request_key": both[:32].hex(),
            "response_seed": both[32:].hex(),
            "header": message.header.hex(),
            "recipients": [self._recipient(each, message.header) for each in message.recipients],
            "head": head.hex(),
            "tag": tag.hex(),
            "sealed_request": sealed.hex(),
            "envelope": carried.SerializeToString(deterministic=True).hex(),
            "transcript": keys.transcript(message.header, tag).hex(),
        }

    def _unwrapped(self, message: SealedRequest) -> bytes:
        first = message.recipients[0]
        wrapping = keys.wrapping_cipher(Secret(self._secrets[first.instance]), first.session_id)
        aad = keys.wrapping_aad(message.header, first.instance, first.session_id)
        return wrapping.decrypt(keys.wrapping_nonce(first.sequence), first.wrapped_keys, aad)

    def _recipient(self, recipient: Any, header: bytes) -> dict[str, Any]:
        secret = Secret(self._secrets[recipient.instance])
        return {
            "instance": recipient.instance,
            "session_id": recipient.session_id.hex(),
            "session_secret": secret.reveal().hex(),
            "opening_info": keys.opening_info(CLUSTER, recipient.instance, recipient.session_id).hex(),
            "opening": recipient.opening.hex(),
            "wrapping_key": expand(secret, b"cloister wrap v1" + recipient.session_id).reveal().hex(),
            "sequence": recipient.sequence,
            "wrapping_nonce": keys.wrapping_nonce(recipient.sequence).hex(),
            "wrapping_aad": keys.wrapping_aad(header, recipient.instance, recipient.session_id).hex(),
            "wrapped_keys": recipient.wrapped_keys.hex(),
            "key_id": recipient.key_id.hex(),
        }


_seal = hpke.seal


def question(number: int) -> ModelInferRequest:
    """What is asked: one FP32 tensor of one row."""
    request = ModelInferRequest(model_name=MODEL, model_version=VERSION, id=f"inner {number}")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(struct.pack("<4f", 0.0, 1.0, -2.5, 3.25))
    return request


def reply(number: int) -> bytes:
    """What is answered."""
    response = ModelInferResponse(model_name=MODEL, model_version=VERSION, id=f"inner {number}")
    response.outputs.add(name="y", datatype="FP32", shape=[1, 2])
    response.raw_output_contents.append(struct.pack("<2f", 0.5, 0.25))
    return response.SerializeToString()


def proof(worker: Worker, asked: Asked, response: bytes, **changes: Any) -> Receipt:
    """A receipt of one answer, alone in its batch, by one worker's key; `changes` are to its body."""
    request_id = changes.pop("request_id", asked.pending.request_id)
    fields = {
        "version": receipt.VERSION,
        "request_sha256": receipt.content_hash(request_id, asked.plain),
        "response_sha256": receipt.content_hash(request_id, response),
        "model_name": MODEL,
        "model_version": VERSION,
        "model_digest": MODEL_DIGEST,
        "policy_digest": world.POLICY_DIGEST,
        "ear_id": worker.ear_id,
        "instance": worker.instance,
        "issued_at_ms": int(NOW.timestamp() * 1000),
    }
    (made,) = receipt.issue([ReceiptBody(request_id=request_id, **(fields | changes))], worker.receipt)
    return made


def good(worker: Worker, asked: Asked, number: int) -> OpenedResponse:
    """An answer with its receipt."""
    response = reply(number)
    return OpenedResponse(response=response, receipt=proof(worker, asked, response))


def sealed_answer(worker: Worker, asked: Asked, opened: OpenedResponse) -> bytes:
    """What a worker sends back: a serialised SealedResponse, padded if the request is."""
    content = opened.SerializeToString()
    return sealed_plaintext(worker, asked, padding.pad(content) if asked.pending.padded else content)


def sealed_plaintext(worker: Worker, asked: Asked, plaintext: bytes) -> bytes:
    """The same of any plaintext."""
    fields = SealedResponse(instance=worker.instance).SerializeToString()
    head = framing.head(fields, keys.RESPONSE_CIPHERTEXT, len(plaintext) + keys.TAG_BYTES)
    cipher = keys.request_cipher(asked.response_key(worker))
    return head + cipher.encrypt(keys.ZERO_NONCE, plaintext, bytes.fromhex(asked.steps["transcript"]) + head)


def carried_back(sealed: bytes, asked: Asked) -> ModelInferResponse:
    """A sealed answer in its envelope."""
    return envelope.build_response(sealed, model_name=MODEL, model_version=VERSION, request_id=asked.carried.id)
