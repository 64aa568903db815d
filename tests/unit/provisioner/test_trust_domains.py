"""Who gets a key where policies name trust domains: exactly those, and no enclave by the same digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.api.v1.provisioner_pb2 import SignerRule
from cloister.errors import InvalidRequest, KeyRefused
from cloister.kit.result_facts import code_facts
from cloister.provisioner.models.rules import decide
from cloister.seal.release_policy import parse_policy
from fakes.results import CLUSTER, MRENCLAVE, MRSIGNER, TD, good_policy, good_result, good_td_policy, good_td_result

DIGEST = TD.digest.hex()
EXTENDED = replace(TD, rtmrs=(*TD.rtmrs[:3], b"\x01" * 48))


def test_the_trust_domain_that_a_policy_names_may_have_the_key() -> None:
    for policy in (good_td_policy(), good_policy(td_measurement=["ab" * 32, DIGEST])):
        decide(good_td_result(), parse_policy(policy.SerializeToString()), model_version=2, cluster=CLUSTER)


def test_a_policy_may_name_both() -> None:
    policy = parse_policy(good_policy(td_measurement=[DIGEST]).SerializeToString())
    for result in (good_result(), good_td_result()):
        decide(result, policy, model_version=2, cluster=CLUSTER)


@pytest.mark.attack("C02")
@pytest.mark.parametrize(
    ("result", "policy", "reason"),
    [
        ({}, good_policy(), "tee.other"),
        ({}, good_policy(mrenclave=[DIGEST]), "tee.other"),
        ({}, good_policy(signers=[SignerRule(mrsigner=MRSIGNER)]), "tee.other"),
        ({}, good_td_policy(td_measurement=["ab" * 32]), "measurement.not_allowed"),
        ({"td": replace(TD, mrtd=b"\x01" * 48)}, good_td_policy(), "measurement.not_allowed"),
        ({"td": EXTENDED}, good_td_policy(), "measurement.not_allowed"),
        ({"td": replace(TD, mrconfigid=b"\x01" * 48)}, good_td_policy(), "measurement.not_allowed"),
        ({"td": replace(TD, attributes=1 << 28 | 1 << 63)}, good_td_policy(), "measurement.not_allowed"),
        ({"tcb_status": "TDRelaunchAdvised"}, good_td_policy(), "tcb.not_allowed"),
        ({"simulated": True, "hardware": 96}, good_td_policy(), "hardware.simulated"),
        ({"debug": True}, good_td_policy(), "enclave.debug"),
    ],
    ids=str,
)
def test_each_rule_objects_to_its_one_thing(result: dict[str, Any], policy: Any, reason: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        decide(good_td_result(**result), parse_policy(policy.SerializeToString()), model_version=2, cluster=CLUSTER)
    assert refused.value.reason == reason


@pytest.mark.attack("C02")
def test_an_enclave_is_not_let_in_by_the_digits_of_a_trust_domain() -> None:
    policy = parse_policy(good_td_policy(td_measurement=[MRENCLAVE]).SerializeToString())
    with pytest.raises(KeyRefused) as refused:
        decide(good_result(), policy, model_version=2, cluster=CLUSTER)
    assert refused.value.reason == "measurement.not_allowed"


@pytest.mark.parametrize("wrong", [[""], ["any"], ["A1" * 32], ["00" * 32], [DIGEST + "\n"], [DIGEST] * 257], ids=len)
def test_nothing_in_a_policy_means_any(wrong: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        parse_policy(good_td_policy(td_measurement=wrong).SerializeToString())


def test_a_policy_must_name_somebody() -> None:
    with pytest.raises(InvalidRequest, match="neither"):
        parse_policy(good_td_policy(td_measurement=[]).SerializeToString())


def test_an_owner_may_put_up_with_a_domain_that_should_be_relaunched() -> None:
    policy = good_td_policy(tcb_statuses=["TDRelaunchAdvised"])
    result = good_td_result(tcb_status="TDRelaunchAdvised", hardware=32)
    decide(result, parse_policy(policy.SerializeToString()), model_version=2, cluster=CLUSTER)


def test_the_record_tells_what_the_domain_is_made_of() -> None:
    told = code_facts(good_td_result())
    assert (told["tee"], told["td_measurement"], told["mrtd"], told["rtmr3"]) == ("tdx", DIGEST, "d1" * 48, "d5" * 48)
    assert told["attributes"] == "0000001000000000"
    assert code_facts(good_result())["mrenclave"] == MRENCLAVE
