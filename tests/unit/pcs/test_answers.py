from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.pcs import answers
from cloister.pcs.answers import TCB_INFO_CHAINS, revocation_list, signed_document

SIGNATURE = "ab" * 64
CHAIN = "-----BEGIN CERTIFICATE-----\nMII+/=\n-----END CERTIFICATE-----\n"
HEADERS = {"TCB-Info-Issuer-Chain": quote(CHAIN)}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def cut(body: bytes, headers: dict[str, str] | None = None) -> answers.Signed:
    return signed_document(body, HEADERS if headers is None else headers, "tcbInfo", TCB_INFO_CHAINS)


@given(st.dictionaries(st.text(), JSON), st.integers(0, 4), st.booleans(), st.booleans())
def test_a_document_is_cut_out_as_it_stands(content: Any, indent: int, ascii_only: bool, first: bool) -> None:
    document = json.dumps(content, indent=indent or None, ensure_ascii=ascii_only)
    members = [f'"tcbInfo" : {document}', f'"signature":"{SIGNATURE.upper()}"']
    body = " {" + " ,\n".join(members if first else members[::-1]) + "\t}\r\n"
    try:
        raw = body.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate has no bytes
    found = cut(raw)
    assert (found.document, found.signature, found.issuer_chain) == (document, SIGNATURE, CHAIN)


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"tcbInfo":{},"tcbInfo":{},"signature":"' + SIGNATURE.encode() + b'"}')
@example(b'{"tcbInfo":{},"signature":"' + SIGNATURE.encode() + b'"}x')
@example(b'{"tcbInfo":{},"signature":"' + SIGNATURE.encode() + b'","more":1}')
@example(b'{"tcbInfo":"{}","signature":"' + SIGNATURE.encode() + b'"}')
@example(b'{"tcbInfo":{},"signature":"' + SIGNATURE.encode()[:-2] + b'"}')
@example(b'{"tcbInfo":{},"signature":1}')
@example(b'{"tcbInfo":{}')
@example(b'{"tcbInfo":{},')
@example(b"{1:2}")
@example(b"{" + b"9" * 10_000 + b":1}")
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        cut(body)
    assert refused.value.reason == "pcs.malformed"


GOOD = b'{"tcbInfo":{},"signature":"' + SIGNATURE.encode() + b'"}'


@pytest.mark.parametrize("name", TCB_INFO_CHAINS)
def test_the_chain_is_found_under_either_name(name: str) -> None:
    assert cut(GOOD, {name: quote(CHAIN)}).issuer_chain == CHAIN


@pytest.mark.parametrize("value", [None, "", "%00", "%ff%fe", quote("x" + CHAIN), quote(CHAIN + "A" * 20_000)])
def test_a_chain_that_is_none(value: str | None) -> None:
    assert cut(GOOD).issuer_chain == CHAIN
    with pytest.raises(InvalidRequest, match="TCB-Info-Issuer-Chain"):
        cut(GOOD, {} if value is None else {"TCB-Info-Issuer-Chain": value})


DER = bytes.fromhex("3082000401020304")


@pytest.mark.parametrize(
    "body",
    [
        DER,
        DER.hex().encode(),
        DER.hex().upper().encode() + b"\r\n",
        b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(DER) + b"-----END X509 CRL-----\n",
        b"-----BEGIN X509 CRL-----\r\n" + base64.b64encode(DER) + b"\r\n-----END X509 CRL-----",
    ],
)
def test_revocation_lists_in_every_encoding(body: bytes) -> None:
    assert revocation_list(body) == DER


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"{}",
        b"3082zz",
        b"-----BEGIN X509 CRL-----\nA===\n-----END X509 CRL-----",
        b"-----BEGIN CERTIFICATE",
    ],
)
def test_a_revocation_list_that_is_none(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        revocation_list(body)
    assert refused.value.reason == "pcs.malformed"
