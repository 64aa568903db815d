"""The examples are of c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest, LogBroken
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.cosignature import WitnessKey, WitnessSigner
from cloister.tlog.merkle import root
from cloister.tlog.note import Ed25519Key, NoteSignature, NoteSigner, SignedNote
from fakes.sealed import unhurried

_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
_EXAMPLE = (
    f"{_TEXT}\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+x"
    "eMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+"
    "mbIUBkBIfZ+qnA==\n"
)
_HEAD = Checkpoint("mesh.example/provisioner/1", 3, bytes(32))
_LOG = NoteSigner(_HEAD.origin, Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1"))
_WITNESS = WitnessSigner("mesh.example/verifier", Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\2"))


def test_the_example_of_the_specification_reads_and_is_written_as_it_was() -> None:
    note = SignedNote.parse(_EXAMPLE)
    head = Checkpoint.parse(note.text)
    assert (head.origin, head.size, head.root.hex()[:8]) == ("example.com/behind-the-sofa", 20852163, "0ac5186a")
    assert (head.text, str(note)) == (_TEXT, _EXAMPLE)
    cosignature = note.signatures[1].signature
    assert int.from_bytes(cosignature[:8], "big") == 1679315147  # the time in the specification's example
    assert len(cosignature) == 8 + 64


def test_a_cosignature_by_transparency_dev_verifies() -> None:
    """Made with github.com/transparency-dev/formats at 404c0d5."""
    vkey = "witness.example/w1+40e99145+BADQWh0eolE5bVV6+9RYizxtmdvrly/tEKMlYuom3Nz6"
    line = (
        "— witness.example/w1 QOmRRQAAAABrCDosK4ElAXJX0r1dQC0fPXUX9hxyaCdj7FWQwET6NH04d8H7Bl+K13dngqvgP0f/NfU"
        "5kmWGzalD2deJWqARSuqQBg=="
    )
    key, note = WitnessKey.from_vkey(vkey), SignedNote.parse(f"{_TEXT}\n{line}\n")
    assert key.verify(note) == int.from_bytes(note.signatures[0].signature[:8], "big")
    assert key.vkey == vkey


def test_further_lines_are_kept() -> None:
    head = Checkpoint.parse(f"{_TEXT}one\ntwo +\n")
    assert head.extensions == ("one", "two +")
    assert head.text == f"{_TEXT}one\ntwo +\n"


_BROKEN = {
    "empty": "",
    "two lines": "origin\n3\n",
    "the last line does not end": _TEXT[:-1],
    "no origin": _TEXT.replace("example.com/behind-the-sofa", ""),
    "a leading zero": _TEXT.replace("20852163", "020852163"),
    "a sign": _TEXT.replace("20852163", "+20852163"),
    "digits of another script": _TEXT.replace("20852163", "٣"),
    "a size past 63 bits": _TEXT.replace("20852163", str(2**63)),
    "an empty extension": f"{_TEXT}\nmore\n",
    "a short root": _TEXT.replace("q2I=", "qw=="),
    "a root in another form": _TEXT.replace("q2I=", "q2J="),
    "an empty tree with a root": _TEXT.replace("20852163", "0"),
    "a control character": _TEXT.replace("example", "exam\tple"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_what_is_no_checkpoint_is_refused(case: str) -> None:
    with pytest.raises(InvalidRequest):
        Checkpoint.parse(_BROKEN[case])


def test_the_empty_log_has_a_checkpoint() -> None:
    assert Checkpoint.parse(Checkpoint("o", 0, root([])).text).size == 0


@unhurried
@given(st.text(max_size=120) | st.text(alphabet="0123=\nA", max_size=70))
def test_any_text_is_a_checkpoint_that_reads_back_or_is_refused(text: str) -> None:
    try:
        head = Checkpoint.parse(text)
    except InvalidRequest:
        return
    assert head.text == text


def _countersigned() -> SignedNote:
    return _LOG.sign(_HEAD.text).with_signatures([_WITNESS.cosign(_HEAD, time_s=1679315147)])


def test_a_cosignature_tells_when_and_leaves_the_log_s_own_signature_alone() -> None:
    note = SignedNote.parse(str(_countersigned()))
    _LOG.key.verify(note)
    assert _WITNESS.key.verify(note) == 1679315147
    assert WitnessKey.from_vkey(_WITNESS.key.vkey) == _WITNESS.key


def test_a_key_of_one_kind_is_not_read_as_the_other() -> None:
    with pytest.raises(InvalidRequest):
        WitnessKey.from_vkey(_LOG.key.vkey)
    with pytest.raises(InvalidRequest):
        Ed25519Key.from_vkey(_WITNESS.key.vkey)


def test_a_cosignature_is_of_this_head_at_this_time_by_this_witness() -> None:
    note = _countersigned()
    line = note.by(_WITNESS.key)[0]
    for broken in (
        replace(note, text=replace(_HEAD, size=4).text),
        note.with_signatures([replace(line, signature=(1).to_bytes(8, "big") + line.signature[8:])]),
        note.with_signatures([replace(line, signature=bytes(8) + line.signature[8:])]),
        note.with_signatures([replace(line, signature=line.signature[:7])]),
        note.with_signatures([replace(line, signature=b"\xff" * 8 + line.signature[8:])]),
    ):
        with pytest.raises(LogBroken) as refused:
            _WITNESS.key.verify(broken)
        assert refused.value.reason == "signature.invalid"
    other = WitnessSigner(_WITNESS.key.name, Ed25519PrivateKey.generate())
    with pytest.raises(LogBroken) as refused:
        other.key.verify(note)
    assert refused.value.reason == "cosignature.missing"


def test_a_log_s_signature_is_no_cosignature() -> None:
    signed = NoteSigner(_WITNESS.key.name, Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\2")).sign(_HEAD.text)
    passed_off = NoteSignature(
        _WITNESS.key.name, _WITNESS.key.key_id, bytes(7) + b"\1" + signed.signatures[0].signature
    )
    with pytest.raises(LogBroken):
        _WITNESS.key.verify(signed.with_signatures([passed_off]))
