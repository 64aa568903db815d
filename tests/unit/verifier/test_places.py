"""One platform at two addresses is seen, for as long as both are attested."""

from __future__ import annotations

from cloister.verifier.places import Places

HERE, THERE = b"a" * 32, b"b" * 32


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_workers_of_one_platform_at_one_address_are_one() -> None:
    places = Places(Clock())
    assert places.most() == 0
    for port in (8450, 8451):
        places.seen(HERE, f"10.0.0.1:{port}", life_s=60)
    places.seen(THERE, "10.0.0.2:8450", life_s=60)
    assert places.most() == 1


def test_a_platform_at_two_addresses_is_seen_until_one_of_them_ends() -> None:
    clock = Clock()
    places = Places(clock)
    places.seen(HERE, "10.0.0.1:8450", life_s=300)
    places.seen(HERE, "[fd00::9]:8450", life_s=100)
    assert places.most() == 2
    clock.now += 101
    assert places.most() == 1
    places.seen(HERE, "10.0.0.1:8450", life_s=300)
    assert places.most() == 1
