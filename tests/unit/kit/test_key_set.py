from __future__ import annotations

import json
from datetime import UTC, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse, ear
from cloister.ear import SigningKey
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.kit.key_set import MAX_KEYS, PAYLOAD_TYPE, KeySigners, SignedKeySet, timed
from fakes.key_ring import SignedKeys, public
from fakes.results import NOW, VERIFIER, good_result
from fakes.sealed import flipped


@pytest.fixture
def ring() -> SignedKeys:
    return SignedKeys()


def read(ring: SignedKeys, envelope: bytes) -> SignedKeySet:
    return SignedKeySet.read(envelope, ring.signers, issuer=VERIFIER)


def test_a_set_says_which_keys_sign_and_when(ring: SignedKeys) -> None:
    found = read(ring, ring.second())
    assert found.version == 2
    assert found.keys.thumbprints == {ring.old.kid, ring.new.kid}
    assert found.keys.signs_at(ring.old.kid, ring.turns_at - timedelta(seconds=1))
    assert not found.keys.signs_at(ring.old.kid, ring.turns_at)
    assert found.keys.signs_at(ring.new.kid, ring.turns_at)


def test_what_is_published_loses_a_key_once_nothing_that_it_signed_is_left(ring: SignedKeys) -> None:
    found = read(ring, ring.second())
    kids = [{key["kid"] for key in json.loads(found.published(since))["keys"]} for since in (NOW, ring.turns_at)]
    assert kids == [{ring.old.kid, ring.new.kid}, {ring.new.kid}]


@pytest.mark.attack("E09")
def test_a_set_by_strangers_is_refused(ring: SignedKeys) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(ring, ring.first(signers=[Ed25519PrivateKey.generate()]))
    assert refused.value.reason == "verifier_keys.refused"


@pytest.mark.attack("E08")
def test_the_verifiers_own_keys_name_no_other_key(ring: SignedKeys) -> None:
    """A signing key that leaked after it retired introduces nothing: it is not among those who may."""
    thief = Ed25519PrivateKey.generate()
    with pytest.raises(InvalidRequest):
        read(
            ring, ring.write([timed(SigningKey(thief).jwk(), NOW, NOW + timedelta(days=1))], version=9, signers=[thief])
        )


def test_as_many_must_sign_as_the_threshold_says(ring: SignedKeys) -> None:
    other = Ed25519PrivateKey.generate()
    both = KeySigners(frozenset({public(ring.signer), public(other)}), threshold=2)
    with pytest.raises(InvalidRequest, match="2 must"):
        SignedKeySet.read(ring.first(), both, issuer=VERIFIER)
    twice = dsse.countersigned(ring.first(), PAYLOAD_TYPE, other)
    assert SignedKeySet.read(twice, both, issuer=VERIFIER).version == 1


def test_another_verifiers_set_is_refused(ring: SignedKeys) -> None:
    with pytest.raises(InvalidRequest, match="another verifier"):
        read(ring, ring.first(issuer="spiffe://demo.cloister.internal/verifier/other"))


@pytest.mark.parametrize("position", [20, 200, -20])
def test_a_changed_set_is_refused(ring: SignedKeys, position: int) -> None:
    with pytest.raises(InvalidRequest):
        read(ring, flipped(ring.first(), position))


def test_a_set_is_exactly_of_its_form(ring: SignedKeys) -> None:
    good = timed(ring.old.jwk(), NOW, NOW + timedelta(days=1))
    ended = {**good, "exp": good["nbf"]}
    timeless = {name: value for name, value in good.items() if name != "exp"}
    named_wrongly = {**good, "kid": "A" * 43}
    for rows in ([], [ended], [timeless], [named_wrongly], [good] * (MAX_KEYS + 1), "keys"):
        with pytest.raises(InvalidRequest):
            read(ring, ring.write(rows, version=1))  # type: ignore[arg-type]
    for version in (0, -1, True, "1", None):
        with pytest.raises(InvalidRequest):
            read(ring, ring.write([good], version=version))


@pytest.mark.parametrize(
    ("keys", "threshold"), [(frozenset(), 1), (frozenset({"ab" * 32}), 2), (frozenset({"ab" * 32}), 0), ({"XY"}, 1)]
)
def test_signers_that_are_none(keys: frozenset[str], threshold: int) -> None:
    with pytest.raises(InvalidRequest):
        KeySigners(frozenset(keys), threshold)


@pytest.mark.attack("E08")
def test_a_token_issued_outside_its_keys_times_is_refused(ring: SignedKeys) -> None:
    keys = read(ring, ring.second()).keys
    turn = ring.turns_at.astimezone(UTC)

    def checked(key: SigningKey, seconds: int) -> None:
        issued_at = turn + timedelta(seconds=seconds)
        token = ear.issue(good_result(issued_at=issued_at, expires_at=issued_at + timedelta(minutes=5)), key)
        ear.check(token, keys, issuer=VERIFIER, audience="provisioner", now=issued_at, max_life=timedelta(minutes=5))

    checked(ring.old, -1)
    checked(ring.new, 0)
    for key, seconds in ((ring.old, 0), (ring.old, 3600), (ring.new, -1)):
        with pytest.raises(EvidenceRejected) as refused:
            checked(key, seconds)
        assert refused.value.reason == "token.key_retired"
