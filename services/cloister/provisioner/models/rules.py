"""Whether an attested worker may have a model's key: the rules of `kit.release_rules`, and the first that objects."""

from __future__ import annotations

from cloister.ear import AttestationResult
from cloister.errors import KeyRefused
from cloister.kit.release_rules import judged
from cloister.seal.release_policy import ReleasePolicy

AUDIENCE = "provisioner"


def decide(result: AttestationResult, policy: ReleasePolicy, *, model_version: int, cluster: str) -> None:
    """Decide whether the bearer of `result` may have the key of this version of the policy's model.

    Raises:
        KeyRefused: With the reason of the first rule that objects, and in `objections` what each of them demanded and
            found: for the record; the worker is not told.
    """
    if result.audience != AUDIENCE:
        raise KeyRefused("the result is meant for another service", reason="audience.other")
    objecting = [each for each in judged(result, policy, model_version=model_version, cluster=cluster) if not each.met]
    if objecting:
        first = objecting[0]
        raise KeyRefused(
            f"the rule '{first.rule}' is not met", reason=first.reason, objections=tuple(map(str, objecting))
        )
