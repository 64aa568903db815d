"""Make `signer-sets-v1.json`: signer sets of a model, and release policies under them, good ones and broken ones.

    PYTHONPATH=tests python -m vectors.make_signer_sets_v1

The same bytes come out each time: keys are fixed, and Ed25519 draws nothing.
"""

from __future__ import annotations

import json
from typing import Any

from cloister.seal.manifest import sign_policy
from fakes.results import CLUSTER, MODEL, good_policy
from fakes.signer_sets import ALICE, BOB, CAROL, DAVE, FIRST, OWNER, SECOND, public, set_policy, signed_set, signer_set
from vectors import world

PATH = world.FOLDER / "signer-sets-v1.json"


def entries() -> list[tuple[str, str | None, bytes, bytes, tuple[bytes, ...]]]:
    """What each is, why it is refused (None: it is not), policy, signature and signer sets."""
    old = good_policy().SerializeToString()
    other, _ = set_policy(1, [ALICE, BOB], allow_plain=True)
    again = signed_set(signer_set(3, 2, BOB, CAROL, DAVE), ALICE, BOB, CAROL)
    others = signed_set(signer_set(1, 2, ALICE, BOB, CAROL, model_name="other"), OWNER, ALICE, BOB)
    by_themselves = signed_set(signer_set(1, 2, ALICE, BOB, CAROL), ALICE, BOB)
    by_too_few = signed_set(signer_set(2, 2, BOB, CAROL, DAVE), ALICE, DAVE)
    return [
        ("names no set", None, old, sign_policy(old, OWNER), ()),
        ("names no set, and there are some", None, old, sign_policy(old, OWNER), (FIRST,)),
        ("first set", None, *set_policy(1, [ALICE, CAROL]), (FIRST,)),
        ("first set, and there is a second", None, *set_policy(1, [ALICE, CAROL]), (FIRST, SECOND)),
        ("second set", None, *set_policy(2, [BOB, DAVE]), (FIRST, SECOND)),
        ("somebody else's in place of the owner's", "seal.broken", old, sign_policy(old, ALICE), ()),
        ("too few", "signature.insufficient", *set_policy(1, [ALICE]), (FIRST,)),
        ("the owner for one of them", "signature.insufficient", *set_policy(1, [OWNER, ALICE]), (FIRST,)),
        ("who was removed", "signature.insufficient", *set_policy(2, [ALICE, BOB]), (FIRST, SECOND)),
        ("over another policy", "signature.other", other, set_policy(1, [ALICE, BOB])[1], (FIRST,)),
        ("no sets", "signer_set.gap", *set_policy(1, [ALICE, BOB]), ()),
        ("a set is missing at the end", "signer_set.gap", *set_policy(2, [BOB, DAVE]), (FIRST,)),
        ("a set is missing in between", "signer_set.gap", *set_policy(2, [BOB, DAVE]), (FIRST, again)),
        ("sets of another model", "signer_set.other", *set_policy(1, [ALICE, BOB]), (others,)),
        ("not begun by the owner", "signature.insufficient", *set_policy(1, [ALICE, BOB]), (by_themselves,)),
        ("not handed on by enough", "signature.insufficient", *set_policy(2, [BOB, DAVE]), (FIRST, by_too_few)),
    ]


def vectors() -> dict[str, Any]:
    """The file's content."""
    return {
        "cluster": CLUSTER,
        "model": MODEL,
        "owner_key": public(OWNER),
        "policies": [
            {
                "what": what,
                "reason": reason,
                "policy": policy.hex(),
                "signature": signature.hex(),
                "signer_sets": [each.hex() for each in sets],
            }
            for what, reason, policy, signature, sets in entries()
        ],
    }


def main() -> None:
    """Write the file."""
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")


if __name__ == "__main__":
    main()
