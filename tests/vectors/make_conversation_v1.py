"""Make `conversation-v1.json`: conversations from opening to receipts, from fixed keys and "random" bytes.

`unpadded` is as the header leaves it, `padded` as it is with padding.

    python tests/vectors/make_conversation_v1.py

The same bytes come out each time; the HPKE opening is kept from the file that is there, as in `make_seal_v1`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.seal_pb2 import ConversationTerms, OpenedResponse, SealedRequest
from cloister.seal import hpke
from cloister.seal.conversation import ConversationKeys, Subject
from cloister.seal.conversation_client import ClientConversation
from cloister.seal.conversation_worker import WorkerConversation, WorkerConversations
from cloister.seal.session import ClientSessions, OpenedRequest, PendingResponse, RecipientKey, WorkerSessions
from cloister.seal.session_keys import SEAL_VERSION
from vectors.make_seal_v1 import CLUSTER, DIGEST, INSTANCE, NOW, fixed_randomness, keeping

PATH = Path(__file__).with_name("conversation-v1.json")
TERMS = ConversationTerms(policy_digest=hashlib.sha256(b"policy").digest(), ear_id="ear-0", most_requests=4096)
ISSUED_AT_MS = int(NOW.timestamp() * 1000)
ASKED = (b"a request", b"refused by a gateway", b"another request")


def vectors() -> dict[str, Any]:
    """Return what the file is to hold."""
    before = json.loads(PATH.read_text()) if PATH.exists() else {}
    kept = {name: bytes.fromhex(before.get(name, {}).get("opening", "")) for name in ("unpadded", "padded")}
    return {name: _whole(opening, padded=name == "padded") for name, opening in kept.items()}


def _whole(kept: bytes, *, padded: bool) -> dict[str, Any]:
    pair = hpke.KeyPair.from_seed(hpke.XWING, hashlib.sha256(b"worker").digest())
    secrets: list[bytes] = []
    derived: list[tuple[bytes, ...]] = []
    derive = ConversationKeys.derive

    def noting(*given: Any, padded: bool) -> ConversationKeys:
        derived.append(given)
        return derive(*given, padded=padded)

    with (
        fixed_randomness("conversation"),
        mock.patch.object(hpke, "seal", keeping(kept, pair, secrets)),
        mock.patch.object(ConversationKeys, "derive", noting),
    ):
        sealed, pending = _opening(pair, padded=padded)
        opened = WorkerSessions(pair, CLUSTER, INSTANCE).open(sealed, now=NOW, digest_of=lambda *_: DIGEST)
        found = _conversation(opened, pending)
    seed, _, session_id, transcript = derived[0]
    return {
        "cluster": CLUSTER,
        "instance": INSTANCE,
        "suite": pair.suite,
        "worker_seed": hashlib.sha256(b"worker").hexdigest(),
        "model_digest": DIGEST.hex(),
        "now": NOW.isoformat(),
        "opening": SealedRequest.FromString(sealed).recipients[0].opening.hex(),
        "session_secret": secrets[0].hex(),
        "sealed_request": sealed.hex(),
        "response_seed": seed.hex(),
        "session_id": session_id.hex(),
        "transcript": transcript.hex(),
        **found,
    }


def _opening(pair: hpke.KeyPair, *, padded: bool) -> tuple[bytes, PendingResponse]:
    return ClientSessions(CLUSTER).seal(
        b"",
        model_name="resnet",
        model_version="1",
        model_digest=DIGEST,
        not_after=NOW + timedelta(minutes=9),
        recipients=[RecipientKey(INSTANCE, pair.suite, pair.public, SEAL_VERSION)],
        conversation=True,
        padded=padded,
    )


def _conversation(opened: OpenedRequest, pending: PendingResponse) -> dict[str, Any]:
    assert opened.conversation is not None
    sealed_answer = opened.respond(OpenedResponse(terms=TERMS))
    assert pending.open(sealed_answer).terms == TERMS
    subject = Subject(opened.request_id, INSTANCE, "resnet", "1", DIGEST)
    held = WorkerConversations()
    theirs = WorkerConversation(opened.conversation, subject, TERMS, session_id=opened.session_id, ends_at_s=1.0)
    held.add(theirs, 0.0)
    ours = ClientConversation(pending.conversation_keys(INSTANCE), subject, TERMS)
    exchanges, kept = [], []
    for request in ASKED:
        at, envelope = ours.seal(request)
        exchange = {"place": at.hex(), "request": request.hex(), "envelope": envelope.hex()}
        if request != ASKED[1]:
            chunk = held.open(envelope, 0.0)
            assert chunk is not None
            answer = theirs.answer(chunk, b"answer to " + request, ISSUED_AT_MS)
            message = ours.open(at, request, answer)
            kept.append((at, request, message))
            exchange |= {"response": message.response.hex(), "answer_envelope": answer.hex()}
        exchanges.append(exchange)
    return {
        "conversation_id": subject.conversation_id.hex(),
        "sealed_answer": sealed_answer.hex(),
        "terms": TERMS.SerializeToString(deterministic=True).hex(),
        "exchanges": exchanges,
        **_ended(ours, held, kept),
    }


def _ended(
    ours: ClientConversation, held: WorkerConversations, kept: list[tuple[bytes, bytes, OpenedResponse]]
) -> dict[str, Any]:
    seed = hashlib.sha256(b"receipt key").digest()
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes_raw()
    at, envelope = ours.close()
    chunk = held.open(envelope, 0.0)
    assert chunk is not None
    end = chunk.conversation.seal(chunk, held.end(chunk, key))
    ours.finish(at, end, public)
    return {
        "close": {"place": at.hex(), "envelope": envelope.hex()},
        "end_envelope": end.hex(),
        "receipt_seed": seed.hex(),
        "receipt_public_key": public.hex(),
        "receipts": [ours.receipt(*each).SerializeToString(deterministic=True).hex() for each in kept],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
