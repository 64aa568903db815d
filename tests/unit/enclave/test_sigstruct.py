"""SIGSTRUCT: as it lies in the SDM's table, signed as EINIT wants it, and every change noticed."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.enclave.signers import KeySigner
from cloister.enclave.sigstruct import Sigstruct
from cloister.errors import InvalidRequest
from fakes.built_enclave import Built

MRENCLAVE = bytes(range(32))


@pytest.fixture(scope="module")
def signed(signer: KeySigner) -> Sigstruct:
    unsigned = Built().sigstruct(MRENCLAVE)
    return unsigned.with_signature(signer.modulus, signer.sign(unsigned.to_sign))


def test_fields_lie_where_the_manual_has_them(signed: Sigstruct, signer: KeySigner) -> None:
    raw = signed.encode()
    assert len(raw) == 1808
    assert raw[:16].hex() == "06000000e10000000000010000000000"
    assert raw[24:40].hex() == "01010000600000006000000001000000"
    assert int.from_bytes(raw[128:512], "little") == signer.modulus
    assert raw[512:516] == b"\3\0\0\0"
    assert raw[928:936] == b"\4" + bytes(7)
    assert raw[960:992] == MRENCLAVE
    assert raw[1024:1028] == b"\1\0\1\0"
    assert signed.mrsigner == sha256(raw[128:512]).digest()


def test_the_quotients_let_a_processor_cube_the_signature_without_dividing(signed: Sigstruct) -> None:
    modulus, signature, q1, q2 = (
        int.from_bytes(field, "little") for field in (signed.modulus, signed.signature, signed.q1, signed.q2)
    )
    square = signature * signature - q1 * modulus
    cube = square * signature - q2 * modulus
    assert 0 <= square < modulus
    assert cube == pow(signature, 3, modulus)
    assert cube.to_bytes(384, "big").endswith(sha256(signed.to_sign).digest())


def test_openssl_finds_the_signature_good(signed: Sigstruct, key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(signed.to_sign)
    (tmp_path / "signature").write_bytes(signed.signature[::-1])
    words = ("dgst", "-sha256", "-prverify", key_file, "-signature", tmp_path / "signature", tmp_path / "message")
    assert subprocess.check_output(["/usr/bin/openssl", *words], text=True) == "Verified OK\n"


def test_it_reads_what_it_writes(signed: Sigstruct) -> None:
    assert Sigstruct.parse(signed.encode()) == signed
    assert Sigstruct.parse(signed.unsigned().encode()) == Built().sigstruct(MRENCLAVE)


@given(st.integers(0, 1808 * 8 - 1))
def test_any_bit_that_is_flipped_is_noticed(signed: Sigstruct, bit: int) -> None:
    raw = bytearray(signed.encode())
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidRequest) as refused:
        Sigstruct.parse(bytes(raw)).verify()
    assert refused.value.reason in ("sigstruct.malformed", "sigstruct.forged")


def test_another_length_is_none(signed: Sigstruct) -> None:
    with pytest.raises(InvalidRequest, match="1809 bytes"):
        Sigstruct.parse(signed.encode() + b"\0")


def test_one_without_a_signature_does_not_verify() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Built().sigstruct(MRENCLAVE).verify()
    assert refused.value.reason == "sigstruct.unsigned"


def test_a_signature_over_something_else_is_not_taken(signer: KeySigner) -> None:
    unsigned = Built().sigstruct(MRENCLAVE)
    with pytest.raises(InvalidRequest) as refused:
        unsigned.with_signature(signer.modulus, signer.sign(unsigned.to_sign + b"\0"))
    assert refused.value.reason == "sigstruct.forged"


def test_a_signature_of_another_length_is_not_taken(signer: KeySigner) -> None:
    unsigned = Built().sigstruct(MRENCLAVE)
    with pytest.raises(InvalidRequest) as refused:
        unsigned.with_signature(signer.modulus, b"\0" + signer.sign(unsigned.to_sign))
    assert refused.value.reason == "sigstruct.forged"


def test_a_shorter_key_is_not_taken(signer: KeySigner) -> None:
    with pytest.raises(InvalidRequest, match="2048 bits"):
        Built().sigstruct(MRENCLAVE).with_signature(1 << 2047 | 1, bytes(384))


@pytest.mark.parametrize(
    ("attributes", "mask"),
    [(0x06, 0xFF), (0x14, 0xFF), (0x24, 0xFF), (0x04, 0xFD)],
    ids=["debug", "provision key", "einittoken key", "debug left to whoever starts it"],
)
def test_an_enclave_that_is_open_is_not_one_for_production(attributes: int, mask: int) -> None:
    sigstruct = Sigstruct(
        attributes=bytes([attributes]) + bytes(15),
        attributemask=bytes([mask]) + bytes([255]) * 15,
        enclavehash=MRENCLAVE,
        isvprodid=1,
        isvsvn=1,
    )
    with pytest.raises(InvalidRequest) as refused:
        sigstruct.check_production()
    assert refused.value.reason == "enclave.open"
