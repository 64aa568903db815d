"""How every key and nonce of a job comes about; both halves of `job` call these and nothing else.

- Wrapping key: HKDF-Expand(session secret, label ‖ session id). AES-256-GCM-SIV, nonce = the first twelve bytes of the
  job id. One for each session; wraps the keys of many jobs.
- Job key: 32 random bytes. AES-256-GCM, nonce 0. One for each job that is sealed.
- Answer key: HKDF-Expand(answer seed, label ‖ salt), where the seed is 32 random bytes that are wrapped together with
  the job key, and the salt 32 random bytes that travel with the answer. AES-256-GCM, nonce 0. One for each answer.

Why no nonce is used twice under a key:

- Job key and answer seed are fresh in each call that seals; the job key encrypts once, in that call. A client that
  seals a job again, after a crash or under the same id, seals it under other keys. One that submits the same bytes
  again has encrypted nothing.
- Every answer draws its salt in the call that seals it. So two workers that compute the same job, or one that computes
  it twice, seal their answers under different keys, though they share the seed and know nothing of each other.
- Wrapping nonces come from job ids: random, so they need no counter that a process could lose. Two jobs of one session
  with the same nonce (an id chosen twice, or 2^48 jobs) are what GCM-SIV (RFC 8452) is for: what it wraps is random, so
  two wrappings under one nonce do not even show equality.

An answer is bound to the transcript of its job (header, and tag of the ciphertext, under a key that its client alone
has drawn). The opening's `info` holds cluster, model, epoch, key id and session id; the header, which the wrapping and
the ciphertext are bound to, all else. Labels keep directions apart.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV

from cloister.seal.hpke import context
from cloister.seal.keys import Secret, expand

JOB_ID_BYTES: Final = 16
SALT_BYTES: Final = 32
VERSION: Final = 1  # of a header, as of what a client keeps
JOB_CIPHERTEXT: Final = 6  # field numbers in SealedJob and SealedJobResult
ANSWER_CIPHERTEXT: Final = 2
_NONCE_BYTES: Final = 12


def opening_info(cluster: str, model_name: str, epoch: int, key_id: bytes, session_id: bytes) -> bytes:
    """Return the HPKE `info` under which a session secret is sealed to an epoch key."""
    return context("cloister job session v1", cluster, model_name, epoch, key_id, session_id)


def wrapping_cipher(secret: Secret, session_id: bytes) -> AESGCMSIV:
    """Return the cipher that wraps the keys of each job of a session."""
    return AESGCMSIV(expand(secret, b"cloister job wrap v1" + session_id).view)


def wrapping_nonce(job_id: bytes) -> bytes:
    """Return the nonce of a job's wrapped keys."""
    return job_id[:_NONCE_BYTES]


def wrapping_aad(header: bytes, session_id: bytes) -> bytes:
    """Return what wrapped keys are bound to; the parts have 32 and 16 bytes."""
    return hashlib.sha256(header).digest() + session_id


def answer_cipher(seed: bytes, salt: bytes) -> AESGCM:
    """Return the cipher of one answer; its nonce is zero."""
    return AESGCM(expand(Secret(seed), b"cloister job answer v1" + salt).view)
