"""A recovery key's seed in shares and back: Shamir's scheme over GF(256) as SLIP-39 has it, by Trezor's own library.

Each share has a checksum of its own (RS1024), and a shared digest says whether shares belong together. What the library
does in Python strings and integers stays in memory until Python uses it again, and takes a time that depends on it: so
it is done in the provisioner's process only, when a key is dealt and when it is restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import shamir_mnemonic
from shamir_mnemonic import MnemonicError

from cloister.errors import InvalidRequest
from cloister.seal.hpke import SEED_BYTES
from cloister.seal.keys import Secret

_ITERATION_EXPONENT: Final = 0  # it slows down guesses of a passphrase, and there is none


def split(seed: Secret, threshold: int, count: int) -> list[Secret]:
    """Return the words of `count` shares, any `threshold` of which give the seed.

    Raises:
        ValueError: No such shares can be made (`kit.recovery_cards.check_holders` says which can).
    """
    (group,) = shamir_mnemonic.generate_mnemonics(
        1, [(threshold, count)], seed.reveal(), iteration_exponent=_ITERATION_EXPONENT
    )
    return [Secret(words.encode()) for words in group]


def check_words(words: Secret) -> None:
    """Check that these are the words of one share of a seed.

    Raises:
        InvalidRequest: They are not, or of a secret of another length (`share.malformed`).
    """
    try:
        share = shamir_mnemonic.Share.from_mnemonic(words.reveal().decode())
    except (MnemonicError, ValueError):
        raise InvalidRequest("the words of the share are not whole", reason="share.malformed") from None
    if len(share.value) != SEED_BYTES or share.group_count != 1:
        raise InvalidRequest("the share is of a secret of another length or form", reason="share.malformed")


def combined(shares: Sequence[Secret]) -> Secret:
    """Return the seed that as many shares give as it takes.

    Raises:
        InvalidRequest: They do not belong together, or are too few or too many (`share.other`).
    """
    try:
        return Secret(shamir_mnemonic.combine_mnemonics([words.reveal().decode() for words in shares]))
    except (MnemonicError, ValueError):
        raise InvalidRequest("the shares do not belong together", reason="share.other") from None
