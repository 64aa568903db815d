"""What workers say of job keys: bytes that a gateway has changed, and statements that were changed and signed again."""

from __future__ import annotations

from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from cloister.api.v1.model_pb2 import JobEpoch, SignedJobEpoch, SignedReleasePolicy
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke
from cloister.seal.hpke import context
from cloister.seal.job_epoch import sign_epoch, verify_epoch
from fuzz.mutation import changed_bytes, changed_signature
from fuzz.target import Violation

_LABEL = "cloister job epoch v1"


class JobStatements:
    """`verify_epoch`, as a client calls it with what `ListWorkers` brought."""

    name = "job-statement"

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._signed: set[bytes] = set()
        self.seeds = [self._seed(number, suite) for number, suite in enumerate(sorted(hpke.SUITES), 1)]

    def judge(self, raw: bytes) -> None:
        try:
            signed = SignedJobEpoch.FromString(raw)
            said = verify_epoch(signed, self._key.public_key().public_bytes_raw())
        except (DecodeError, SealBroken) as error:
            raise InvalidRequest("refused", reason="statement.refused") from error
        if signed.statement not in self._signed:
            raise Violation("a statement was believed that nobody signed")
        if len(UnknownFieldSet(signed)) or len(UnknownFieldSet(said)):
            raise Violation("a statement was believed with something in it that was not read")
        if len(said.hpke_public) != hpke.PUBLIC_BYTES[said.hpke_suite] or said.seal_until_ms > said.open_until_ms:
            raise Violation("a statement was believed that contradicts itself")

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        if rng.random() < 0.3:
            return changed_bytes(rng, raw)
        signed = SignedJobEpoch.FromString(raw)
        match rng.randrange(4):
            case 0:
                signed.signature = changed_signature(rng, signed.signature)
            case 1:
                signed.statement = SignedJobEpoch.FromString(rng.choice(self.seeds)).statement
            case 2:
                return raw + SignedJobEpoch(statement=changed_bytes(rng, signed.statement)).SerializeToString()
            case _:
                signed.statement = changed_bytes(rng, signed.statement)
                signed.signature = self._key.sign(context(_LABEL, signed.statement))
                self._signed.add(signed.statement)
        return signed.SerializeToString()

    def _seed(self, number: int, suite: str) -> bytes:
        epoch = JobEpoch(
            cluster="fuzz.internal",
            instance="ab" * 16,
            ear_id="ear-1",
            model_name="iris",
            epoch=number,
            hpke_suite=suite,
            hpke_public=hpke.KeyPair.generate(suite).public,
            seal_until_ms=1_000,
            open_until_ms=2_000,
            policy=SignedReleasePolicy(policy=b"policy", signature=bytes(64)),
        )
        signed = sign_epoch(epoch, self._key)
        self._signed.add(signed.statement)
        return signed.SerializeToString()
