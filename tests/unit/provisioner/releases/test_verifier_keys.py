from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.ear import SigningKey
from cloister.errors import NotReady, Unavailable
from cloister.kit.verifier_keys import LearnedKeys
from cloister.provisioner.releases.verifier_keys import PinnedKeys, SignedKeys
from fakes.hostile_files import written_unseen
from fakes.key_ring import SignedKeys as Ring
from fakes.results import VERIFIER, Clock


class Desk:
    """A file with the first set, and who reads it."""

    def __init__(self, folder: Path) -> None:
        self.ring = Ring()
        self.path = folder / "key_set.json"
        self.kept = folder / "state" / "verifier-keys.json"
        self.kept.parent.mkdir()
        self.publish(self.ring.first())

    def publish(self, key_set: bytes) -> None:
        staged = self.path.with_name("new")
        staged.write_bytes(key_set)
        staged.replace(self.path)

    def opened(self) -> SignedKeys:
        return SignedKeys(
            self.path,
            lambda first: LearnedKeys(self.ring.signers, VERIFIER, first, monotonic=Clock()),
            self.kept,
            look_every_s=0.0,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.attack("J08")
def test_a_newer_set_in_the_file_is_learned(desk: Desk) -> None:
    keys = desk.opened()
    assert keys.current().thumbprints == {desk.ring.old.kid}
    desk.publish(desk.ring.second())
    assert keys.current().thumbprints == {desk.ring.old.kid, desk.ring.new.kid}
    desk.publish(desk.ring.first())  # and an older one is not
    assert keys.current().thumbprints == {desk.ring.old.kid, desk.ring.new.kid}


@pytest.mark.attack("I01")
def test_a_newer_set_is_learned_where_stat_shows_no_change(desk: Desk) -> None:
    written_unseen(desk.path, desk.ring.first(), 8192)
    keys = desk.opened()
    written_unseen(desk.path, desk.ring.second(), 8192)
    assert keys.current().thumbprints == {desk.ring.old.kid, desk.ring.new.kid}


@pytest.mark.attack("I04")
def test_an_older_set_put_back_before_a_restart_brings_no_disowned_key_back(desk: Desk) -> None:
    desk.publish(desk.ring.second())
    assert desk.opened().current().thumbprints == {desk.ring.old.kid, desk.ring.new.kid}
    desk.publish(desk.ring.first())
    for _ in range(2):
        assert desk.opened().current().thumbprints == {desk.ring.old.kid, desk.ring.new.kid}


@pytest.mark.attack("I04")
def test_a_set_that_the_verifier_told_of_is_remembered_before_anything_is_judged_by_it(desk: Desk) -> None:
    keys = desk.opened()
    keys.learned.learn(desk.ring.second())
    assert desk.ring.new.kid in keys.current().thumbprints
    assert desk.ring.new.kid in desk.opened().current().thumbprints
    assert desk.kept.stat().st_mode & 0o077 == 0


@pytest.mark.attack("I04")
def test_what_cannot_be_remembered_is_not_judged_by(desk: Desk) -> None:
    keys = desk.opened()
    desk.kept.parent.rename(desk.kept.parent.with_name("gone"))
    keys.learned.learn(desk.ring.second())
    with pytest.raises(Unavailable):
        keys.current()


@pytest.mark.attack("I04")
def test_a_spoilt_memory_is_said_and_not_begun_anew(desk: Desk) -> None:
    desk.opened()
    desk.kept.write_bytes(b"{}")
    with pytest.raises(NotReady, match="verifier-keys"):
        desk.opened()


@pytest.mark.attack("E09")
def test_a_set_of_somebody_elses_changes_nothing(desk: Desk) -> None:
    keys = desk.opened()
    for bad in (desk.ring.second(signers=[Ed25519PrivateKey.generate()]), b"", b"{}", b" " * 300_000):
        desk.publish(bad)
        assert keys.current().thumbprints == {desk.ring.old.kid}
    desk.path.unlink()
    assert keys.current().thumbprints == {desk.ring.old.kid}
    desk.publish(desk.ring.second())
    assert desk.ring.new.kid in keys.current().thumbprints


def test_without_a_set_that_is_signed_it_does_not_start(desk: Desk) -> None:
    desk.publish(desk.ring.first(signers=[Ed25519PrivateKey.generate()]))
    with pytest.raises(NotReady, match="verifier_keys"):
        desk.opened()


@pytest.mark.parametrize(("look_every_s", "found"), [(3600.0, "old"), (0.0, "new")])
def test_the_file_is_looked_at_no_more_often_than_was_said(desk: Desk, look_every_s: float, found: str) -> None:
    pinned = [desk.ring.old.kid, desk.ring.new.kid]
    keys = PinnedKeys(jwks(desk, desk.ring.old), pinned, look_every_s=look_every_s)
    jwks(desk, desk.ring.new)
    assert keys.current().thumbprints == {getattr(desk.ring, found).kid}


def jwks(desk: Desk, key: SigningKey) -> Path:
    """A plain set with one key, in the place of what was there."""
    path = desk.path.with_name("jwks.json")
    path.write_text(json.dumps({"keys": [key.jwk()]}))
    return path
