"""What a recovery key seals and opens: copies of secrets, and the shares of the key itself on their way (HPKE).

    copy of a secret      provisioner -> its own store, opened only when a root key was lost
    dealt share           provisioner -> one owner, when the key is dealt
    contributed share     owner -> provisioner, in one recovery session

Each is bound to its mesh and to the generation of the key. HPKE's base mode says nothing of who sealed: that a copy is
the provisioner's own is vouched for by its log, and that a share is one that was dealt by the commitment beside it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Final

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke
from cloister.seal.hpke import XWING, KeyPair, context
from cloister.seal.keys import Secret

SESSION_ID_BYTES: Final = 16
MAX_SHARES: Final = 16
MAX_WORDS_BYTES: Final = 1024
_MAX_GENERATION: Final = 1 << 32
_GENERATION_BYTES: Final = 4
_MEMBERS: Final = {"v", "cluster", "generation", "index", "words"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One share of a recovery key.

    Attributes:
        cluster: The mesh whose key it is of.
        generation: Of the key: how often one was dealt.
        index: From 0; which owner's.
        words: The share itself, as SLIP-39 writes it, UTF-8.
    """

    cluster: str
    generation: int
    index: int
    words: Secret = field(repr=False)

    def commitment(self) -> bytes:
        """By what the share is known again; it tells nothing of words that hold 256 random bits."""
        named = context("cloister recovery commitment v1", self.cluster, self.generation, self.index)
        return hashlib.sha256(named + self.words.view).digest()


def seal_copy(public: bytes, secret: Secret, record: bytes, *, cluster: str, generation: int) -> bytes:
    """Seal a secret that a provisioner keeps to the recovery key.

    Args:
        public: X-Wing public key.
        secret: What is kept.
        record: What it belongs to, unambiguously; as a vault binds it.
        cluster: The mesh.
        generation: Of the recovery key.
    """
    prefix = generation.to_bytes(_GENERATION_BYTES, "big")
    return prefix + hpke.seal(XWING, public, secret.reveal(), _copy_info(record, cluster, generation))


def generation_of(copy: bytes) -> int:
    """Which recovery key a copy was sealed to; 0 for a secret that has no copy."""
    return int.from_bytes(copy[:_GENERATION_BYTES], "big")


def open_copy(pair: KeyPair, copy: bytes, record: bytes, *, cluster: str, generation: int) -> Secret:
    """Return the secret in a copy.

    Raises:
        SealBroken: It is another secret's, another generation's or another mesh's, or altered.
    """
    if generation_of(copy) != generation:
        raise SealBroken
    return Secret(pair.open(copy[_GENERATION_BYTES:], _copy_info(record, cluster, generation)))


def seal_dealt(public: bytes, share: Share) -> bytes:
    """Seal a share to the owner that it is for."""
    return hpke.seal(XWING, public, _encode(share), _dealt_info(share.cluster, share.generation, share.index))


def open_dealt(pair: KeyPair, sealed: bytes, *, cluster: str, generation: int, index: int) -> Share:
    """Return an owner's share.

    Raises:
        SealBroken: It is not for this key, or not the share that it is said to be.
    """
    return _decode(pair.open(sealed, _dealt_info(cluster, generation, index)))


def seal_contributed(public: bytes, share: Share, session_id: bytes) -> bytes:
    """Seal a share to a recovery session."""
    return hpke.seal(XWING, public, _encode(share), _contributed_info(session_id))


def open_contributed(pair: KeyPair, sealed: bytes, session_id: bytes) -> Share:
    """Return what somebody contributed; whether it is a share of this key is still to be seen.

    Raises:
        SealBroken: It is for another session, or altered.
    """
    return _decode(pair.open(sealed, _contributed_info(session_id)))


def _copy_info(record: bytes, cluster: str, generation: int) -> bytes:
    return context("cloister recovery copy v1", cluster, generation, record)


def _dealt_info(cluster: str, generation: int, index: int) -> bytes:
    return context("cloister recovery share v1", cluster, generation, index)


def _contributed_info(session_id: bytes) -> bytes:
    return context("cloister recovery contribution v1", session_id)


def _encode(share: Share) -> bytes:
    said = {
        "v": 1,
        "cluster": share.cluster,
        "generation": share.generation,
        "index": share.index,
        "words": share.words.reveal().decode(),
    }
    return json.dumps(said, separators=(",", ":")).encode()


def _decode(raw: bytes) -> Share:
    try:
        members = json.loads(raw)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(members, dict) or members.keys() != _MEMBERS:
        raise _malformed()
    match members:
        case {"v": 1, "cluster": str(cluster), "generation": int(generation), "index": int(index), "words": str(words)}:
            held = Secret(words.encode(errors="replace"))
        case _:
            raise _malformed()
    if not 0 < generation < _MAX_GENERATION or not 0 <= index < MAX_SHARES or len(held) > MAX_WORDS_BYTES:
        raise _malformed()
    return Share(cluster=cluster, generation=generation, index=index, words=held)


def _malformed() -> InvalidRequest:
    return InvalidRequest("what was sealed is no share of a recovery key", reason="share.malformed")
