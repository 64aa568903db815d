"""What the service answers: issuer chains in headers, documents inside JSON, revocation lists in three encodings.

A signature is over the exact bytes of a document, so a document is cut out of its answer and never written anew. The
documents themselves are not read here.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from cloister.errors import InvalidRequest

# Version 4 names it without a prefix; version 3 and some caches with.
TCB_INFO_CHAINS: Final = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
QE_IDENTITY_CHAINS: Final = ("SGX-Enclave-Identity-Issuer-Chain",)
PCK_CRL_CHAINS: Final = ("SGX-PCK-CRL-Issuer-Chain",)

_MAX_CHAIN_BYTES: Final = 16 * 1024
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_PEM_CRL: Final = re.compile(
    rb"\s*-----BEGIN X509 CRL-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END X509 CRL-----\s*", re.DOTALL
)
_HEX: Final = re.compile(rb"\s*((?:[0-9A-Fa-f]{2})+)\s*")


@dataclass(frozen=True, slots=True)
class Signed:
    """A document as it was served, its signature (64 bytes, r and s) in hex, and the chain of who signed it in PEM."""

    document: str
    signature: str
    issuer_chain: str


def signed_document(body: bytes, headers: Mapping[str, str], name: str, chains: tuple[str, ...]) -> Signed:
    """Cut a signed document out of an answer.

    Args:
        body: The answer.
        headers: Its headers, by names of any case.
        name: Member that the document is: `tcbInfo` or `enclaveIdentity`.
        chains: Headers that may hold the issuer chain.

    Raises:
        InvalidRequest: The answer is something else (`pcs.malformed`); the message says what.
    """
    members = _members(body)
    if members.keys() != {name, "signature"}:
        raise _malformed(f"it is not an object of {name} and signature")
    document, signature = members[name], members["signature"]
    if not document.startswith("{") or not re.fullmatch(r'"[0-9A-Fa-f]{128}"', signature):
        raise _malformed(f"{name} is not an object, or its signature is not 64 bytes in hex")
    return Signed(document, signature.strip('"').lower(), issuer_chain(headers, chains))


def issuer_chain(headers: Mapping[str, str], chains: tuple[str, ...]) -> str:
    """Return the PEM chain that a header holds in URL encoding.

    Raises:
        InvalidRequest: There is none, or it is something else (`pcs.malformed`).
    """
    value = next((headers[name] for name in chains if name in headers), None)
    if value is None:
        raise _malformed(f"it has no header {chains[0]}")
    try:
        pem = unquote_to_bytes(value).decode("ascii")
    except UnicodeDecodeError as error:
        raise _malformed(f"its header {chains[0]} is not in URL encoding") from error
    if len(pem) > _MAX_CHAIN_BYTES or not pem.startswith("-----BEGIN CERTIFICATE-----"):
        raise _malformed(f"its header {chains[0]} holds no certificates")
    return pem


def revocation_list(body: bytes) -> bytes:
    """Return a revocation list in DER, from DER, PEM or hex, which a PCCS answers with.

    Raises:
        InvalidRequest: It is none of these (`pcs.malformed`).
    """
    if body.startswith(b"\x30"):
        return body
    if block := _PEM_CRL.fullmatch(body):
        try:
            return binascii.a2b_base64(re.sub(rb"[\r\n]", b"", block[1]), strict_mode=True)
        except binascii.Error as error:
            raise _malformed("its PEM is not base64") from error
    if text := _HEX.fullmatch(body):
        return bytes.fromhex(text[1].decode("ascii"))
    raise _malformed("it is no revocation list in DER, PEM or hex")


def _members(body: bytes) -> dict[str, str]:
    """The members of a JSON object, each as the text that it was served as."""
    try:
        text = body.decode("utf-8")
        members, position = _read_object(text)
    except (ValueError, IndexError, RecursionError) as error:
        raise _malformed("it is not JSON") from error
    if position != len(text):
        raise _malformed("something follows the JSON")
    return members


def _read_object(text: str) -> tuple[dict[str, str], int]:
    decoder, members = json.JSONDecoder(), dict[str, str]()
    position = _token(text, 0, "{")
    while True:
        name, position = decoder.raw_decode(text, position)
        start = _token(text, position, ":")
        _, end = decoder.raw_decode(text, start)
        if not isinstance(name, str) or name in members:
            raise ValueError("a name is not a string, or stands there twice")
        members[name] = text[start:end]
        position = _skip(text, end)
        if text[position] == "}":
            return members, _skip(text, position + 1)
        position = _token(text, position, ",")


def _token(text: str, position: int, wanted: str) -> int:
    """Past this character and the white space around it; raises ValueError or IndexError where it is not next."""
    position = _skip(text, position)
    if text[position] != wanted:
        raise ValueError("another character was to come")
    return _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(what, reason="pcs.malformed")
