"""Signed notes (c2sp.org/signed-note): text, an empty line, and signature lines that name their keys.

Parsing is strict, and says nothing about who signed: that is for `Ed25519Key.verify` and its like in `cosignature`.
Signatures of keys that the reader does not know are kept as they came, and count for nothing.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import ClassVar, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.errors import InvalidRequest, LogBroken

MAX_NOTE_BYTES: Final = 64 << 10
MAX_SIGNATURES: Final = 64
"""The specification has readers accept 16 at least."""
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
ED25519: Final = 0x01
"""Signature type of a plain Ed25519 signature over the note's text."""

_EM_DASH: Final = "\u2014"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line; `key_name` and `key_id` say whose it claims to be."""

    key_name: str
    key_id: bytes
    signature: bytes = field(repr=False)

    def __str__(self) -> str:
        """The line, with its newline."""
        return f"{_EM_DASH} {self.key_name} {b64encode(self.key_id + self.signature).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> NoteSignature:
        """Read one line, with or without its newline; raises InvalidRequest."""
        parts = line.removesuffix("\n").split(" ")
        if len(parts) != 3 or parts[0] != _EM_DASH:
            raise _malformed("a signature line is a dash, a key's name and a signature")
        check_key_name(parts[1])
        raw = strict_b64decode(parts[2])
        if len(raw) <= KEY_ID_BYTES:
            raise _malformed("a signature is too short")
        return cls(parts[1], raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and its signatures, none of them checked.

    Attributes:
        text: Ends with a newline.
        signatures: One or more, in the order of the note.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __str__(self) -> str:
        """The note, as it was read or is to be written."""
        return f"{self.text}\n{''.join(map(str, self.signatures))}"

    @classmethod
    def parse(cls, raw: str | bytes) -> SignedNote:
        """Read a note.

        Raises:
            InvalidRequest: It is none (`note.malformed`).
        """
        note = _decoded(raw)
        text, separator, lines = note.rpartition("\n\n")
        if not separator or not lines.endswith("\n"):
            raise _malformed("an empty line and signature lines end it")
        signatures = lines[:-1].split("\n")  # and at no other of Unicode's line ends
        if len(signatures) > MAX_SIGNATURES:
            raise _malformed(f"it has more than {MAX_SIGNATURES} signatures")
        return cls(f"{text}\n", tuple(map(NoteSignature.parse, signatures)))

    def with_signatures(self, more: Iterable[NoteSignature]) -> SignedNote:
        """The same text with these signatures too; one of a key that has signed already takes its place."""
        added = {(each.key_name, each.key_id): each for each in more}
        kept = [each for each in self.signatures if (each.key_name, each.key_id) not in added]
        return replace(self, signatures=(*kept, *added.values()))

    def by(self, key: NoteKey) -> list[NoteSignature]:
        """Signatures that claim to be this key's."""
        return [each for each in self.signatures if (each.key_name, each.key_id) == (key.name, key.key_id)]


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that signs notes in some way.

    Attributes:
        name: In signature lines; of a log, its origin.
        public: Ed25519, 32 bytes.
    """

    SIGNATURE_TYPE: ClassVar[int]

    name: str
    public: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        check_public(self.public)

    @property
    def key_id(self) -> bytes:
        """Its short id in signature lines, 4 bytes; no hash to rely on."""
        return key_id(self.name, self.SIGNATURE_TYPE, self.public)

    @property
    def vkey(self) -> str:
        """The key as one word, as verifiers take it."""
        return format_vkey(self.name, self.SIGNATURE_TYPE, self.public)

    @classmethod
    def from_vkey(cls, vkey: str) -> Self:
        """Read such a word; raises InvalidRequest."""
        return cls(*parse_vkey(vkey, cls.SIGNATURE_TYPE))


class Ed25519Key(NoteKey):
    """A public key whose signatures are plain ones over the text."""

    __slots__ = ()
    SIGNATURE_TYPE = ED25519

    def verify(self, note: SignedNote) -> None:
        """Check that this key has signed the note.

        Raises:
            LogBroken: It has not (`signature.missing`), or not this text (`signature.invalid`).
        """
        claimed = note.by(self)
        if not claimed:
            raise LogBroken(f"{self.name} has not signed it with the key that is known", reason="signature.missing")
        for each in claimed:
            verify_ed25519(self.public, each.signature, note.text.encode(), name=self.name)


class NoteSigner:
    """The holder of an Ed25519 key, who signs notes under a name."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.key = Ed25519Key(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        self._private = key

    def sign(self, text: str) -> SignedNote:
        """Sign a text that ends with a newline; raises InvalidRequest for what no note can hold."""
        check_text(text)
        line = NoteSignature(self.key.name, self.key.key_id, self._private.sign(text.encode()))
        return SignedNote(text, (line,))


def key_id(name: str, signature_type: int, public: bytes) -> bytes:
    """The id of a key in signature lines, 4 bytes."""
    return sha256(name.encode() + b"\n" + bytes([signature_type]) + public).digest()[:KEY_ID_BYTES]


def format_vkey(name: str, signature_type: int, public: bytes) -> str:
    """`<name>+<id>+<type and key>`."""
    material = b64encode(bytes([signature_type]) + public).decode()
    return f"{name}+{key_id(name, signature_type, public).hex()}+{material}"


def parse_vkey(vkey: str, signature_type: int) -> tuple[str, bytes]:
    """Name and public key of a vkey.

    Raises:
        InvalidRequest: It is none, or of another type (`vkey.malformed`).
    """
    name, plus, rest = vkey.partition("+")
    stated, another_plus, encoded = rest.partition("+")  # base64 may have a plus of its own
    try:
        material = strict_b64decode(encoded)
    except InvalidRequest:
        raise _malformed_vkey() from None
    if not (plus and another_plus and _KEY_ID.fullmatch(stated)) or len(material) != 1 + KEY_BYTES:
        raise _malformed_vkey()
    public = material[1:]
    if material[0] != signature_type or key_id(name, signature_type, public).hex() != stated:
        raise _malformed_vkey()
    return name, public


def check_key_name(name: str) -> None:
    """Check a key's name; raises InvalidRequest for an empty one, or one with spaces, a plus or control characters."""
    if not name or "+" in name or any(one.isspace() for one in name) or _CONTROL.search(name):
        raise InvalidRequest("a key's name has neither spaces nor a plus in it", reason="key_name.invalid")


def check_public(public: bytes) -> None:
    """Check the length of an Ed25519 public key; raises InvalidRequest."""
    if len(public) != KEY_BYTES:
        raise InvalidRequest(f"an Ed25519 public key is {KEY_BYTES} bytes", reason="key.invalid")


def check_text(text: str) -> None:
    """Check that a note can have this text; raises InvalidRequest."""
    if not text.endswith("\n") or _CONTROL.search(text) or len(text) > MAX_NOTE_BYTES:
        raise _malformed("its text must end with a newline and have no other control characters")


def verify_ed25519(public: bytes, signature: bytes, message: bytes, *, name: str) -> None:
    """Check a signature; raises LogBroken (`signature.invalid`) where it does not hold, naming whose it should be."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise LogBroken(f"the signature of {name} does not hold", reason="signature.invalid") from None


def strict_b64decode(text: str) -> bytes:
    """Decode the one standard base64 form (RFC 4648 section 4) of some bytes; raises InvalidRequest for any other."""
    try:
        raw = b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise _malformed("a part is not base64") from None
    if b64encode(raw).decode() != text:
        raise _malformed("a part is not base64 as it is written")
    return raw


def _decoded(raw: str | bytes) -> str:
    if len(raw) > MAX_NOTE_BYTES:
        raise _malformed("it is too long")
    try:
        note = raw.decode() if isinstance(raw, bytes) else raw.encode().decode()
    except UnicodeError:
        raise _malformed("it is not UTF-8") from None
    if _CONTROL.search(note):
        raise _malformed("it has control characters")
    return note


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"not a signed note: {why}", reason="note.malformed")


def _malformed_vkey() -> InvalidRequest:
    return InvalidRequest("not the verifier key that it should be, name+id+key", reason="vkey.malformed")
