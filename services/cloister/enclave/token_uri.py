"""A key in a PKCS#11 token, as a URI names it (RFC 7512).

    pkcs11:token=signing;object=cloister?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/cloister/pin

What we do not act on is an error, never passed over: it might have been there to tell one key from another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from cloister.errors import InvalidRequest

SCHEME: Final = "pkcs11:"

_PAIR: Final = re.compile(r"([a-z][a-z-]*)=([^=;&?#/ ]*|file:[^=;&?# ]*|/[^=;&?# ]*)")
_KEY: Final = frozenset({"token", "object", "id", "serial"})
_ACCESS: Final = frozenset({"module-path", "pin-source"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """Where a key is, and how to get at it.

    Attributes:
        token: Label of the token.
        serial: Its serial number; empty where any will do.
        object: Label of the key; empty where its `id` tells.
        id: Of the key; empty where its label tells.
        module: The vendor's library.
        pin_file: Holds the PIN, and only we may read it.
    """

    token: str
    serial: str = ""
    object: str = ""
    id: bytes = b""
    module: Path
    pin_file: Path

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """Read a URI; raises InvalidRequest (`signer.malformed`)."""
        path, _, query = text.removeprefix(SCHEME).partition("?")
        key, access = _pairs(path, ";", _KEY), _pairs(query, "&", _ACCESS)
        if "token" not in key or not key.keys() & {"object", "id"} or access.keys() != _ACCESS:
            raise _malformed("it must say token, object or id, module-path and pin-source")
        return cls(
            token=_text(key["token"]),
            serial=_text(key.get("serial", b"")),
            object=_text(key.get("object", b"")),
            id=key.get("id", b""),
            module=Path(_text(access["module-path"])),
            pin_file=Path(_text(access["pin-source"]).removeprefix("file:")),
        )


def _pairs(text: str, separator: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for each in filter(None, text.split(separator)):
        pair = _PAIR.fullmatch(each)
        if pair is None or pair[1] in found:
            raise _malformed("it is not written as RFC 7512 has it")
        if pair[1] == "pin-value":
            raise _malformed("a PIN on the command line is seen by every user; put it into a file, pin-source=file:...")
        if pair[1] not in known:
            raise _malformed(f"'{pair[1]}' means nothing to us")
        found[pair[1]] = unquote_to_bytes(pair[2])
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _malformed("a label is no UTF-8") from None


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"no URI of a signing key in a token: {what}", reason="signer.malformed")
