"""The page as data: what is wrong comes first, what is simulated says so, and names stay text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloister.api.v1.evidence_pb2 import Evidence, EvidenceBundle
from cloister.api.v1.gateway_pb2 import GetStatusResponse, ModelUse, WorkerStatus
from cloister.api.v1.provisioner_pb2 import ModelSummary, Withdrawal
from cloister.api.v1.verifier_pb2 import REVOCATION_KIND_PLATFORM, Revocation
from cloister.client import AuditLine
from cloister.console.evidence_view import evidence_view
from cloister.console.judged import Judged, judged
from cloister.console.overview import overview
from cloister.console.watch import SERVICES, Seen, Service
from fakes.serving import FakeVerifier, FakeWorker
from fakes.sim import CLUSTER, ENCLAVE

NOW = datetime.now(UTC)
VERIFIER = FakeVerifier()
HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'`{{7*7}}"


def evidence(worker: FakeWorker, **trust: Any) -> Judged:
    sample = worker.evidence
    bundle = EvidenceBundle(
        evidence=Evidence(claims=sample.claims_bytes, quote=sample.quote),
        collateral=sample.collateral,
        attestation_result=worker.token,
    )
    return judged(bundle, VERIFIER.trust(**trust), datetime.now(UTC))


def line(sequence: int, event: str, ago: timedelta = timedelta(), **fields: Any) -> AuditLine:
    time = (NOW - ago).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return AuditLine(sequence, {"event": event, "time": time, "sequence": sequence, **fields}, bytes(32))


class Mesh:
    """One worker that serves `iris@1`, and nothing wrong."""

    def __init__(self) -> None:
        self.worker = FakeWorker(VERIFIER)
        self.status = WorkerStatus(
            instance=self.worker.instance,
            endpoint="127.0.0.1:1",
            linked=True,
            simulated=True,
            slots=16,
            slots_used=3,
            models=["iris@1"],
            attested_until_ms=int((NOW + timedelta(hours=1)).timestamp() * 1000),
            mrenclave=ENCLAVE.mrenclave.hex(),
            tcb_status="UpToDate",
        )
        self.seen = Seen({name: Service("a:1", NOW) for name in SERVICES})
        self.seen.models = [ModelSummary(name="iris", version=1)]
        self.seen.evidence = {self.worker.instance: evidence(self.worker)}

    def page(self) -> dict[str, Any]:
        use = ModelUse(model_name="iris", queued=2, slots_used=3, refused={"overloaded": 4})
        self.seen.status = GetStatusResponse(
            workers=[self.status], requests_total=9, models=[use], process=1, processes=1
        )
        return overview(self.seen, CLUSTER, NOW)

    def alarms(self) -> list[str]:
        return [alarm["words"] for alarm in self.page()["alarms"]]


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_a_mesh_that_is_well_has_no_alarm(mesh: Mesh) -> None:
    page = mesh.page()
    assert page["alarms"] == []
    (worker,) = page["workers"]
    assert (worker["state"], worker["belief"]["believed"], worker["tcb_status"]) == ("serving", True, "UpToDate")
    assert "every fix" in worker["tcb_words"]
    (model,) = page["models"]
    assert (model["name"], model["version"], model["workers"], model["waiting"]) == ("iris", "1", 1, 2)
    assert model["refused"] == {"overloaded": 4}


def test_what_is_simulated_says_so_everywhere(mesh: Mesh) -> None:
    page = mesh.page()
    assert page["simulated"]
    assert page["workers"][0]["simulated"]
    assert "simulator" in page["workers"][0]["anchor"]
    assert evidence_view("a", mesh.seen.evidence[mesh.worker.instance])["simulated"]


def test_a_worker_that_drains_or_is_not_linked_is_seen_at_once(mesh: Mesh) -> None:
    mesh.status.draining = True
    assert "is draining" in mesh.alarms()[0] or "is draining" in mesh.alarms()[1]
    mesh.status.draining, mesh.status.linked = False, False
    assert any("no link" in words for words in mesh.alarms())


def test_a_service_that_does_not_answer_comes_first(mesh: Mesh) -> None:
    mesh.seen.services["provisioner"].trouble = "it cannot be reached"
    mesh.status.draining = True
    assert "provisioner" in mesh.alarms()[0]


def test_evidence_that_this_console_does_not_believe_is_an_alarm(mesh: Mesh) -> None:
    mesh.seen.evidence = {mesh.worker.instance: evidence(mesh.worker, mrenclave=frozenset({"ab" * 32}))}
    page = mesh.page()
    assert page["alarms"][0]["tone"] == "bad"
    assert page["alarms"][0]["instance"] == mesh.worker.instance
    assert page["workers"][0]["belief"]["reason"] == "measurement.unknown"


def test_a_platform_that_is_behind_is_an_alarm_with_what_it_means(mesh: Mesh) -> None:
    mesh.seen.evidence = {}
    mesh.status.tcb_status = "OutOfDate"
    assert any("known attacks work" in words for words in mesh.alarms())


def test_an_attestation_that_is_about_to_end_is_an_alarm(mesh: Mesh) -> None:
    mesh.seen.evidence = {}
    mesh.status.attested_until_ms = int((NOW + timedelta(seconds=30)).timestamp() * 1000)
    assert any("less than a minute" in words for words in mesh.alarms())


def test_a_refusal_stands_until_the_same_worker_gets_the_key(mesh: Mesh) -> None:
    about = {"model": "iris", "instance": "w1"}
    mesh.seen.releases.append(line(1, "key.refused", reason="policy.missing", **about))
    mesh.seen.releases.append(line(2, "key.refused", reason="measurement.not_allowed", model="iris", instance="w2"))
    assert len(mesh.alarms()) == 2
    mesh.seen.releases.append(line(3, "key.released", version=1, lease_s=60, **about))
    assert [words for words in mesh.alarms() if "names neither its code" in words]
    assert len(mesh.alarms()) == 1
    assert mesh.page()["events"][0]["title"] == "Key of iris@1 released"


def test_an_old_refusal_is_no_alarm(mesh: Mesh) -> None:
    mesh.seen.appraisals.append(line(1, "evidence.rejected", timedelta(hours=1), step=7, reason="enclave.debug"))
    assert mesh.alarms() == []
    mesh.seen.appraisals.append(line(2, "evidence.rejected", step=7, reason="enclave.debug"))
    assert len(mesh.alarms()) == 1
    assert "check 7" in mesh.page()["events"][0]["why"]


def test_leases_are_those_that_run(mesh: Mesh) -> None:
    instance = mesh.worker.instance
    said = {"model": "iris", "version": 1, "instance": instance, "lease_s": 60}
    mesh.seen.releases.append(line(1, "key.released", timedelta(seconds=90), **said))
    assert mesh.page()["workers"][0]["leases"] == []
    mesh.seen.releases.append(line(2, "key.released", timedelta(seconds=30), **said))
    (lease,) = mesh.page()["workers"][0]["leases"]
    assert datetime.fromisoformat(lease["until"]) - NOW < timedelta(seconds=31)


def test_a_model_that_nobody_serves_and_a_revocation_are_alarms(mesh: Mesh) -> None:
    mesh.seen.models.append(ModelSummary(name="other", version=2))
    mesh.seen.revocations = [Revocation(kind=REVOCATION_KIND_PLATFORM, value="ab" * 32, reason="stolen")]
    assert ["other@2" in words for words in mesh.alarms()] == [True, False]
    assert "platform abab" in mesh.alarms()[1]


def test_nothing_known_is_no_worker_and_no_error() -> None:
    seen = Seen({name: Service("a:1", None, "it cannot be reached") for name in SERVICES})
    page = overview(seen, CLUSTER, NOW)
    assert [alarm["tone"] for alarm in page["alarms"]] == ["bad", "bad", "bad", "warn"]
    json.dumps(page)


@pytest.mark.attack("J02")
def test_hostile_names_stay_what_they_are(mesh: Mesh) -> None:
    """No escaping here and none to be forgotten: JSON carries text, and the page only ever shows text."""
    mesh.status.models[:] = [f"{HOSTILE}@1"]
    mesh.status.endpoint = HOSTILE
    for event in ("key.refused", "key.released", "evidence.rejected", HOSTILE):
        mesh.seen.releases.append(
            line(len(mesh.seen.releases), event, reason=HOSTILE, model=HOSTILE, peer=HOSTILE * 99)
        )
    mesh.seen.releases.append(line(9, "key.released", lease_s="x", time={}, instance=[1]))
    page = json.loads(json.dumps(mesh.page()))
    assert page["workers"][0]["endpoint"] == HOSTILE
    assert all(len(str(event.get("peer", ""))) <= 256 for event in page["events"])


def test_each_check_of_believed_evidence_has_passed(mesh: Mesh) -> None:
    view = evidence_view(mesh.worker.instance, mesh.seen.evidence[mesh.worker.instance])
    assert view["decision"]["believed"]
    assert {step["outcome"] for step in view["steps"]} == {"passed"}
    assert {field["outcome"] for field in view["fields"]} == {"passed", "not checked"}
    assert sum(field["size"] for field in view["fields"]) == view["quote_bytes"]
    assert [fact["name"] for fact in view["claims"]][:2] == ["Speaks for", "Made for"]


def test_unwanted_code_is_shown_at_the_measurement(mesh: Mesh) -> None:
    view = evidence_view("a", evidence(mesh.worker, mrenclave=frozenset({"ab" * 32})))
    outcomes = [step["outcome"] for step in view["steps"]]
    assert outcomes == [*["passed"] * 6, "objected", "not made"]
    assert next(field["outcome"] for field in view["fields"] if field["name"] == "MRENCLAVE") == "objected"


def test_a_quote_over_other_claims_is_shown_at_the_binding(mesh: Mesh) -> None:
    other = FakeWorker(VERIFIER)
    mesh.worker.evidence = other.evidence.__class__(
        **{
            **{name: getattr(mesh.worker.evidence, name) for name in other.evidence.__dataclass_fields__},
            "claims_bytes": other.evidence.claims_bytes,
        }
    )
    view = evidence_view("a", evidence(mesh.worker))
    assert next(step["outcome"] for step in view["steps"] if step["number"] == 5) == "objected"
    assert next(step["outcome"] for step in view["steps"] if step["number"] == 6) == "passed"
    assert view["claims"] == []


def test_a_withdrawn_or_held_model_is_told_apart_from_one_that_ought_to_be_served(mesh: Mesh) -> None:
    mesh.status.models[:] = []
    assert any("no worker serves it" in words for words in mesh.alarms())
    by = Withdrawal(by="spiffe://a/owner/main", reason="trained on the wrong data")
    mesh.seen.models = [ModelSummary(name="iris", version=1, withdrawal=by)]
    assert any("withdrawn by spiffe://a/owner/main: trained on the wrong data" in words for words in mesh.alarms())
    assert not any("no worker serves it" in words for words in mesh.alarms())
    mesh.seen.models = [ModelSummary(name="iris", version=1, held_since=2)]
    assert any("held until its owner signs" in words for words in mesh.alarms())


def test_lines_that_no_witness_countersigns_are_an_alarm(mesh: Mesh) -> None:
    mesh.seen.releases.append(line(7, "policy.set", timedelta(minutes=1), model="iris"))
    mesh.seen.releases.append(line(8, "policy.set", model="iris"))
    for witnessed in (None, 7, 8):
        mesh.seen.witnessed = witnessed
        assert not any("countersigned" in words for words in mesh.alarms())
    mesh.seen.witnessed = 6
    assert "since line 6" in mesh.alarms()[0]
