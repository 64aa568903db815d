"""Section B of docs/attacks.md: collateral that was edited, swapped, forged, made up or has run out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from cloister.appraisal.collateral import MAX_COLLATERAL_BYTES, Collateral
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.policy import Policy
from cloister.client import judge
from cloister.errors import InvalidRequest
from cloister_simulator.platform import Platform
from cloister_simulator.signature import raw_signature
from fakes import corpus
from fakes.corpus import Evaluation
from fakes.judged import NOW, broken, cost, judged, judged_of, objection, of_corpus
from fakes.sim import simulated_platform

SIM = simulated_platform(NOW)
GOOD = json.loads(SIM.collateral())
WIDEST = Policy(policy_id="widest", accepted_statuses=frozenset(TcbStatus) - {TcbStatus.REVOKED})


def refused(**members: object) -> tuple[int, str]:
    """Step and reason for good collateral with these members in place of its own."""
    return objection(judged_of(SIM, collateral=json.dumps({**GOOD, **members}).encode()))


def signed(name: str, document: str) -> dict[str, str]:
    """A document as Intel would have signed it."""
    signature = raw_signature(SIM.keys.tcb_signing, document.encode())
    return {name: document, f"{name}_signature": signature.hex()}


def test_what_these_tests_break_is_good() -> None:
    assert judged_of(SIM, collateral=json.dumps(GOOD).encode()).believed
    assert judged_of(SIM, collateral=json.dumps({**GOOD, **signed("tcb_info", GOOD["tcb_info"])}).encode()).believed


@pytest.mark.attack("B01")
@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("OutOfDate", "UpToDate"),
        lambda text: text.replace('"nextUpdate":"2', '"nextUpdate":"3'),
        lambda text: json.dumps(json.loads(text), indent=1),
        lambda text: text.replace(",", ", ", 1),
        lambda text: text + "\n",
    ],
    ids=["status", "nextUpdate", "indented", "a space", "a newline"],
)
def test_a_document_is_the_bytes_that_were_signed(edit: Callable[[str], str]) -> None:
    for name in ("tcb_info", "qe_identity"):
        if (edited := edit(GOOD[name])) != GOOD[name]:
            assert refused(**{name: edited}) == (2, "collateral.signature_broken")


@pytest.mark.attack("B01")
@of_corpus(
    "col-*-tcbinfo-status-edited:*", "col-*-tcbinfo-nextupdate-edited:*", "col-*-tcbinfo-reformatted:*",
    "col-*-tcbinfo-sig-swapped:*", "col-*-qeid-mrsigner-edited:*", "col-*-qeid-sig-zero:*",
)  # fmt: skip
def test_documents_that_were_edited(one: Evaluation) -> None:
    assert objection(judged(one)) == (2, "collateral.signature_broken")


@pytest.mark.attack("B02")
@pytest.mark.parametrize(
    "name",
    [
        "tcb info signed by the pck",
        "qe identity signed by the pck",
        "tcb signer of another role",
        "pck of another role",
    ],
)
def test_another_leaf_of_the_same_root_signs_no_documents(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted == (2, "certificate.role_mismatched")


@pytest.mark.attack("B02")
@of_corpus(
    "sim-tcbinfo-signed-by-pck:*", "sim-tcbsigner-wrong-cn:*", "sim-pck-wrong-cn:*", "col-*-tcbchain-is-pckchain:*"
)
def test_documents_signed_by_another_role(one: Evaluation) -> None:
    assert objection(judged(one)) in {(2, "certificate.role_mismatched"), (2, "chain.broken")}


@pytest.mark.attack("B03")
@pytest.mark.parametrize("name", ["other fmspc", "other pceid", "tcb info of tdx"])
def test_collateral_of_another_family_or_technology_does_not_fit(name: str) -> None:
    found, (_, reason) = broken(name)
    assert objection(found)[1] == reason


@pytest.mark.attack("B03")
@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
def test_genuine_collateral_of_the_other_technology_does_not_fit() -> None:
    genuine = [one for one in corpus.evaluations() if one.name.endswith(":valid") and one.expected.verified]
    enclaves = [one for one in genuine if one.name.startswith("sgx-swhn-")]
    domains = [one for one in genuine if one.name.startswith("tdx4-utd-")]
    reasons = {reason_for(quote, of) for quote in enclaves for of in domains}
    reasons |= {reason_for(quote, of) for quote in domains for of in enclaves}
    assert "collateral.mismatched" in reasons
    assert reasons <= {"collateral.mismatched", "certificate.expired", "crl.issuer_mismatched"}


def reason_for(one: Evaluation, of: Evaluation) -> str:
    """Why one's quote is refused with another's collateral."""
    members = json.loads(of.collateral.read_bytes())
    members.pop("pck_certificate_chain", None)
    raw = json.dumps(members).encode()
    return objection(judge(one.quote.read_bytes(), raw, of.anchor(), Policy.default(), of.now))[1]


@pytest.mark.attack("B03")
@of_corpus("col-*-tcbinfo-other-fmspc:*", "sim-pceid-mismatch:*", "sim-tcbinfo-id-tdx:*", "col-*-qeid-other-kind:*")
def test_documents_about_something_else(one: Evaluation) -> None:
    assert objection(judged(one))[1] in {"collateral.mismatched", "collateral.malformed", "collateral.signature_broken"}


@pytest.mark.attack("B08")
def test_a_revocation_list_is_never_done_without() -> None:
    stranger = json.loads(Platform.generate(NOW).collateral())
    for name, other in (("root_ca_crl", "pck_crl"), ("pck_crl", "root_ca_crl")):
        missing = {key: value for key, value in GOOD.items() if key != name}
        found = judged_of(SIM, collateral=json.dumps(missing).encode())
        assert objection(found)[1] == "collateral.malformed"
        assert refused(**{name: ""}) == (2, "crl.malformed")
        assert refused(**{name: GOOD[other]})[1] == "crl.issuer_mismatched"
        assert refused(**{name: stranger[name]}) == (2, "crl.signature_broken")
        assert refused(**{name: None})[1] == "collateral.malformed"


@pytest.mark.attack("B08")
@pytest.mark.parametrize("name", ["pck crl forged", "root crl forged", "pck crl expired", "root crl expired"])
def test_a_revocation_list_is_its_ca_s_and_current(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted


@pytest.mark.attack("B08")
@of_corpus("col-*-pckcrl-*", "col-*-rootcrl-empty:*", "sim-pckcrl-forged:*")
def test_revocation_lists_that_are_none(one: Evaluation) -> None:
    assert objection(judged(one))[1].startswith("crl.")


@pytest.mark.attack("B09")
@pytest.mark.parametrize("name", ["tcb info from the future", "pck crl from the future"])
def test_what_is_dated_in_the_future_is_not_believed_yet(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted


@pytest.mark.attack("B09")
@pytest.mark.parametrize("away", [timedelta(days=-366), timedelta(days=366)])
def test_under_a_clock_that_is_a_year_off_nothing_is_believed(away: timedelta) -> None:
    assert objection(judged_of(SIM, now=NOW + away))[0] == 2
    assert judged_of(SIM, now=NOW).believed


@pytest.mark.attack("B09")
@of_corpus("*:collateral_not_yet_valid")
def test_collateral_from_the_future(one: Evaluation) -> None:
    assert not judged(one).believed


TCB_INFO = GOOD["tcb_info"]


@pytest.mark.attack("B10")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"fmspc":', '"fmspc":"000000000000","fmspc":'),
        ('"tcbStatus":', '"tcbStatus":"Revoked","tcbStatus":'),
        ('"UpToDate"', '"AsGoodAsNew"'),
        ('{"svn":12},', ""),
        ('"version":3', '"version":9'),
        ('"version":3', '"version":2'),
        ('"tcbType":0', '"tcbType":9'),
    ],
)
def test_a_signed_document_still_has_one_meaning_and_a_kind_we_know(old: str, new: str) -> None:
    assert old in TCB_INFO
    _, reason = refused(**signed("tcb_info", TCB_INFO.replace(old, new, 1)))
    assert reason in {"collateral.malformed", "collateral.unsupported"}


@pytest.mark.attack("B10")
@of_corpus(
    "sim-tcbinfo-dup-*", "sim-tcbinfo-unknown-status:*", "sim-tcbinfo-15-components:*", "sim-tcbinfo-version-9:*",
    "sim-tcbinfo-type-9:*", "col-*-tcbinfo-v2:*",
)  # fmt: skip
def test_documents_of_another_kind(one: Evaluation) -> None:
    assert objection(judged(one))[1] in {"collateral.malformed", "collateral.unsupported"}


def inside(text: str) -> bytes:
    return json.dumps({**GOOD, "tcb_info": text}).encode()


@pytest.mark.attack("B11")
@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":' * 20_000,
        b"[" * 200_000,
        inside("[" * 20_000),
        inside('{"x":' + "9" * 100_000 + "}"),
        inside(TCB_INFO.replace("12", "NaN", 1)),
        inside(TCB_INFO.replace("12", "1e400", 1)),
        b'{"a":"' + b"\xff" * 1000 + b'"}',
        b'{"' + b'\\"' * 120_000,
    ],
    ids=["deep", "wide", "deep inside", "huge number", "NaN", "infinity", "not UTF-8", "endless text"],
)
def test_json_that_means_harm_costs_little(raw: bytes) -> None:
    refused_at_little_cost(raw)


@pytest.mark.attack("B11")
def test_a_hundred_megabytes_are_refused_by_their_length() -> None:
    refused_at_little_cost(bytes(100 << 20))


def refused_at_little_cost(raw: bytes) -> None:
    def parse() -> None:
        with pytest.raises(InvalidRequest):
            Collateral.parse(raw)

    took_s, most_bytes = cost(parse)
    assert took_s < 0.05
    assert most_bytes < 4 * MAX_COLLATERAL_BYTES


@pytest.mark.attack("B11")
@of_corpus("col-*-tcbinfo-deep:*", "col-*-tcbinfo-not-json:*", "col-*-field-missing:*")
def test_collateral_that_does_not_parse(one: Evaluation) -> None:
    assert objection(judged(one))[1] == "collateral.malformed"


@pytest.mark.attack("B12")
@pytest.mark.parametrize("name", ["tcb revoked", "qe revoked"])
def test_no_policy_lets_the_revoked_in(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted == (6, "tcb.revoked")
    with pytest.raises(InvalidRequest):
        replace(WIDEST, accepted_statuses=frozenset(TcbStatus))


@pytest.mark.attack("B12")
@of_corpus("sim-revoked-tcb:*", "sim-qe-revoked:*")
def test_quotes_from_revoked_levels(one: Evaluation) -> None:
    assert objection(judged(one, WIDEST)) == (6, "tcb.revoked")


@pytest.mark.attack("B13")
@pytest.mark.parametrize(
    "status", ["OutOfDate", "ConfigurationNeeded", "OutOfDateConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"]
)
def test_the_default_policy_refuses_what_is_not_patched_and_says_what_it_is(status: str) -> None:
    sim = SIM.copy()
    sim.tcb_status = status
    found = judged_of(sim)
    assert objection(found) == (7, "tcb_status.refused")
    assert found.verified is not None
    assert found.verified.tcb.status == status


@pytest.mark.attack("B13")
@of_corpus("sgx-ood-01b:valid", "sgx-ood-02:valid", "sgx-conf-*:valid", "tdx4-ood-02:valid", "tdx5-relaunch-01b:valid")
def test_real_quotes_that_are_not_patched(one: Evaluation) -> None:
    assert one.expected.reason == "tcb_status"
    assert objection(judged(one)) == (7, "tcb_status.refused")


@pytest.mark.attack("B14")
def test_software_hardening_is_a_matter_of_which_advisories() -> None:
    sim = SIM.copy()
    sim.tcb_status, sim.advisory_ids = "SWHardeningNeeded", ["INTEL-SA-00334", "INTEL-SA-00615"]
    assert judged_of(sim).believed
    sim.advisory_ids = [*sim.advisory_ids, "INTEL-SA-00289"]
    assert objection(judged_of(sim)) == (7, "advisory.refused")


@pytest.mark.attack("B14")
@of_corpus("sim-swhn-*")
def test_quotes_that_need_software_hardening(one: Evaluation) -> None:
    if one.expected.accepted:
        assert judged(one).believed
    else:
        assert objection(judged(one)) == (7, "advisory.refused")
