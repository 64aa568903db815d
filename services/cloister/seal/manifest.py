"""What a model owner signs: the manifest of a sealed model, and the release policy (Ed25519, RFC 8032).

Signatures cover a label and the exact bytes, so nobody re-encodes what was signed, and a signed policy never passes
for a manifest. Both are checked against the owner's key before a single member is read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal.hpke import context
from cloister.seal.names import check_file, check_model

MAX_MANIFEST_BYTES: Final = 256 * 1024
MAX_FILES: Final = 1024
MAX_PREPROCESSED: Final = 64
PRECISIONS: Final = ("f32", "bf16", "f16")
DEFAULT_PRECISION: Final = "f32"
DIGEST_BYTES: Final = 32

_MANIFEST_LABEL: Final = "cloister model manifest v1"
_POLICY_LABEL: Final = "cloister release policy v1"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_INPUT: Final = re.compile(r"[!-~]{1,128}")
_STEPS: Final = re.compile(r"[ -~]{1,1024}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """What a sealed model is.

    Attributes:
        digest: Digest of the sealed file (`model_file`), 32 bytes.
        size_bytes: Length of the sealed file.
        created_at: Aware UTC, whole seconds.
        files: Name and length in bytes of each file inside, in order.
        precision: What the model computes in, one of `PRECISIONS`. A manifest that does not say means f32.
        preprocessing: Names of inputs, and what their owner compiled in to be done to them first, in words.
    """

    name: str
    version: int
    digest: bytes
    size_bytes: int
    created_at: datetime
    files: tuple[tuple[str, int], ...]
    precision: str = DEFAULT_PRECISION
    preprocessing: tuple[tuple[str, str], ...] = ()


class Signed(NamedTuple):
    """Exact bytes, who signed them, and the signature."""

    manifest: bytes
    signature: bytes
    public_key: bytes


def sign(manifest: ModelManifest, key: Ed25519PrivateKey) -> Signed:
    """Return the manifest's bytes with the owner's signature and public key.

    Raises:
        InvalidRequest: The manifest is not well formed.
    """
    raw = _encode(manifest)
    if _decode(raw) != manifest:
        raise InvalidRequest("the manifest does not survive its own encoding")
    return Signed(raw, key.sign(context(_MANIFEST_LABEL, raw)), key.public_key().public_bytes_raw())


def verify(manifest_bytes: bytes, signature: bytes, public_key: bytes) -> ModelManifest:
    """Return the manifest that the holder of `public_key` signed.

    Raises:
        SealBroken: The signature is not over these bytes, or not by this key.
        InvalidRequest: Signed, but not a manifest.
    """
    _verify(_MANIFEST_LABEL, manifest_bytes, signature, public_key)
    return _decode(manifest_bytes)


def sign_policy(policy_bytes: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the owner's signature over a serialised ReleasePolicy."""
    return key.sign(context(_POLICY_LABEL, policy_bytes))


def verify_policy(policy_bytes: bytes, signature: bytes, public_key: bytes) -> None:
    """Check that the holder of `public_key` signed this release policy.

    Raises:
        SealBroken: It did not.
    """
    _verify(_POLICY_LABEL, policy_bytes, signature, public_key)


def _verify(label: str, raw: bytes, signature: bytes, public_key: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, context(label, raw))
    except (InvalidSignature, ValueError):
        raise SealBroken from None


def _encode(manifest: ModelManifest) -> bytes:
    members: dict[str, object] = {
        "v": 1,
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest.hex(),
        "size_bytes": manifest.size_bytes,
        "created_at": manifest.created_at.astimezone(UTC).strftime(_TIME),
        "files": [[name, size] for name, size in manifest.files],
    }
    # Whatever came later is left out where it says nothing new: what was signed before still has its one encoding.
    if manifest.precision != DEFAULT_PRECISION:
        members["precision"] = manifest.precision
    if manifest.preprocessing:
        members["preprocessing"] = [[name, steps] for name, steps in manifest.preprocessing]
    return json.dumps(members, separators=(",", ":")).encode()


def _decode(raw: bytes) -> ModelManifest:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise InvalidRequest("the model manifest is too long")
    try:
        members = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the model manifest is not JSON") from error
    if not isinstance(members, dict) or len(members.keys() - {"precision", "preprocessing"}) != 7:
        raise InvalidRequest("the model manifest has not its members")
    manifest = _read(members)
    if _encode(manifest) != raw:
        raise InvalidRequest("the model manifest is not in its one encoding")
    return manifest


def _read(members: dict[str, object]) -> ModelManifest:
    match members:
        case {
            "v": 1,
            "name": str(name),
            "version": int(version),
            "digest": str(digest),
            "size_bytes": int(size),
            "created_at": str(created),
            "files": [_, *_] as files,
        } if len(files) <= MAX_FILES and len(digest) == 2 * DIGEST_BYTES and type(size) is int and size > 0:
            check_model(name, version)
        case _:
            raise InvalidRequest("the model manifest has not its members")
    try:
        created_at = datetime.strptime(created, _TIME).replace(tzinfo=UTC)
        raw_digest = bytes.fromhex(digest)
    except ValueError as error:
        raise InvalidRequest("the model manifest has a malformed digest or time") from error
    entries = tuple(_read_entry(entry) for entry in files)
    if len({name for name, _ in entries}) != len(entries):
        raise InvalidRequest("the model manifest names a file twice")
    return ModelManifest(
        name=name,
        version=version,
        digest=raw_digest,
        size_bytes=size,
        created_at=created_at,
        files=entries,
        precision=_read_precision(members.get("precision", DEFAULT_PRECISION)),
        preprocessing=_read_preprocessing(members.get("preprocessing", [])),
    )


def _read_precision(found: object) -> str:
    if not isinstance(found, str) or found not in PRECISIONS:
        raise InvalidRequest(f"the model manifest has a precision that is none of {', '.join(PRECISIONS)}")
    return found


def _read_preprocessing(found: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(found, list) or len(found) > MAX_PREPROCESSED:
        raise InvalidRequest("the model manifest lists preprocessing of no input, or of too many")
    inputs: dict[str, str] = {}
    for entry in found:
        match entry:
            case [str(name), str(steps)] if _INPUT.fullmatch(name) and _STEPS.fullmatch(steps) and name not in inputs:
                inputs[name] = steps
            case _:
                raise InvalidRequest("the model manifest has preprocessing that is not an input and words")
    return tuple(inputs.items())


def _read_entry(entry: object) -> tuple[str, int]:
    match entry:
        case [str(name), int(size)] if type(size) is int and size >= 0:
            check_file(name)
            return name, size
    raise InvalidRequest("the model manifest lists something that is not a name and a length")
