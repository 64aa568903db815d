from __future__ import annotations

import io
import json
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.errors import NotReady
from cloister.kit.key_set import timed
from cloister.verifier.signing_keys import KeyRing, PinnedKey
from fakes.key_ring import SignedKeys
from fakes.logged import logged
from fakes.results import NOW, VERIFIER, good_result
from fakes.running_services import private_file

__all__ = ["logged"]


class Desk:
    """A folder with the old key's set, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = SignedKeys()
        self.now = NOW
        for key in (self.keys.old, self.keys.new):
            private_file(folder / f"{key.kid}.key", key.to_pem())
        self.publish(self.keys.first())
        self.ring = self.opened()

    def opened(self) -> KeyRing:
        return KeyRing(self.folder, self.keys.signers, issuer=VERIFIER, now=lambda: self.now)

    def publish(self, key_set: bytes) -> None:
        (self.folder / "key_set.json").write_bytes(key_set)

    def at(self, moment: datetime) -> None:
        self.now = moment
        self.ring.look()

    def published(self) -> set[str]:
        return {key["kid"] for key in json.loads(self.ring.jwks())["keys"]}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.attack("J08")
def test_a_key_is_published_before_it_signs_and_after_it_signed_and_then_gone(desk: Desk) -> None:
    old, new, turn = desk.keys.old.kid, desk.keys.new.kid, desk.keys.turns_at
    assert (desk.ring.at(NOW).kid, desk.published()) == (old, {old})
    desk.publish(desk.keys.second())
    desk.at(NOW + timedelta(minutes=1))
    assert (desk.ring.at(desk.now).kid, desk.published()) == (old, {old, new})
    desk.at(turn)
    assert (desk.ring.at(desk.now).kid, desk.published()) == (new, {old, new})
    desk.at(turn + timedelta(minutes=59))
    assert desk.published() == {old, new}
    desk.at(turn + timedelta(hours=1, seconds=31))
    assert (desk.ring.at(desk.now).kid, desk.published()) == (new, {new})


def test_a_result_that_is_signed_a_little_late_is_signed_by_the_key_of_its_time(desk: Desk) -> None:
    desk.publish(desk.keys.second())
    desk.at(desk.keys.turns_at + timedelta(seconds=5))
    assert desk.ring.at(desk.keys.turns_at - timedelta(seconds=1)).kid == desk.keys.old.kid


def test_the_private_half_of_a_retired_key_is_erased(desk: Desk) -> None:
    path = desk.folder / f"{desk.keys.old.kid}.key"
    desk.publish(desk.keys.second())
    desk.at(desk.keys.turns_at + timedelta(seconds=59))
    assert path.exists()
    desk.at(desk.keys.turns_at + timedelta(seconds=60))
    assert not path.exists()
    with pytest.raises(NotReady):
        desk.ring.at(desk.keys.turns_at - timedelta(seconds=1))
    assert desk.opened().at(desk.now).kid == desk.keys.new.kid


@pytest.mark.attack("E08")
def test_a_key_that_is_disowned_signs_nothing_more(desk: Desk) -> None:
    new = timed(desk.keys.new.jwk(), NOW - timedelta(minutes=5), NOW + timedelta(days=1))
    desk.publish(desk.keys.write([new], version=2))
    desk.at(NOW)
    assert (desk.ring.at(NOW).kid, desk.published()) == (desk.keys.new.kid, {desk.keys.new.kid})
    with pytest.raises(NotReady):
        desk.ring.at(NOW - timedelta(minutes=6))
    assert not (desk.folder / f"{desk.keys.old.kid}.key").exists()


def test_a_set_that_is_not_signed_as_it_must_be_does_not_replace_what_is_in_force(desk: Desk) -> None:
    for bad in (desk.keys.second(signers=[Ed25519PrivateKey.generate()]), b"{}", desk.keys.first(version=1)):
        desk.publish(bad)
        desk.at(NOW + timedelta(minutes=1))
        assert desk.published() == {desk.keys.old.kid}
    desk.publish(desk.keys.second())
    desk.at(NOW + timedelta(minutes=2))
    assert desk.published() == {desk.keys.old.kid, desk.keys.new.kid}
    desk.publish(desk.keys.first())
    desk.at(NOW + timedelta(minutes=3))
    assert desk.ring.key_set() == desk.keys.second()


def test_a_private_key_that_lies_open_or_is_anothers_is_not_used(desk: Desk) -> None:
    new = desk.folder / f"{desk.keys.new.kid}.key"
    private_file(new, desk.keys.old.to_pem())
    desk.publish(desk.keys.second())
    desk.at(desk.keys.turns_at)
    with pytest.raises(NotReady, match="rotate-key"):
        desk.ring.at(desk.now)
    private_file(new, desk.keys.new.to_pem(), mode=0o644)
    desk.ring.look()
    with pytest.raises(NotReady):
        desk.ring.at(desk.now)
    private_file(new, desk.keys.new.to_pem())
    desk.ring.look()
    assert desk.ring.at(desk.now).kid == desk.keys.new.kid


def test_the_end_of_the_last_key_is_told_in_time_and_once(desk: Desk, logged: io.StringIO) -> None:
    for days in (100, 160, 161):
        desk.at(NOW + timedelta(days=days))
    assert logged.getvalue().count("signing_key.ending") == 1


def test_without_a_key_that_signs_the_verifier_does_not_start(desk: Desk) -> None:
    desk.now += timedelta(days=400)
    with pytest.raises(NotReady) as refused:
        desk.opened()
    assert refused.value.reason == "signing_key.ended"
    (desk.folder / "key_set.json").unlink()
    with pytest.raises(NotReady):
        desk.opened()


def test_a_stock_library_verifies_what_is_signed_by_what_is_published(desk: Desk) -> None:
    desk.publish(desk.keys.second())
    desk.at(desk.keys.turns_at)
    for keys in (desk.ring, PinnedKey(desk.keys.old)):
        token = ear.issue(good_result(), keys.at(desk.now))
        published = jwt.PyJWKSet.from_json(keys.jwks())
        kid = jwt.get_unverified_header(token)["kid"]
        claims = jwt.decode(
            token,
            published[kid].key,
            algorithms=["ES256"],
            audience="provisioner",
            options={"verify_exp": False, "verify_iat": False},
        )
        assert claims["iss"] == VERIFIER
