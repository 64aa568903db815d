from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.errors import NotReady
from cloister.kit.verifier_keys import LearnedKeys
from cloister.provisioner.verifier_keys import SignedKeys
from fakes.key_ring import SignedKeys as Ring
from fakes.results import VERIFIER, Clock


class Desk:
    """A file with the first set, and who reads it."""

    def __init__(self, folder: Path) -> None:
        self.ring = Ring()
        self.path = folder / "key_set.json"
        self.publish(self.ring.first())

    def publish(self, key_set: bytes) -> None:
        staged = self.path.with_name("new")
        staged.write_bytes(key_set)
        staged.replace(self.path)

    def opened(self) -> SignedKeys:
        return SignedKeys(self.path, lambda first: LearnedKeys(self.ring.signers, VERIFIER, first, monotonic=Clock()))


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
