"""What its owner withdraws: a model, or one version of it (attack J14). Pure.

A withdrawal is made by one person and lifted by an order that k of n of the model's signers signed: a DSSE envelope of
what `lift_order` says, of the same type as an order that lifts a revocation at the verifier. It names the withdrawal by
the line of the record that made it, so it lifts no later one of the same thing.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from cloister.errors import InvalidRequest
from cloister.seal.names import check_model

MAX_REASON: Final = 500
_NAMED: Final = re.compile(r"([^@]{1,80})(?:@([1-9][0-9]{0,18}))?")


class Withdrawn(NamedTuple):
    """A model, or one version of it.

    Attributes:
        version: 0 for all that there are and will be.
    """

    name: str
    version: int = 0

    @classmethod
    def read(cls, text: str) -> Withdrawn:
        """Read `name` or `name@version`; raises InvalidRequest (`withdrawal.invalid`)."""
        found = _NAMED.fullmatch(text)
        if found is None:
            raise InvalidRequest(f"'{text[:80]}' is neither MODEL nor MODEL@VERSION", reason="withdrawal.invalid")
        return cls.of(found[1], int(found[2] or 0))

    @classmethod
    def of(cls, name: str, version: int) -> Withdrawn:
        """Check what came over the wire; raises InvalidRequest (`request.invalid`)."""
        check_model(name, version or 1)
        return cls(name, version)

    @property
    def kind(self) -> str:
        """`model` or `version`."""
        return "version" if self.version else "model"

    @property
    def refusal(self) -> str:
        """The stable reason that a refusal gives."""
        return f"{self.kind}.withdrawn"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


def check_reason(reason: str) -> None:
    """Check the words that go on record; raises InvalidRequest (`withdrawal.invalid`)."""
    if not 0 < len(reason) <= MAX_REASON or not reason.isprintable():
        raise InvalidRequest(
            f"a withdrawal has a reason of at most {MAX_REASON} printable characters", reason="withdrawal.invalid"
        )


def lift_order(cluster: str, of: Withdrawn, sequence: int, withdrawn_at_ms: int, generation: int = 1) -> bytes:
    """What people sign to have a withdrawal lifted: this one, and not the next of the same thing.

    Args:
        cluster: Trust domain.
        of: What is withdrawn.
        sequence: Of the line in the provisioner's record that made it, as `ListWithdrawals` tells.
        withdrawn_at_ms: When, Unix time in milliseconds; no two records share both.
        generation: Of the record, at the time of the order: where lines were lost after one was lifted, an order from
            before does not lift it once more. In the first it is left out, as ever.
    """
    said: dict[str, str | int] = {
        "cluster": cluster,
        "kind": of.kind,
        "value": str(of),
        "sequence": sequence,
        "withdrawn_at_ms": withdrawn_at_ms,
        **({"log_generation": generation} if generation > 1 else {}),
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
