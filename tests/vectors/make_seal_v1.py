"""Make `seal-v1.json`: sessions, a sealed model and receipts from fixed keys and fixed "random" bytes.

    python tests/vectors/make_seal_v1.py

`session` is as version 1 of sealing has it; `padded_session` as version 2, with padding and the id of the key.
The same bytes come out each time, with one exception: HPKE takes randomness that cannot be handed in, so the opening is
kept from the file that is there, as long as it still opens.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.seal_pb2 import OpenedResponse, ReceiptBody, SealedRequest
from cloister.errors import SealBroken
from cloister.seal import hpke, receipt
from cloister.seal.keys import Secret
from cloister.seal.model_file import seal_model
from cloister.seal.session import ClientSessions, RecipientKey, WorkerSessions
from cloister.seal.session_keys import SEAL_VERSION, VERSION

PATH = Path(__file__).with_name("seal-v1.json")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CLUSTER = "demo.cloister.internal"
INSTANCE = "00112233445566778899aabbccddeeff"
DIGEST = hashlib.sha256(b"model").digest()


@contextmanager
def fixed_randomness(label: str) -> Iterator[None]:
    """Within, `secrets.token_bytes` gives SHAKE128 of a label and a counter."""
    count = 0

    def token_bytes(length: int = 32) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_128(f"{label} {count}".encode()).digest(length)

    with mock.patch("secrets.token_bytes", token_bytes):
        yield


def _session(kept_opening: bytes, seal_version: int = VERSION) -> dict[str, Any]:
    seed = hashlib.sha256(b"worker").digest()
    pair = hpke.KeyPair.from_seed(hpke.XWING, seed)
    client, worker = ClientSessions(CLUSTER), WorkerSessions(pair, CLUSTER, INSTANCE)
    secrets: list[bytes] = []
    vectors: dict[str, Any] = {
        "cluster": CLUSTER,
        "instance": INSTANCE,
        "suite": pair.suite,
        "worker_seed": seed.hex(),
        "key_id": pair.key_id.hex(),
        "model_digest": DIGEST.hex(),
        "now": NOW.isoformat(),
        "exchanges": [],
    }
    with fixed_randomness("session"), mock.patch.object(hpke, "seal", keeping(kept_opening, pair, secrets)):
        for request, answer in ((b"a request", b"an answer"), (b"another request", b"another answer")):
            sealed, pending = client.seal(
                request,
                model_name="resnet",
                model_version="1",
                model_digest=DIGEST,
                not_after=NOW + timedelta(minutes=1),
                recipients=[RecipientKey(INSTANCE, pair.suite, pair.public, seal_version)],
                padded=True,
            )
            opened = worker.open(sealed, now=NOW, digest_of=lambda _name, _version: DIGEST)
            sealed_answer = opened.respond(OpenedResponse(response=answer))
            pending.open(sealed_answer)
            vectors["exchanges"].append(
                {
                    "request": request.hex(),
                    "sealed_request": sealed.hex(),
                    "answer": answer.hex(),
                    "sealed_answer": sealed_answer.hex(),
                }
            )
    first = SealedRequest.FromString(bytes.fromhex(vectors["exchanges"][0]["sealed_request"]))
    return {**vectors, "session_secret": secrets[0].hex(), "opening": first.recipients[0].opening.hex()}


def keeping(kept: bytes, pair: hpke.KeyPair, secrets: list[bytes]) -> Callable[[str, bytes, bytes, bytes], bytes]:
    """A `hpke.seal` that gives `kept` again where it still opens to the same, and notes what was sealed."""
    seal = hpke.seal

    def seal_or_keep(suite: str, public: bytes, plaintext: bytes, info: bytes) -> bytes:
        secrets.append(plaintext)
        try:
            if pair.open(kept, info) == plaintext:
                return kept
        except SealBroken:
            pass  # made for something else: a new one takes its place
        return seal(suite, public, plaintext, info)

    return seal_or_keep


def _model_file() -> dict[str, Any]:
    key = hashlib.sha256(b"model key").digest()
    files = {"model.xml": b"<net/>" * 20, "model.bin": bytes(range(256)) * 20}
    out = io.BytesIO()
    streams = {name: io.BytesIO(content) for name, content in files.items()}
    with fixed_randomness("model"):
        sealed = seal_model(streams, out, Secret(key), name="resnet", version=1, chunk_bytes=4096)
    return {
        "key": key.hex(),
        "name": "resnet",
        "version": 1,
        "files": {name: content.hex() for name, content in files.items()},
        "sealed": out.getvalue().hex(),
        "digest": sealed.digest.hex(),
    }


def _receipts() -> dict[str, Any]:
    seed = hashlib.sha256(b"receipt key").digest()
    key = Ed25519PrivateKey.from_private_bytes(seed)
    bodies = [_body(number) for number in range(3)]
    with fixed_randomness("receipts"):
        issued = receipt.issue(bodies, key)
    return {
        "seed": seed.hex(),
        "public_key": key.public_key().public_bytes_raw().hex(),
        "request": b"a request".hex(),
        "response": b"an answer".hex(),
        "bodies": [body.SerializeToString(deterministic=True).hex() for body in bodies],
        "receipts": [each.SerializeToString(deterministic=True).hex() for each in issued],
    }


def _body(number: int) -> ReceiptBody:
    request_id = hashlib.sha256(bytes([number])).digest()[:16]
    return ReceiptBody(
        version=1,
        request_id=request_id,
        request_sha256=receipt.content_hash(request_id, b"a request"),
        response_sha256=receipt.content_hash(request_id, b"an answer"),
        model_name="resnet",
        model_version="1",
        model_digest=DIGEST,
        policy_digest=hashlib.sha256(b"policy").digest(),
        ear_id=f"ear-{number}",
        instance=INSTANCE,
        issued_at_ms=int(NOW.timestamp() * 1000),
    )


def vectors() -> dict[str, Any]:
    """Return what the file is to hold."""
    before = json.loads(PATH.read_text()) if PATH.exists() else {}
    kept = [bytes.fromhex(before.get(name, {}).get("opening", "")) for name in ("session", "padded_session")]
    return {
        "session": _session(kept[0]),
        "padded_session": _session(kept[1], SEAL_VERSION),
        "model_file": _model_file(),
        "receipt": _receipts(),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
