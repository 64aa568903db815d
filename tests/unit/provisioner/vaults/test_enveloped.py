"""A root key that is elsewhere: what goes out, what comes back, and what becomes of those who wait (attack F11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloister.errors import CloisterError, NotReady, SealBroken, Unavailable
from cloister.provisioner.vaults.enveloped import EnvelopedVault
from cloister.provisioner.vaults.guard import MOST_CALLS, PAUSE_S, Guard
from cloister.provisioner.vaults.vault import Vault
from fakes.key_keeper import KeyKeeperElsewhere
from fakes.results import Clock
from fakes.vault_contract import KEY, RECORD, VaultContract

NOT_THE_KEY: dict[str, Callable[[bytes], bytes]] = {
    "another": lambda key: bytes(len(key)),
    "half": lambda key: key[:16],
    "none": lambda key: b"",
    "more": lambda key: key + b"\0",
}


@pytest.fixture
def keeper() -> Iterator[KeyKeeperElsewhere]:
    made = KeyKeeperElsewhere()
    yield made
    made.answering.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(keeper: KeyKeeperElsewhere, clock: Clock) -> EnvelopedVault:
    return EnvelopedVault(keeper, Guard("elsewhere", deadline_s=20, monotonic=clock))


@pytest.fixture
def impatient(keeper: KeyKeeperElsewhere, clock: Clock) -> EnvelopedVault:
    return EnvelopedVault(keeper, Guard("elsewhere", deadline_s=0.02, monotonic=clock))


class TestEnveloped(VaultContract):
    """The contract, over the fixture above."""


def test_who_keeps_the_root_key_sees_neither_secret_nor_record(
    vault: Vault, keeper: KeyKeeperElsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(keeper, "said", lambda key: seen.append(key) or key)
    vault.unwrap(RECORD, vault.wrap(RECORD, KEY))
    assert {len(key) for key in seen} == {32}
    assert KEY.reveal() not in seen
    assert {len(aad) for aad in keeper.told} == {32}


def test_each_secret_has_a_key_of_its_own(vault: Vault, keeper: KeyKeeperElsewhere) -> None:
    seen: list[bytes] = []
    keeper.said = lambda key: seen.append(key) or key  # type: ignore[func-returns-value]
    for _ in range(3):
        vault.wrap(RECORD, KEY)
    assert len(set(seen)) == 3


@pytest.mark.attack("F11")
@pytest.mark.parametrize("said", NOT_THE_KEY)
def test_no_part_of_a_secret_comes_of_a_key_that_is_not_the_one(
    vault: Vault, keeper: KeyKeeperElsewhere, said: str
) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    keeper.said = NOT_THE_KEY[said]
    with pytest.raises((NotReady, SealBroken)) as refused:
        vault.unwrap(RECORD, wrapped)
    assert isinstance(refused.value, CloisterError)
    assert refused.value.retryable is False
    keeper.said = bytes
    assert vault.unwrap(RECORD, wrapped) == KEY


@pytest.mark.attack("F11")
@pytest.mark.parametrize("said", NOT_THE_KEY)
def test_nothing_is_kept_under_a_key_that_does_not_come_back(
    vault: Vault, keeper: KeyKeeperElsewhere, said: str
) -> None:
    keeper.said = NOT_THE_KEY[said]
    with pytest.raises(NotReady) as refused:
        vault.wrap(RECORD, KEY)
    assert refused.value.reason == "vault.refused"


@pytest.mark.attack("F11")
def test_a_back_end_that_is_down_is_asked_again_when_a_moment_has_passed(
    vault: Vault, keeper: KeyKeeperElsewhere, clock: Clock
) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    keeper.down = True
    with pytest.raises(Unavailable) as refused:
        vault.unwrap(RECORD, wrapped)
    assert (refused.value.reason, refused.value.retryable) == ("vault.unavailable", True)
    keeper.down, asked = False, keeper.asked
    with pytest.raises(Unavailable, match="a moment ago"):
        vault.unwrap(RECORD, wrapped)
    assert keeper.asked == asked
    clock.pass_s(PAUSE_S)
    assert vault.unwrap(RECORD, wrapped) == KEY


@pytest.mark.attack("F11")
def test_nobody_waits_longer_than_the_deadline_for_one_that_never_answers(
    vault: Vault, impatient: Vault, keeper: KeyKeeperElsewhere, clock: Clock
) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    keeper.answering.clear()
    before = keeper.asked
    for _ in range(3 * MOST_CALLS):
        clock.pass_s(PAUSE_S)
        with pytest.raises(Unavailable, match=r"within 0\.02 s"):
            impatient.unwrap(RECORD, wrapped)
    assert keeper.asked - before == MOST_CALLS
    keeper.answering.set()
    assert vault.unwrap(RECORD, wrapped) == KEY


@pytest.mark.attack("F11")
def test_a_crowd_that_asks_what_never_answers_is_soon_told_so(
    vault: Vault, impatient: Vault, keeper: KeyKeeperElsewhere
) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    keeper.answering.clear()

    def outcome(_: int) -> str:
        with pytest.raises(Unavailable) as refused:
            impatient.unwrap(RECORD, wrapped)
        return refused.value.reason

    with ThreadPoolExecutor(8) as crowd:
        assert set(crowd.map(outcome, range(200))) == {"vault.unavailable"}


def test_what_it_raises_reaches_who_asked(vault: Vault) -> None:
    guard = Guard("elsewhere", deadline_s=20)
    with pytest.raises(ZeroDivisionError):
        guard.call(lambda: 1 // 0)
    assert guard.call(lambda: 7) == 7
