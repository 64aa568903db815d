from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke, manifest
from cloister.seal.manifest import ModelManifest
from fakes.sealed import flipped, unhurried

_OWNER = Ed25519PrivateKey.generate()
_PUBLIC = _OWNER.public_key().public_bytes_raw()
_MANIFEST = ModelManifest(
    name="resnet",
    version=2,
    digest=b"d" * 32,
    size_bytes=1000,
    created_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    files=(("model.xml", 200), ("weights/model.bin", 700)),
)


def _signed(raw: bytes) -> bytes:
    return _OWNER.sign(hpke.context("cloister model manifest v1", raw))


def test_a_manifest_comes_back_as_it_was_signed() -> None:
    signed = manifest.sign(_MANIFEST, _OWNER)
    assert signed.public_key == _PUBLIC
    assert manifest.verify(*signed) == _MANIFEST


@unhurried
@given(st.data())
def test_no_changed_bit_verifies(data: st.DataObject) -> None:
    signed = manifest.sign(_MANIFEST, _OWNER)
    which = data.draw(st.integers(0, 2))
    bit = data.draw(st.integers(0, len(signed[which]) * 8 - 1))
    for broken in (flipped(signed[which], bit), signed[which][: bit // 8], signed[which] + b"\x00"):
        parts = [*signed[:which], broken, *signed[which + 1 :]]
        with pytest.raises(SealBroken):
            manifest.verify(*parts)


def test_another_owner_does_not_verify() -> None:
    signed = manifest.sign(_MANIFEST, _OWNER)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(SealBroken):
        manifest.verify(signed.manifest, signed.signature, other)


def test_a_policy_signature_is_not_a_manifest_signature() -> None:
    signed = manifest.sign(_MANIFEST, _OWNER)
    signature = manifest.sign_policy(signed.manifest, _OWNER)
    manifest.verify_policy(signed.manifest, signature, _PUBLIC)
    with pytest.raises(SealBroken):
        manifest.verify(signed.manifest, signature, _PUBLIC)
    with pytest.raises(SealBroken):
        manifest.verify_policy(signed.manifest, signed.signature, _PUBLIC)
    with pytest.raises(SealBroken):
        manifest.verify_policy(signed.manifest + b" ", signature, _PUBLIC)


def test_what_was_signed_before_there_was_a_choice_of_precision_still_verifies_and_means_f32() -> None:
    raw = (
        b'{"v":1,"name":"resnet","version":2,"digest":"' + b"64" * 32 + b'","size_bytes":1000,'
        b'"created_at":"2026-03-01T12:00:00Z","files":[["model.xml",200],["weights/model.bin",700]]}'
    )
    found = manifest.verify(raw, _signed(raw), _PUBLIC)
    assert found == _MANIFEST
    assert (found.precision, found.preprocessing) == ("f32", ())
    assert manifest.sign(_MANIFEST, _OWNER).manifest == raw


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("preprocessing", [(), (("image", "from u8; to f32; scale 255"), ("mask", "from u8; to f32"))])
def test_precision_and_preprocessing_are_in_the_owners_words(
    precision: str, preprocessing: tuple[tuple[str, str], ...]
) -> None:
    chosen = replace(_MANIFEST, precision=precision, preprocessing=preprocessing)
    signed = manifest.sign(chosen, _OWNER)
    assert manifest.verify(*signed) == chosen
    assert (b"precision" in signed.manifest) == (precision != "f32")
    with pytest.raises(SealBroken):
        manifest.verify(signed.manifest.replace(b"resnet", b"resnat"), signed.signature, signed.public_key)


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "f32"},
        {"precision": "int8"},
        {"precision": ""},
        {"precision": None},
        {"precision": ["bf16"]},
        {"preprocessing": []},
        {"preprocessing": "image"},
        {"preprocessing": [["image"]]},
        {"preprocessing": [["image", 1]]},
        {"preprocessing": [["image", ""]]},
        {"preprocessing": [["", "u8"]]},
        {"preprocessing": [["image", "u8\n"]]},
        {"preprocessing": [["im age", "u8"]]},
        {"preprocessing": [["image", "x" * 1025]]},
        {"preprocessing": [["image", "u8"], ["image", "u8"]]},
        {"preprocessing": [[f"i{at}", "u8"] for at in range(65)]},
        {"v": 2},
        {"v": True},
        {"v": 1.0},
        {"name": "Résnet"},
        {"name": "a..b"},
        {"name": "x" * 64},
        {"name": "a\x00"},
        {"version": 0},
        {"version": True},
        {"version": "2"},
        {"digest": "DD" * 32},
        {"digest": "dd" * 31},
        {"digest": "zz" * 32},
        {"size_bytes": 0},
        {"size_bytes": True},
        {"size_bytes": 1.5},
        {"created_at": "2026-03-01"},
        {"created_at": "2026-03-01T12:00:00+00:00"},
        {"files": []},
        {"files": [["model.xml", 1], ["model.xml", 2]]},
        {"files": [["../model.xml", 1]]},
        {"files": [["/model.xml", 1]]},
        {"files": [["model.xml", -1]]},
        {"files": [["model.xml", True]]},
        {"files": [["model.xml"]]},
        {"files": [[f"f{i}", 1] for i in range(1025)]},
        {"extra": 1},
    ],
)
def test_signed_but_malformed_is_refused(change: dict[str, object]) -> None:
    members = {**json.loads(manifest.sign(_MANIFEST, _OWNER).manifest), **change}
    raw = json.dumps(members, separators=(",", ":")).encode()
    with pytest.raises(InvalidRequest):
        manifest.verify(raw, _signed(raw), _PUBLIC)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"v":' + b"9" * 5000 + b"}", b" " * (256 * 1024 + 1)],
)
def test_signed_but_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        manifest.verify(raw, _signed(raw), _PUBLIC)


def test_another_spelling_of_the_same_manifest_is_refused() -> None:
    raw = manifest.sign(_MANIFEST, _OWNER).manifest
    twice = raw.replace(b'"v":1,', b'"v":1,"v":1,')
    for spelling in (raw + b" ", raw.replace(b":", b": "), twice):
        with pytest.raises(InvalidRequest):
            manifest.verify(spelling, _signed(spelling), _PUBLIC)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "UP"},
        {"version": 0},
        {"files": ()},
        {"size_bytes": 0},
        {"digest": b""},
        {"precision": "f64"},
        {"preprocessing": (("image", "a\tb"),)},
    ],
)
def test_a_malformed_manifest_is_not_signed(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        manifest.sign(replace(_MANIFEST, **wrong), _OWNER)  # type: ignore[arg-type]  # one field at a time
