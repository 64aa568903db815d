"""A seed in shares and back. The arithmetic is a library's, and its own vectors are with it."""

from __future__ import annotations

from itertools import combinations

import pytest
import shamir_mnemonic

from cloister.errors import InvalidRequest
from cloister.provisioner.recovery.shares import check_words, combined, split
from cloister.seal.keys import Secret

SEED = Secret(bytes(range(32)))


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (2, 2), (2, 3), (3, 5), (16, 16)])
def test_as_many_shares_as_it_takes_give_the_seed_whichever_they_are(threshold: int, count: int) -> None:
    shares = split(SEED, threshold, count)
    assert len(shares) == count
    for chosen in list(combinations(shares, threshold))[:10]:
        assert combined(chosen) == SEED
    for words in shares:
        check_words(words)


def test_too_few_too_many_or_other_shares_give_nothing() -> None:
    shares, others = split(SEED, 3, 5), split(SEED, 3, 5)
    for wrong in ([], shares[:2], shares[:4], [shares[0], *shares[:2]], [*shares[:2], others[2]]):
        with pytest.raises(InvalidRequest) as refused:
            combined(wrong)
        assert refused.value.reason == "share.other"


def test_words_that_are_no_share_of_a_seed_are_malformed() -> None:
    words = split(SEED, 2, 3)[0].reveal().decode().split()
    (short,) = shamir_mnemonic.generate_mnemonics(1, [(2, 3)], bytes(16), iteration_exponent=0)
    groups = shamir_mnemonic.generate_mnemonics(2, [(2, 3), (2, 3)], bytes(32), iteration_exponent=0)
    for wrong in (
        "",
        "no such words at all",
        " ".join(words[:-1]),
        " ".join([*words[:-1], "zero" if words[-1] != "zero" else "acid"]),
        short[0],
        groups[0][0],
        "\N{SNOWMAN}",
    ):
        with pytest.raises(InvalidRequest) as refused:
            check_words(Secret(wrong.encode()))
        assert refused.value.reason == "share.malformed"
