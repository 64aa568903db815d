"""Each rule is met by `good_result` and `good_policy`, and broken by one change each."""

from __future__ import annotations

from typing import Any

import pytest

from cloister.api.v1.provisioner_pb2 import SignerRule
from cloister.errors import KeyRefused
from cloister.kit.release_rules import judged
from cloister.provisioner.models.rules import decide
from cloister.seal.release_policy import parse_policy
from fakes.results import CLUSTER, MRENCLAVE, MRSIGNER, good_policy, good_result

OTHER = "d4" * 32
ONLY_HERE = {"platforms": {"ppid_sha256": [good_result().ppid_sha256]}}


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
        ({}, ONLY_HERE),
        ({"ppid_sha256": OTHER}, {"platforms": {"ppid_sha256": [OTHER, "e6" * 32]}}),
    ],
    ids=[
        "all",
        "by measurement",
        "by signer",
        "newer",
        "warning",
        "unrecognised",
        "no claim",
        "simulated, allowed",
        "here",
        "there",
    ],
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
        ({"ppid_sha256": OTHER}, ONLY_HERE, "platform.not_allowed"),
        ({}, {"platforms": {"ppid_sha256": [OTHER]}}, "platform.not_allowed"),
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


def test_every_rule_that_objects_is_named_with_what_it_demanded_and_found() -> None:
    result = {"tcb_status": "OutOfDate", "mrenclave": OTHER, "isvsvn": 2, "ppid_sha256": OTHER, "debug": True}
    with pytest.raises(KeyRefused) as refused:
        ask(result, ONLY_HERE, version=1)
    assert refused.value.reason == "tcb.not_allowed"
    rules = [objection.partition(";")[0] for objection in refused.value.objections]
    assert rules == [
        "tcb: tcb.not_allowed",
        "code: measurement.not_allowed",
        "debug: enclave.debug",
        "platform: platform.not_allowed",
        "model version: model.version_too_old",
    ]
    tcb, code, *_, version = refused.value.objections
    assert tcb.endswith("demanded SWHardeningNeeded, UpToDate; found OutOfDate")
    assert f"demanded sgx {MRENCLAVE}, signer {MRSIGNER}:7:3 or higher; found sgx {OTHER}" in code
    assert version.endswith("demanded 2 or higher; found 1")


def test_a_long_policy_does_not_make_a_long_line() -> None:
    many = [f"{n:064x}" for n in range(1, 257)]
    with pytest.raises(KeyRefused) as refused:
        ask(
            {"ppid_sha256": OTHER, "mrenclave": OTHER},
            {"mrenclave": many, "platforms": {"ppid_sha256": many}} | _NO_SIGNER,
        )
    assert all("more; found" in objection and len(objection) < 1200 for objection in refused.value.objections)


def test_what_is_met_says_so_too() -> None:
    policy = parse_policy(good_policy().SerializeToString())
    findings = judged(good_result(), policy, model_version=2, cluster=CLUSTER)
    assert [each.met for each in findings] == [True] * 9
    assert len({each.rule for each in findings}) == 9
    assert {str(each).partition(";")[0].partition(": ")[2] for each in findings} == {"met"}
