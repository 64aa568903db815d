"""The policy that follows from an owner's terms and from what the provisioner lists."""

from __future__ import annotations

import pytest

from cloister.api.v1.provisioner_pb2 import ModelSummary, ReleasePolicy
from cloister.client.release_terms import ReleaseTerms

CLUSTER = "demo.cloister.internal"


@pytest.mark.parametrize(
    ("held_since", "before", "named"),
    [(0, 0, 0), (2, 0, 2), (0, 2, 2), (3, 2, 3)],
    ids=["never held", "held", "signed since", "held once more"],
)
def test_a_policy_names_the_generation_of_the_log_since_which_its_model_was_held(
    held_since: int, before: int, named: int
) -> None:
    known = ModelSummary(held_since=held_since, policy=ReleasePolicy(version=4, log_generation=before))
    drafted = ReleaseTerms(simulated=True).policy("iris", CLUSTER, [known])
    assert (drafted.version, drafted.log_generation) == (5, named)
