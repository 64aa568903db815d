"""Each rule is met by `good_result` and `good_policy`, and broken by one change each."""

from __future__ import annotations

from typing import Any

import pytest

from cloister.api.v1.provisioner_pb2 import SignerRule
from cloister.errors import KeyRefused
from cloister.provisioner.rules import decide
from cloister.seal.release_policy import parse_policy
from fakes.results import CLUSTER, MRENCLAVE, MRSIGNER, good_policy, good_result

OTHER = "d4" * 32


def ask(result: dict[str, Any], policy: dict[str, Any], *, version: int = 2) -> None:
    released = parse_policy(good_policy(**policy).SerializeToString())
    decide(good_result(**result), released, model_version=version, cluster=CLUSTER)


@pytest.mark.parametrize(
    ("result", "policy"),
    [
        ({}, {}),
        ({"mrsigner": OTHER}, {}),
        ({"mrenclave": OTHER}, {}),
        ({"mrenclave": OTHER, "isvsvn": 9}, {}),
        ({"tcb_status": "SWHardeningNeeded", "hardware": 32}, {}),
        ({"executables": 33}, {}),
        ({"executables": 33, "configuration": 0}, {}),
        ({"simulated": True, "hardware": 96}, {"allow_simulated": True}),
    ],
    ids=["all", "by measurement", "by signer", "newer", "warning", "unrecognised", "no claim", "simulated, allowed"],
)
def test_good_results_are_accepted(result: dict[str, Any], policy: dict[str, Any]) -> None:
    ask(result, policy)


_SIGNER_ONLY = {"mrenclave": [OTHER]}
_NO_SIGNER: dict[str, Any] = {"signers": []}


@pytest.mark.attack("C11")
@pytest.mark.parametrize(
    ("result", "policy", "reason"),
    [
        ({"cluster": "other.cloister.internal"}, {}, "cluster.other"),
        ({"role": "gateway"}, {}, "role.other"),
        ({"spiffe_id": f"spiffe://{CLUSTER}/worker/{'f' * 32}"}, {}, "role.other"),
        ({"audience": "mesh"}, {}, "audience.other"),
        ({"simulated": True, "hardware": 96}, {}, "hardware.simulated"),
        ({"simulated": True, "hardware": 2}, {}, "hardware.simulated"),
        ({"hardware": 96}, {}, "hardware.contraindicated"),
        ({"hardware": 96}, {"allow_simulated": True}, "hardware.contraindicated"),
        ({"hardware": 0}, {}, "hardware.contraindicated"),
        ({"executables": 96}, {}, "trustworthiness.contraindicated"),
        ({"configuration": 96}, {}, "trustworthiness.contraindicated"),
        ({"executables": 1}, {}, "trustworthiness.contraindicated"),
        ({"configuration": -1}, {}, "trustworthiness.contraindicated"),
        ({"tcb_status": "OutOfDate"}, {}, "tcb.not_allowed"),
        ({"tcb_status": "Revoked"}, {}, "tcb.not_allowed"),
        ({"tcb_status": "uptodate"}, {}, "tcb.not_allowed"),
        ({"tee": "tdx"}, {}, "tee.other"),
        ({"mrenclave": OTHER}, _NO_SIGNER, "measurement.not_allowed"),
        ({"mrsigner": OTHER}, _SIGNER_ONLY | {"mrenclave": ["e5" * 32]}, "measurement.not_allowed"),
        ({"isvprodid": 8}, _SIGNER_ONLY, "measurement.not_allowed"),
        ({"isvsvn": 2}, _SIGNER_ONLY, "measurement.not_allowed"),
        ({"debug": True}, {}, "enclave.debug"),
    ],
)
def test_each_rule_objects_to_its_one_thing(result: dict[str, Any], policy: dict[str, Any], reason: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        ask(result, policy)
    assert refused.value.reason == reason


def test_an_older_model_version_is_refused() -> None:
    with pytest.raises(KeyRefused) as refused:
        ask({}, {}, version=1)
    assert refused.value.reason == "model.version_too_old"


def test_fields_of_two_signer_rules_are_not_mixed() -> None:
    rules = [
        SignerRule(mrsigner=MRSIGNER, isvprodid=8, min_isvsvn=0),
        SignerRule(mrsigner=OTHER, isvprodid=7, min_isvsvn=0),
    ]
    with pytest.raises(KeyRefused):
        ask({"mrenclave": "e5" * 32}, {"mrenclave": [MRENCLAVE], "signers": rules})
