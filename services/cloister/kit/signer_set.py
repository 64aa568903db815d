"""Who signs for a model: its owner's key, or k of n keys that it was handed to (docs/decisions/0056).

A signer set is a document that people sign (`cloister.dsse`). The first of a model is signed by its owner's key, each
later one by enough of the set before it, so whoever knows the owner's key can follow the chain to the set that counts.
Enough of its own keys sign a set too, as a root of The Update Framework does (TUF, section 5.3): nobody hands a model
to keys that nobody has. A set names its mesh, its model and its number; numbers go up by one. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloister import dsse
from cloister.errors import InvalidRequest
from cloister.seal.names import check_model
from cloister.seal.release_policy import MAX_SIGNER_SETS_BYTES

SIGNER_SET_TYPE: Final = "application/vnd.cloister.signer-set+json"
MAX_KEYS: Final = 16
MAX_SETS: Final = 64
MAX_SET_BYTES: Final = 16 * 1024
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_MEMBERS: Final = {"cluster", "keys", "model", "threshold", "version"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerSet:
    """The keys that sign for one model in one mesh.

    Attributes:
        model_name: Whose.
        cluster: The mesh.
        version: From 1; 0 stands for the owner's key alone, which is in no document.
        threshold: How many of the keys must sign.
        keys: Ed25519 public keys, 64 lower-case hex digits each, in order.

    Raises:
        InvalidRequest: They are no set (`signer_set.invalid`); the message says why.
    """

    model_name: str
    cluster: str
    version: int
    threshold: int
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        check_model(self.model_name, max(self.version, 1))
        if not self.cluster:
            raise _invalid("it names no mesh")
        if not 1 <= len(self.keys) <= MAX_KEYS:
            raise _invalid(f"it has no key, or more than {MAX_KEYS}")
        if not all(_KEY.fullmatch(key) for key in self.keys) or list(self.keys) != sorted(set(self.keys)):
            raise _invalid("its keys are not 64 lower-case hex digits each, in order, and each once")
        if type(self.threshold) is not int or not 1 <= self.threshold <= len(self.keys):
            raise _invalid("its threshold is not 1 or more, and at most the number of its keys")

    def document(self) -> bytes:
        """What is signed: JSON in its one encoding."""
        said = {
            "cluster": self.cluster,
            "keys": list(self.keys),
            "model": self.model_name,
            "threshold": self.threshold,
            "version": self.version,
        }
        return json.dumps(said, separators=(",", ":")).encode()

    def verified(self, envelope: bytes, payload_type: str) -> bytes:
        """Return what is in an envelope that enough of the set have signed for this purpose.

        Raises:
            InvalidRequest: Too few have (`signature.insufficient`), or it is no such envelope (`signature.malformed`).
        """
        return dsse.verified(envelope, payload_type, self.keys, threshold=self.threshold)

    def signed_by(self, envelope: bytes, payload_type: str) -> list[str]:
        """Those of the set who have signed an envelope, for the record; raises InvalidRequest as `verified`."""
        return sorted(dsse.signers(envelope, payload_type).intersection(self.keys))


def owner_alone(model_name: str, cluster: str, owner_key: bytes) -> SignerSet:
    """Who signs for a model that was handed to nobody: the key that registered it, 32 bytes."""
    return SignerSet(model_name=model_name, cluster=cluster, version=0, threshold=1, keys=(owner_key.hex(),))


def follow(owner_key: bytes, envelopes: Sequence[bytes], *, model_name: str, cluster: str) -> SignerSet:
    """Follow a model's signer sets from its owner's key to the last of them.

    Args:
        owner_key: That registered the model, Ed25519, 32 bytes.
        envelopes: All sets from the first on, oldest first; none, and the owner's key signs.
        model_name: Whose they must be.
        cluster: The mesh that they must be meant for.

    Raises:
        InvalidRequest: One is not signed by enough of those before it, or of its own (`signature.insufficient`), is
            another model's or mesh's (`signer_set.other`), is not the next (`signer_set.gap`), or is no set
            (`signer_set.invalid`, `signature.malformed`); or there are too many (`signer_set.too_many`).
    """
    if len(envelopes) > MAX_SETS or sum(map(len, envelopes)) > MAX_SIGNER_SETS_BYTES:
        raise InvalidRequest(
            f"a model has at most {MAX_SETS} signer sets, of {MAX_SIGNER_SETS_BYTES} bytes in all",
            reason="signer_set.too_many",
        )
    signers = owner_alone(model_name, cluster, owner_key)
    for envelope in envelopes:
        signers = _next(signers, envelope)
    return signers


def read_signer_set(document: bytes) -> SignerSet:
    """Read what a signed document holds, believed by nobody yet.

    Raises:
        InvalidRequest: It is no signer set (`signer_set.invalid`).
    """
    try:
        members: Any = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise _invalid("it is not JSON") from error
    match members:
        case {
            "cluster": str(cluster),
            "keys": list(keys),
            "model": str(model),
            "threshold": int(threshold),
            "version": int(version),
        } if members.keys() == _MEMBERS and all(isinstance(key, str) for key in keys):
            found = SignerSet(model_name=model, cluster=cluster, version=version, threshold=threshold, keys=tuple(keys))
        case _:
            raise _invalid("its members are not cluster, keys, model, threshold and version")
    if found.version < 1 or found.document() != document:
        raise _invalid("its version is not 1 or more, or it is not in its one encoding")
    return found


def _next(before: SignerSet, envelope: bytes) -> SignerSet:
    if len(envelope) > MAX_SET_BYTES:
        raise _invalid(f"it is longer than {MAX_SET_BYTES} bytes")
    found = read_signer_set(before.verified(envelope, SIGNER_SET_TYPE))
    if (found.model_name, found.cluster) != (before.model_name, before.cluster):
        raise InvalidRequest("the signer set is of another model, or meant for another mesh", reason="signer_set.other")
    if found.version != before.version + 1:
        raise InvalidRequest(
            f"the signer set is number {found.version}, and {before.version + 1} comes next", reason="signer_set.gap"
        )
    found.verified(envelope, SIGNER_SET_TYPE)
    return found


def _invalid(what: str) -> InvalidRequest:
    return InvalidRequest(f"not a signer set: {what}", reason="signer_set.invalid")
