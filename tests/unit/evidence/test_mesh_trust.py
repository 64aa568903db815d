"""What a verifier stands for: one digest for all of it, and one form to read it from."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.ear import SigningKey
from cloister.errors import InvalidRequest
from cloister.evidence.mesh_trust import MAX_BYTES, MeshTrust, root_ders
from cloister.tlog.cosignature import WitnessKey
from fakes.pki import MeshPki
from fakes.public_verifier import sample_trust
from fakes.sealed import unhurried
from fakes.sim import simulated_platform

TRUST = sample_trust(simulated_platform(), MeshPki(), SigningKey.generate())


def plain(**changes: Any) -> bytes:
    return json.dumps({**json.loads(TRUST.to_json()), **changes}).encode()


def test_it_comes_back_as_it_was() -> None:
    read = MeshTrust.from_json(TRUST.to_json())
    assert replace(read, jwks=TRUST.jwks) == TRUST
    assert json.loads(read.jwks) == json.loads(TRUST.jwks)
    assert read.digest() == TRUST.digest()


def test_the_digest_is_the_one_that_is_written_down() -> None:
    """As its docstring says, with nothing of ours but the hash."""
    (root,) = root_ders(TRUST.root_ca_pem)
    said = {
        "v": 1,
        "ca": [sha256(root).digest()],
        "jwks": sorted(TRUST.thumbprints),
        "policy": ["default", 0, TRUST.policy_digest],
        "anchor": sha256(TRUST.anchor_root_der).digest(),
    }
    assert TRUST.digest() == sha256(cbor2.dumps(said, canonical=True)).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"root_ca_pem": MeshPki().roots_pem.decode()},
        {"root_ca_pem": TRUST.root_ca_pem + MeshPki().roots_pem.decode()},
        {"thumbprints": frozenset({SigningKey.generate().kid})},
        {"thumbprints": TRUST.thumbprints | {SigningKey.generate().kid}},
        {"policy_digest": bytes(32)},
        {"policy_id": "other"},
        {"policy_version": 1},
        {"anchor_root_der": b"another"},
        {"key_signers": frozenset({"ab" * 32}), "key_set": b"{}"},
    ],
    ids=[
        "another root",
        "a root more",
        "another key",
        "a key more",
        "another policy",
        "its name",
        "its version",
        "another anchor",
        "people who name its keys",
    ],
)
def test_whatever_a_client_relies_on_moves_the_digest(change: dict[str, Any]) -> None:
    assert replace(TRUST, **change).digest() != TRUST.digest()


def test_people_who_name_the_keys_come_back_as_they_were_and_each_moves_the_digest() -> None:
    named = replace(TRUST, key_signers=frozenset({"ab" * 32, "cd" * 32}), key_threshold=2, key_set=b'{\n  "a": 1\n}')
    assert MeshTrust.from_json(named.to_json()) == named
    others = (
        replace(named, key_threshold=1),
        replace(named, key_signers=frozenset({"ab" * 32})),
        replace(named, key_set=b'{"a": 0}'),  # an older set, in which a key counts that was withdrawn since
    )
    assert len({each.digest() for each in (named, TRUST, *others)}) == 5
    assert replace(named, key_set=b'{"a":1}').digest() == named.digest()


def test_the_key_that_it_witnesses_with_is_vouched_for_too() -> None:
    vkeys = [WitnessKey("mesh.example/verifier", bytes(31) + bytes([last])).vkey for last in (1, 2)]
    named = [replace(TRUST, witness=vkey) for vkey in vkeys]
    read = MeshTrust.from_json(named[0].to_json())
    assert (read.witness, read.digest()) == (vkeys[0], named[0].digest())
    assert len({each.digest() for each in (TRUST, *named)}) == 3
    for wrong in ("", "a word", vkeys[0][:-4], 7, None):
        with pytest.raises(InvalidRequest):
            MeshTrust.from_json(plain(witness=wrong))


@pytest.mark.parametrize("named_by", [{}, [], {"signers": [], "threshold": 1}, {"signers": ["ab"], "threshold": "1"}])
def test_people_who_are_not_named_as_they_must_be(named_by: object) -> None:
    content = {**json.loads(TRUST.to_json()), "keys_named_by": named_by, "key_set": {}}
    with pytest.raises(InvalidRequest):
        MeshTrust.from_json(json.dumps(content).encode())


def test_the_order_of_roots_does_not_matter() -> None:
    other = MeshPki().roots_pem.decode()
    both = replace(TRUST, root_ca_pem=TRUST.root_ca_pem + other)
    assert both.digest() == replace(TRUST, root_ca_pem=other + TRUST.root_ca_pem).digest()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 5000,
        plain(format="cloister mesh trust v2"),
        plain(more=1),
        plain(cluster=1),
        plain(root_ca_pem="none"),
        plain(thumbprints="abc"),
        plain(thumbprints=[1]),
        plain(policy={"id": "a", "version": 0}),
        plain(policy={"id": "a", "version": True, "digest": "ab" * 32}),
        plain(policy={"id": "a", "version": -1, "digest": "ab" * 32}),
        plain(policy={"id": "a", "version": 0, "digest": "ab"}),
        plain(policy={"id": "a", "version": 0, "digest": "zz" * 32}),
        plain(policy={"id": "\ud800", "version": 0, "digest": "ab" * 32}),
        plain(policy={"id": "a\nmrenclave  " + "ab" * 32, "version": 0, "digest": "ab" * 32}),
        plain(anchor_root_der="!"),
        b" " * MAX_BYTES + TRUST.to_json(),
    ],
    ids=range(19),
)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        MeshTrust.from_json(raw)
    assert refused.value.reason == "mesh_trust.malformed"


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        MeshTrust.from_json(raw)
