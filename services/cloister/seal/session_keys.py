"""How every key and nonce of a session comes about; both halves of `session` call these and nothing else.

- Wrapping key: HKDF-Expand(session secret, label ‖ session id). AES-256-GCM-SIV, nonce = sequence number. One for each
  session; wraps the keys of many requests.
- Request key: 32 random bytes. AES-256-GCM, nonce 0. One for each request.
- Response key: HKDF-Expand(response seed, label ‖ instance ‖ session id), where the seed is 32 random bytes that are
  wrapped together with the request key. AES-256-GCM, nonce 0. One for each request and worker.

Why no nonce is used twice under a key:

- Request key and response seed are fresh for each request; the request key encrypts once, in the call that makes it.
- Workers that get the same seed derive different response keys, by instance and session. One worker answers a request
  at most once: an answer needs an opened request, no request is opened twice (`session_table`), a worker's key pair
  does not outlive the process, and the answer is sealed by a function that works once.
- The wrapping key takes its nonce from a counter that only its one client object holds. Should that object be doubled
  all the same (a fork, a restored snapshot of the client), GCM-SIV (RFC 8452) gives nothing away: what it wraps is
  random, so two wrappings under one nonce do not even show equality.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV

from cloister.seal.hpke import context
from cloister.seal.keys import KEY_BYTES, Secret, expand

SESSION_ID_BYTES: Final = 16
REQUEST_ID_BYTES: Final = 16
DIGEST_BYTES: Final = 32
TAG_BYTES: Final = 16
WRAPPED_BYTES: Final = 2 * KEY_BYTES + TAG_BYTES

VERSION: Final = 1  # of a header
PADDED_VERSION: Final = 2  # of a header that asks for padding
SEAL_VERSION: Final = 2
"""What this code speaks, and a worker's evidence says of it: from 2 on, key ids and padding."""
PADDED: Final = 1
"""In a header, by number: padded as `padding` has it."""
MAX_RECIPIENTS: Final = 16
MAX_LIFE_MS: Final = 10 * 60 * 1000  # from now to a request's deadline; how long a worker must remember
REQUEST_CIPHERTEXT: Final = 3  # field numbers in SealedRequest and SealedResponse
RESPONSE_CIPHERTEXT: Final = 2
ZERO_NONCE: Final = bytes(12)


def opening_info(cluster: str, instance: str, session_id: bytes) -> bytes:
    """Return the HPKE `info` under which a session secret is sealed to a worker."""
    return context("cloister session v1", cluster, instance, session_id)


def wrapping_cipher(secret: Secret, session_id: bytes) -> AESGCMSIV:
    """Return the cipher that wraps the keys of each request of a session."""
    return AESGCMSIV(expand(secret, b"cloister wrap v1" + session_id).view)


def wrapping_nonce(sequence: int) -> bytes:
    """Return the nonce of a request: its sequence number as 96 bits."""
    return sequence.to_bytes(12, "big")


def wrapping_aad(header: bytes, instance: str, session_id: bytes) -> bytes:
    """Return what wrapped keys are bound to; each part has a fixed length (32, 32 and 16 bytes)."""
    return hashlib.sha256(header).digest() + instance.encode() + session_id


def request_cipher(key: bytes) -> AESGCM:
    """Return the cipher of one request; its nonce is `ZERO_NONCE`."""
    return AESGCM(key)


def response_cipher(seed: bytes, instance: str, session_id: bytes) -> AESGCM:
    """Return the cipher of one worker's answer; its nonce is `ZERO_NONCE`."""
    info = b"cloister response v1" + instance.encode() + session_id
    return AESGCM(expand(Secret(seed), info).view)


def transcript(header: bytes, request_tag: bytes) -> bytes:
    """Return what an answer is bound to: the header and the tag of the request it answers."""
    return hashlib.sha256(header + request_tag).digest()


def milliseconds(moment: datetime) -> int:
    """Return Unix time in milliseconds, rounded down."""
    return int(moment.timestamp() * 1000)
