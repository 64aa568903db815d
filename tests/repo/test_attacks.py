"""docs/attacks.md and the marks of the tests say the same."""

from __future__ import annotations

import pytest

from fakes.catalogue import catalogue, played

SECTIONS = {"A": 23, "B": 18, "C": 13, "D": 14, "E": 11}
IDS = [f"{section}{number:02}" for section, last in SECTIONS.items() for number in range(1, last + 1)]


@pytest.mark.parametrize("identifier", IDS)
def test_an_attack_is_played_or_says_why_not(identifier: str) -> None:
    assert identifier in catalogue(), f"give {identifier} a row in docs/attacks.md"
    _, reason = catalogue()[identifier]
    tests = played().get(identifier, [])
    if tests:
        assert not reason, f"{identifier} is played by {tests[0]}: take the reason out of docs/attacks.md"
    else:
        assert reason, f'mark a test @pytest.mark.attack("{identifier}"), or say in docs/attacks.md why there is none'


def test_no_test_plays_an_attack_that_nobody_described() -> None:
    unknown = {identifier: tests for identifier, tests in played().items() if identifier not in catalogue()}
    assert not unknown, "give these ids a row in docs/attacks.md, or correct the marks"


def test_every_row_of_a_later_section_is_played() -> None:
    for identifier, (_, reason) in catalogue().items():
        assert identifier in IDS or played().get(identifier) or reason, identifier
