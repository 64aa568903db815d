"""Receipts: which enclave answered what, with which model, provable offline.

A worker signs once for all answers of a batch: Ed25519 over the tree head of their bodies (RFC 6962), and each receipt
carries its audit path. Bodies hold hashes of the plaintext request and response, salted with the random request id.
Whoever sees a receipt has the salt too: it keeps two receipts for equal content from being linked by their hashes, and
does not hide content that can be guessed. Receipts therefore travel sealed, inside the answer; and in a batch each body
stands beside a random leaf, so that the hashes in a path let nobody test a guess about a neighbour's content.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from cloister.api.v1.seal_pb2 import Receipt, ReceiptBody, ReceiptBundle
from cloister.errors import SealBroken
from cloister.seal.hpke import context
from cloister.tlog import merkle

VERSION: Final = 1
MAX_BATCH: Final = 1 << 15
_MAX_TREE: Final = 2 * MAX_BATCH
_LABEL: Final = "cloister receipts v1"


def content_hash(request_id: bytes, content: bytes) -> bytes:
    """Return what a receipt says of a serialised request or response: SHA-256 over the request id and the bytes."""
    hashed = hashlib.sha256(request_id)
    hashed.update(content)
    return hashed.digest()


def issue(bodies: Sequence[ReceiptBody], sign_key: Ed25519PrivateKey) -> list[Receipt]:
    """Return a receipt for each body, in order, under one signature.

    Raises:
        ValueError: No body, or more than `MAX_BATCH`.
    """
    if not 0 < len(bodies) <= MAX_BATCH:
        raise ValueError(f"a batch has 1 to {MAX_BATCH} answers")
    raw = [body.SerializeToString(deterministic=True) for body in bodies]
    leaves = _leaves(raw)
    step = len(leaves) // len(raw)
    head, paths = merkle.root_and_paths(leaves, step)
    signature = sign_head(sign_key, len(leaves), head)
    return [
        Receipt(body=body, tree_size=len(leaves), leaf_index=step * i, path=path, signature=signature)
        for i, (body, path) in enumerate(zip(raw, paths, strict=True))
    ]


def sign_head(sign_key: Ed25519PrivateKey, tree_size: int, head: bytes) -> bytes:
    """Return the signature over the head of a tree of receipts' bodies."""
    return sign_key.sign(context(_LABEL, tree_size, head))


def verify(receipt: Receipt, receipt_key: bytes) -> ReceiptBody:
    """Return the body of a receipt that the holder of the attested receipt key signed.

    Raises:
        SealBroken: It was not signed by this key, or is altered.
    """
    if not 0 < receipt.tree_size <= _MAX_TREE or len(receipt.path) > _MAX_TREE.bit_length():
        raise SealBroken
    if len(UnknownFieldSet(receipt)) > 0:  # nothing rides along that the signature does not cover
        raise SealBroken
    head = merkle.root_of_path(
        merkle.leaf_hash(receipt.body), receipt.leaf_index, receipt.tree_size, tuple(receipt.path)
    )
    try:
        verify_head(receipt_key, receipt.signature, receipt.tree_size, head)
        body = ReceiptBody.FromString(receipt.body)
    except (InvalidSignature, ValueError, DecodeError):
        raise SealBroken from None
    if body.version != VERSION:
        raise SealBroken
    return body


@lru_cache(maxsize=1024)  # the answers of one batch share a head; what raises is not kept
def verify_head(receipt_key: bytes, signature: bytes, tree_size: int, head: bytes) -> None:
    """Check what `sign_head` made; raises InvalidSignature, or ValueError for what is no key."""
    Ed25519PublicKey.from_public_bytes(receipt_key).verify(signature, context(_LABEL, tree_size, head))


def verify_content(body: ReceiptBody, *, request: bytes, response: bytes) -> None:
    """Check that a receipt's body is for this serialised request and response.

    Raises:
        SealBroken: For others.
    """
    hashes = (content_hash(body.request_id, request), content_hash(body.request_id, response))
    if hashes != (body.request_sha256, body.response_sha256):
        raise SealBroken


def verify_bundle(bundle: ReceiptBundle, *, receipt_key: bytes, instance: str, ear_id: str) -> ReceiptBody:
    """Check what a client kept, against the Attestation Result it kept with it.

    Args:
        bundle: Receipt, request and response; its `attestation_result` is for the caller to check first.
        receipt_key: From that Attestation Result, as are `instance` and `ear_id`.
        instance: The worker that must have answered.
        ear_id: `jti` of the Attestation Result that the receipt must name.

    Raises:
        SealBroken: Not signed by this key, or for another worker, Attestation Result, request or response.
    """
    body = verify(bundle.receipt, receipt_key)
    if (body.instance, body.ear_id) != (instance, ear_id):
        raise SealBroken
    verify_content(body, request=bundle.request, response=bundle.response)
    return body


def _leaves(bodies: Sequence[bytes]) -> list[bytes]:
    """One leaf if there is one body, else a body's leaf and a random one by turns."""
    if len(bodies) == 1:
        return [merkle.leaf_hash(bodies[0])]
    return [leaf for body in bodies for leaf in (merkle.leaf_hash(body), secrets.token_bytes(merkle.HASH_BYTES))]
