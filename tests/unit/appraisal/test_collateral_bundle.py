from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from cloister import dsse
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.collateral_bundle import FORMAT, MAX_FAMILIES, TYPE, CollateralBundle, read
from cloister.errors import InvalidRequest
from fakes.held_collateral import bundle, other_family
from fakes.sim import simulated_platform

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
SIGNER = KEY.public_key().public_bytes_raw().hex()


def one_family() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(simulated_platform().collateral())
    return found


def good(**changes: Any) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": 3,
        "issued_at": "2026-11-25T12:00:00Z",
        "collaterals": [one_family()],
        **changes,
    }


def test_a_bundle_holds_what_was_put_into_it() -> None:
    platform = simulated_platform()
    found = read(bundle(3, platform, other_family(platform), now=NOW).signed([KEY]), [SIGNER])
    assert found.bundle is not None
    assert (found.bundle.version, found.bundle.issued_at, found.signers) == (3, NOW, {SIGNER})
    documents = {Collateral.parse(raw).tcb_info_document for raw in found.collaterals}
    assert Collateral.parse(platform.collateral()).tcb_info_document in documents
    assert len(documents) == 2


def test_collateral_of_one_family_is_read_as_it_is() -> None:
    raw = simulated_platform().collateral()
    assert read(raw).collaterals == (raw,)


@pytest.mark.attack("J07")
@pytest.mark.parametrize(
    ("keys", "threshold", "enough"), [(0, 1, False), (1, 1, True), (1, 2, False), (2, 2, True)], ids=str
)
def test_enough_of_the_trusted_must_have_signed(keys: int, threshold: int, enough: bool) -> None:
    trusted = [Ed25519PrivateKey.generate() for _ in range(3)]
    stranger = Ed25519PrivateKey.generate()
    raw = bundle(1, simulated_platform(), now=NOW).signed([stranger, *trusted[:keys]])
    names = [key.public_key().public_bytes_raw().hex() for key in trusted]
    if enough:
        assert read(raw, names, threshold).bundle is not None
        return
    with pytest.raises(InvalidRequest) as refused:
        read(raw, names, threshold)
    assert refused.value.reason == "signature.insufficient"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "cloister-collateral-bundle-2"}, "format"),
        ({"version": -1}, "version"),
        ({"version": 1.5}, "JSON"),
        ({"issued_at": "yesterday"}, "issued_at"),
        ({"collaterals": []}, "collaterals"),
        ({"collaterals": ["text"]}, "collaterals"),
        ({"collaterals": [{"tcb_info": "x" * 300_000}]}, "too large"),
        ({"collaterals": [{}] * (MAX_FAMILIES + 1)}, "collaterals"),
        ({"more": 1}, "more"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bundle_that_is_none(changes: dict[str, Any], said: str) -> None:
    CollateralBundle.parse(json.dumps(good()).encode())
    raw = dsse.sign(json.dumps(good(**changes)).encode(), TYPE, [KEY])
    with pytest.raises(InvalidRequest, match=said):
        read(raw, [SIGNER])


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
@example(b'{"payloadType":1}')
@example(b"[" * 100_000)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for whole in (raw, dsse.sign(raw, TYPE, [KEY])):
        try:
            found = read(whole, [SIGNER] if whole is not raw else [])
        except InvalidRequest:
            continue
        assert found.collaterals == (raw,)  # it does not look like a bundle, and is not parsed here


def test_a_signed_document_of_another_kind_is_no_bundle() -> None:
    raw = dsse.sign(json.dumps(good()).encode(), "application/vnd.cloister.policy+toml", [KEY])
    with pytest.raises(InvalidRequest) as refused:
        read(raw, [SIGNER])
    assert refused.value.reason == "signature.malformed"
