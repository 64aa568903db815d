"""Make `receipts-v1.json`: receipts of batches of one to nine answers, broken ones, and receipts as clients keep them.

    PYTHONPATH=tests python -m vectors.make_receipts_v1

The same bytes come out each time. The key is that of the X25519 worker in `exchange-v1.json`, whose Attestation Result
and trust bundle are those of `ear-v1.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from cloister.api.v1.seal_pb2 import Receipt, ReceiptBody, ReceiptBundle
from cloister.ear.result import to_claims
from cloister.seal import receipt
from cloister.seal.hpke import context
from cloister.tlog import merkle
from vectors import world
from vectors.exchange import question, reply
from vectors.make_ear_v1 import token
from vectors.make_seal_v1 import fixed_randomness
from vectors.world import MODEL, MODEL_DIGEST, NOW, VERSION, X25519

PATH = world.FOLDER / "receipts-v1.json"
BATCHES = (1, 2, 3, 4, 5, 9)
LABEL = "cloister receipts v1"
REQUEST, RESPONSE = question(0).SerializeToString(), reply(0)


def body(number: int, **changes: Any) -> ReceiptBody:
    """Of answer `number` of a batch."""
    request_id = world.digest(f"request {number}")[:16]
    fields: dict[str, Any] = {
        "version": receipt.VERSION,
        "request_id": request_id,
        "request_sha256": receipt.content_hash(request_id, REQUEST),
        "response_sha256": receipt.content_hash(request_id, RESPONSE),
        "model_name": MODEL,
        "model_version": VERSION,
        "model_digest": MODEL_DIGEST,
        "policy_digest": world.POLICY_DIGEST,
        "ear_id": X25519.ear_id,
        "instance": X25519.instance,
        "issued_at_ms": int(NOW.timestamp() * 1000),
    }
    return ReceiptBody(**(fields | changes))


def batch(count: int) -> list[Receipt]:
    """Receipts of so many answers under one signature."""
    with fixed_randomness(f"receipts {count}"):
        return receipt.issue([body(number) for number in range(count)], X25519.receipt)


def _shown(count: int) -> dict[str, Any]:
    issued = batch(count)
    head = merkle.root_of_path(
        merkle.leaf_hash(issued[0].body), issued[0].leaf_index, issued[0].tree_size, issued[0].path
    )
    return {
        "tree_size": issued[0].tree_size,
        "head": head.hex(),
        "signed": context(LABEL, issued[0].tree_size, head).hex(),
        "signature": issued[0].signature.hex(),
        "receipts": [
            {
                "leaf_index": each.leaf_index,
                "leaf": merkle.leaf_hash(each.body).hex(),
                "path": [sibling.hex() for sibling in each.path],
                "receipt": each.SerializeToString(deterministic=True).hex(),
            }
            for each in issued
        ],
    }


def _changed(**changes: Any) -> Receipt:
    """The third of five, with other fields."""
    sound = batch(5)[2]
    fields = {descriptor.name: value for descriptor, value in sound.ListFields()}
    return Receipt(**(fields | changes))


def _broken() -> Iterator[tuple[str, bytes]]:
    sound = batch(5)[2]
    path = list(sound.path)
    other = [bytes([path[0][0] ^ 1]) + path[0][1:], *path[1:]]
    made = {
        "another leaf": _changed(leaf_index=sound.leaf_index + 1),
        "a leaf beyond the tree": _changed(leaf_index=sound.tree_size),
        "another size": _changed(tree_size=sound.tree_size + 2),
        "no size": _changed(tree_size=0),
        "a size beyond 65536": _changed(tree_size=(1 << 16) + 1),
        "a bit of the path": _changed(path=other),
        "a path cut short": _changed(path=path[:-1]),
        "a path too long": _changed(path=[*path, bytes(32)]),
        "a hash of 31 bytes in the path": _changed(path=[path[0][:31], *path[1:]]),
        "the path in another order": _changed(path=path[::-1]),
        "no path": _changed(path=[]),
        "a bit of the signature": _changed(signature=bytes([sound.signature[0] ^ 1]) + sound.signature[1:]),
        "no signature": _changed(signature=b""),
        "a signature of the head alone": _changed(signature=X25519.receipt.sign(_head(sound))),
        "another key's signature": _changed(signature=world.XWING.receipt.sign(_signed(sound))),
        "another body": _changed(body=body(1).SerializeToString(deterministic=True)),
        "an empty body": _changed(body=b""),
        "a body of another form, signed": _alone(version=2),
    }
    yield from ((name, each.SerializeToString(deterministic=True)) for name, each in made.items())
    yield "a field that nobody knows", sound.SerializeToString(deterministic=True) + b"\x32\x01x"


def _alone(**changes: Any) -> Receipt:
    (made,) = receipt.issue([body(0, **changes)], X25519.receipt)
    return made


def _head(sound: Receipt) -> bytes:
    return merkle.root_of_path(merkle.leaf_hash(sound.body), sound.leaf_index, sound.tree_size, sound.path)


def _signed(sound: Receipt) -> bytes:
    return context(LABEL, sound.tree_size, _head(sound))


def _kept() -> Iterator[tuple[str, ReceiptBundle, str | None]]:
    """Receipts as a client keeps them, to be checked against the trust bundle of `ear-v1.json` alone."""

    def keeps(proof: Receipt, **changes: Any) -> ReceiptBundle:
        fields = {"request": REQUEST, "response": RESPONSE, "attestation_result": token(), **changes}
        return ReceiptBundle(receipt=proof, **fields)

    def ms(**after: float) -> int:
        return int((NOW + timedelta(**after)).timestamp() * 1000)

    yield "good, the third of five", keeps(batch(5)[2]), None
    yield "good, answered just before the Result ended", keeps(_alone(issued_at_ms=ms(minutes=50))), None
    yield "another request", keeps(batch(5)[2], request=REQUEST + b"\x1a\x00"), "seal.broken"
    yield "another response", keeps(batch(5)[2], response=RESPONSE[:-1] + b"\x00"), "seal.broken"
    yield "of another Attestation Result", keeps(_alone(ear_id="ear-other")), "seal.broken"
    yield "of another worker", keeps(_alone(instance=world.XWING.instance)), "seal.broken"
    xwing = token(to_claims(world.result(world.XWING)))
    yield "beside another worker's Attestation Result", keeps(batch(5)[2], attestation_result=xwing), "seal.broken"
    yield "answered after the Result ended", keeps(_alone(issued_at_ms=ms(minutes=51))), "token.expired"
    yield "answered before it was issued", keeps(_alone(issued_at_ms=ms(minutes=-11))), "token.not_yet"
    debug = token(to_claims(world.result(debug=True)))
    yield "by a debug enclave", keeps(batch(5)[2], attestation_result=debug), "enclave.debug"


def vectors() -> dict[str, Any]:
    """Return what the file is to hold."""
    return {
        "receipt_key": X25519.receipt_public.hex(),
        "request": REQUEST.hex(),
        "response": RESPONSE.hex(),
        "batches": [_shown(count) for count in BATCHES],
        "broken": [{"name": name, "receipt": raw.hex()} for name, raw in _broken()],
        "kept": [
            {"name": name, "bundle": bundle.SerializeToString(deterministic=True).hex(), "reason": reason}
            for name, bundle, reason in _kept()
        ],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
