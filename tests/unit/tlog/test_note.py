"""The first vectors are of golang.org/x/mod/sumdb/note (note_test.go), the second of c2sp.org/signed-note."""

from __future__ import annotations

from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest, LogBroken
from cloister.tlog.note import Ed25519Key, NoteSignature, NoteSigner, SignedNote, strict_b64decode
from fakes.sealed import unhurried

_PETER_SECRET = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
_PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
_ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
_BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
_BY_ENOCH = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
_NOTE = f"{_TEXT}\n{_BY_PETER}{_BY_ENOCH}"


def _peter() -> NoteSigner:
    return NoteSigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(b64decode(_PETER_SECRET)[1:]))


@pytest.mark.parametrize("vkey", [_PETER, _ENOCH])
def test_notes_of_go_verify_and_keys_keep_their_form(vkey: str) -> None:
    key = Ed25519Key.from_vkey(vkey)
    note = SignedNote.parse(_NOTE.encode())
    key.verify(note)
    assert (key.vkey, note.text, str(note)) == (vkey, _TEXT, _NOTE)


def test_we_sign_as_go_signs() -> None:
    signer = _peter()
    assert signer.key.vkey == _PETER
    assert str(signer.sign(_TEXT)) == f"{_TEXT}\n{_BY_PETER}"


def test_the_example_of_the_specification_verifies() -> None:
    note = (
        "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZ"
        "XsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    Ed25519Key.from_vkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k").verify(
        SignedNote.parse(note)
    )


def test_a_text_may_have_empty_lines_of_its_own() -> None:
    note = SignedNote.parse(str(_peter().sign("one\n\n\nfour\n")))
    assert note.text == "one\n\n\nfour\n"
    Ed25519Key.from_vkey(_PETER).verify(note)


def test_signatures_of_strangers_are_kept_and_count_for_nothing() -> None:
    stranger = "— stranger.example/x AAAAAAEC\n"
    note = SignedNote.parse(f"{_TEXT}\n{stranger}{_BY_PETER}")
    Ed25519Key.from_vkey(_PETER).verify(note)
    assert str(note).endswith(f"\n\n{stranger}{_BY_PETER}")
    with pytest.raises(LogBroken) as refused:
        Ed25519Key.from_vkey(_ENOCH).verify(note)
    assert refused.value.reason == "signature.missing"


def test_one_false_signature_of_a_known_key_condemns_the_note() -> None:
    false = str(NoteSignature("PeterNeumann", bytes.fromhex("c74f20a3"), bytes(64)))
    for lines in (false, _BY_PETER + false, false + _BY_PETER):
        with pytest.raises(LogBroken) as refused:
            Ed25519Key.from_vkey(_PETER).verify(SignedNote.parse(f"{_TEXT}\n{lines}"))
        assert refused.value.reason == "signature.invalid"


def test_another_text_does_not_verify() -> None:
    with pytest.raises(LogBroken):
        Ed25519Key.from_vkey(_PETER).verify(SignedNote.parse(_NOTE.replace("answer", "anwser")))


def test_a_newer_signature_of_a_key_takes_the_place_of_its_old_one() -> None:
    note = SignedNote.parse(_NOTE)
    newer = NoteSignature("EnochRoot", bytes.fromhex("af0cfe78"), b"newer")
    assert [each.key_name for each in note.with_signatures([newer]).signatures] == ["PeterNeumann", "EnochRoot"]
    assert note.with_signatures([newer]).signatures[1].signature == b"newer"


_BROKEN = {
    "no signatures": _TEXT,
    "nothing after the empty line": f"{_TEXT}\n",
    "last line does not end": f"{_TEXT}\n{_BY_PETER[:-1]}",
    "control character": f"\x01{_TEXT}\n{_BY_PETER}",
    "carriage return": f"{_TEXT}\n{_BY_PETER}".replace("\n", "\r\n"),
    "not UTF-8": b"\xff" + f"{_TEXT}\n{_BY_PETER}".encode(),
    "lone surrogate": f"\ud800{_TEXT}\n{_BY_PETER}",
    "a name with a space": f"{_TEXT}\n{_BY_PETER.replace('PeterNeumann', 'Peter Neumann')}",
    "a name with a wide space": f"{_TEXT}\n" + _BY_PETER.replace("PeterNeumann", "Peter\u3000Neumann"),
    "a name with a plus": f"{_TEXT}\n{_BY_PETER.replace('PeterNeumann', 'Peter+Neumann')}",
    "no name": f"{_TEXT}\n— {_BY_PETER.split()[2]}\n",
    "another dash": f"{_TEXT}\n{_BY_PETER.replace('—', '-')}",
    "a line that is no signature": f"{_TEXT}\n{_BY_PETER}unexpected\n",
    "base64 with a hole": f"{_TEXT}\n{_BY_PETER.replace('AM=', 'A?=')}",
    "base64 in another form": f"{_TEXT}\n{_BY_PETER.replace('AM=', 'AN=')}",
    "a key id and nothing more": f"{_TEXT}\n— PeterNeumann x08gow==\n",
    "too long": f"{'x' * (64 << 10)}\n\n{_BY_PETER}",
    "too many": f"{_TEXT}\n{_BY_PETER * 65}",
    "empty": "",
    "a line separator": f"{_TEXT}\n{_BY_PETER[:-1]}\u2028{_BY_PETER}",
}


@pytest.mark.parametrize("case", _BROKEN)
def test_what_is_no_note_is_refused(case: str) -> None:
    with pytest.raises(InvalidRequest):
        SignedNote.parse(_BROKEN[case])


@unhurried
@given(st.binary(max_size=200) | st.text(max_size=200) | st.text(alphabet="— \na+=", max_size=60))
def test_anything_is_a_note_that_reads_back_or_is_refused(raw: str | bytes) -> None:
    try:
        note = SignedNote.parse(raw)
    except InvalidRequest:
        return
    assert SignedNote.parse(str(note)) == note


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        _PETER.replace("c74f20a3", "c74f20a4"),
        _PETER.replace("c74f20a3", "C74F20A3"),
        _PETER.replace("+ARpc", "+BBpc"),
        _PETER.replace("PeterNeumann", "Peter Neumann"),
        _PETER[:-4],
        _PETER + "=",
        "+" + _PETER,
    ],
)
def test_what_is_no_key_is_refused(vkey: str) -> None:
    with pytest.raises(InvalidRequest):
        Ed25519Key.from_vkey(vkey)


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "return\r\n", "x" * (64 << 10) + "\n"])
def test_what_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(InvalidRequest):
        _peter().sign(text)


@pytest.mark.parametrize("text", ["A", "AA", "AA==\n", " AAAA", "AB==", "AA-_", "ä==="])
def test_only_the_standard_base64_is_read(text: str) -> None:
    with pytest.raises(InvalidRequest):
        strict_b64decode(text)
