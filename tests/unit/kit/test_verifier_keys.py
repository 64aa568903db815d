from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.ear import SigningKey
from cloister.errors import InvalidRequest, Unavailable
from cloister.kit.verifier_keys import LearnedKeys
from fakes.key_ring import SignedKeys
from fakes.results import VERIFIER, Clock, good_result


class Desk:
    """A relying party that knows version 1, and a verifier that serves what a test says."""

    def __init__(self) -> None:
        self.ring = SignedKeys()
        self.clock = Clock()
        self.known = LearnedKeys(self.ring.signers, VERIFIER, self.ring.first(), monotonic=self.clock)
        self.served = self.ring.second()
        self.asked = 0
        self.error: Exception | None = None

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.served

    async def look_for(self, key: SigningKey) -> bool:
        """Look for the key of a token; says whether it is known afterwards."""
        token = ear.issue(good_result(), key)
        await self.known.look_for(token, self.fetch)
        return self.known.knows(token)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.attack("E08")
async def test_a_new_key_is_known_after_one_look(desk: Desk) -> None:
    assert await desk.look_for(desk.ring.old)
    assert desk.asked == 0
    assert await desk.look_for(desk.ring.new)
    assert await desk.look_for(desk.ring.new)
    assert desk.asked == 1


@pytest.mark.attack("E08")
async def test_a_crowd_of_unknown_keys_makes_us_ask_once_in_ten_seconds(desk: Desk) -> None:
    desk.served = desk.ring.first()
    for _ in range(50):
        assert not await desk.look_for(SigningKey.generate())
    assert desk.asked == 1
    desk.clock.pass_s(9.9)
    assert not await desk.look_for(desk.ring.new)
    desk.clock.pass_s(0.2)
    desk.served = desk.ring.second()
    assert await desk.look_for(desk.ring.new)
    assert desk.asked == 2


async def test_a_verifier_that_cannot_be_asked_changes_nothing(desk: Desk) -> None:
    for error in (Unavailable("away"), TimeoutError()):
        desk.error = error
        assert not await desk.look_for(desk.ring.new)
        desk.clock.pass_s(11)
    assert desk.known.newest.version == 1


@pytest.mark.attack("E09")
async def test_a_set_that_its_signers_did_not_sign_is_not_learned(desk: Desk) -> None:
    desk.served = desk.ring.second(signers=[Ed25519PrivateKey.generate()])
    assert not await desk.look_for(desk.ring.new)
    with pytest.raises(InvalidRequest):
        desk.known.learn(desk.served)
    assert desk.known.newest.version == 1


@pytest.mark.attack("E08")
def test_an_older_set_does_not_come_back(desk: Desk) -> None:
    assert desk.known.learn(desk.ring.second())
    assert not desk.known.learn(desk.ring.first())
    assert not desk.known.learn(desk.ring.second())
    assert not desk.known.learn(b"")
    assert desk.known.newest.version == 2


async def test_what_is_no_token_asks_nobody(desk: Desk) -> None:
    await desk.known.look_for("not a token", desk.fetch)
    assert desk.asked == 0
