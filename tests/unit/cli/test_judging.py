"""Evidence in files, judged offline: `cloister evidence verify` for one, `cloister evidence judge` for a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.endorsements import TcbStatus
from cloister.client import judge_corpus, status_meaning
from cloister.evidence.binding import report_data
from cloister.evidence.ratls import evidence_extension
from cloister_simulator.platform import Platform
from fakes import corpus
from fakes.ra_tls import EVIDENCE, Certificate, attester, attester_claims, legacy_attester
from fakes.serving import VERIFIER, FakeVerifier, FakeWorker
from fakes.sim import ENCLAVE, SampleEvidence, good_evidence, simulated_platform

Run = Callable[..., tuple[int, str, str]]
FIELDS = ["id", "label", "crypto", "tcb_status", "advisory_ids", "default_policy", "step", "reason"]


@dataclass(frozen=True)
class Kept:
    """Evidence of one worker in files, with the trust bundle that believes it."""

    folder: Path
    verifier: FakeVerifier
    bundle: EvidenceBundle

    @property
    def file(self) -> Path:
        return self.folder / "worker.bundle"

    @property
    def trust(self) -> Path:
        return self.folder / "trust.json"

    def write(self, **changes: Any) -> None:
        self.file.write_bytes(self.bundle.SerializeToString())
        self.trust.write_bytes(self.verifier.trust(**changes).to_json())


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    verifier = FakeVerifier()
    kept = Kept(tmp_path, verifier, FakeWorker(verifier).serving().bundle)
    kept.write()
    return kept


def refused(run: Run, *words: str | Path) -> tuple[int, str]:
    """Step and reason with which the file is not believed."""
    code, out, _ = run("evidence", "verify", *words, "--json")
    found = json.loads(out)
    assert (code, found["believed"]) == (3, False)
    return found["step"], found["reason"]


def test_a_bundle_is_believed_and_explained(run: Run, kept: Kept) -> None:
    code, out, err = run("evidence", "verify", kept.file, "--trust", kept.trust)
    assert code == 0
    for said in (
        "is believed",
        "evidence bundle with a quote of an SGX enclave",
        "simulated root, not Intel's",
        f"UpToDate: {status_meaning('UpToDate')}",
        ENCLAVE.mrenclave.hex(),
        "INIT, MODE64BIT",
        "holds from",
        "freshness",
    ):
        assert said in out
    assert "code  " not in out
    assert "proves nothing about hardware" in err


def test_a_bundle_for_a_script(run: Run, kept: Kept) -> None:
    code, out, _ = run("evidence", "verify", kept.file, "--trust", kept.trust, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["believed"], found["kind"], found["crypto"]) == (True, "evidence bundle", "verified")
    assert (found["tcb_status"], found["advisory_ids"], found["simulated"]) == ("UpToDate", [], True)
    assert (found["step"], found["reason"], found["message"]) == (None, None, None)
    assert found["quote"]["mrenclave"] == ENCLAVE.mrenclave.hex()
    assert found["spiffe_id"].startswith("spiffe://")
    assert found["collateral"]["valid_from"] <= found["judged_at"] < found["collateral"]["valid_until"]


def test_without_a_trust_bundle_only_intels_root_counts(run: Run, kept: Kept) -> None:
    code, out, err = run("evidence", "verify", kept.file)
    assert code == 3
    assert "NOT believed" in out
    assert "step 2" in out
    assert "nothing proves" in out
    assert "--trust" in err
    step, reason = refused(run, kept.file)
    assert (step, reason.split(".")[0]) == (2, "crl")


def test_the_trust_bundle_decides_which_code(run: Run, kept: Kept) -> None:
    kept.write(mrenclave=frozenset({"ab" * 32}))
    assert refused(run, kept.file, "--trust", kept.trust) == (0, "measurement.unknown")
    kept.write(mrenclave=None)
    assert refused(run, kept.file, "--trust", kept.trust) == (0, "measurement.unpinned")
    kept.write(policy_toml='policy_id = "none"\n[platforms]\nmode = "enforce"\nallow = []\n')
    assert refused(run, kept.file, "--trust", kept.trust) == (7, "platform.not_allowed")


def test_claims_are_those_of_the_quote_and_of_the_mesh(run: Run, kept: Kept) -> None:
    kept.bundle.evidence.claims = good_evidence().claims_bytes
    kept.write()
    assert refused(run, kept.file, "--trust", kept.trust) == (5, "claims.unbound")
    other = good_evidence(audience="spiffe://other/verifier/main")
    kept.bundle.evidence.claims, kept.bundle.evidence.quote = other.claims_bytes, other.quote
    kept.write()
    assert refused(run, kept.file, "--trust", kept.trust) == (5, "claims.audience_mismatched")


def test_the_time_is_the_callers_to_choose(run: Run, kept: Kept) -> None:
    now = datetime.now(UTC)
    at = ("--trust", kept.trust, "--at")
    assert run("evidence", "verify", kept.file, *at, now.isoformat())[0] == 0
    assert run("evidence", "verify", kept.file, *at, now.replace(tzinfo=None).isoformat())[0] == 0
    step, reason = refused(run, kept.file, *at, (now + timedelta(days=400)).isoformat())
    assert (step, reason.split(".")[1]) == (2, "expired")


def write_quote(folder: Path, sample: SampleEvidence) -> tuple[Path, Path]:
    (folder / "quote.bin").write_bytes(sample.quote)
    (folder / "collateral.json").write_bytes(sample.collateral)
    return folder / "quote.bin", folder / "collateral.json"


def test_a_quote_by_itself(run: Run, kept: Kept) -> None:
    quote, collateral = write_quote(kept.folder, good_evidence())
    words = (quote, "--collateral", collateral, "--trust", kept.trust)
    code, out, _ = run("evidence", "verify", *words)
    assert code == 0
    assert "what it is      a quote of an SGX enclave" in out
    assert "speaks for" not in out
    quote.write_bytes(quote.read_bytes()[:-1])
    assert refused(run, *words) == (1, "quote.malformed")
    assert "no quote of a known kind" in run("evidence", "verify", *words)[1]
    collateral.write_bytes(b"{}")
    assert refused(run, *words) == (2, "collateral.malformed")


def write_certificate(folder: Path, made: Certificate, platform: Platform) -> tuple[Path, ...]:
    """The words that judge it as PEM; its DER lies beside."""
    (folder / "ra-tls.pem").write_bytes(made.pem())
    (folder / "ra-tls.der").write_bytes(made.der())
    (folder / "collateral.json").write_bytes(platform.collateral())
    return folder / "ra-tls.pem", Path("--collateral"), folder / "collateral.json"


def enclave_fields() -> dict[str, Any]:
    return asdict(ENCLAVE)


def test_an_ra_tls_certificate(run: Run, kept: Kept) -> None:
    platform = simulated_platform()
    for name, value in enclave_fields().items():
        setattr(platform, name, value)
    made = attester(platform)
    pem, *collateral = write_certificate(kept.folder, made, platform)
    code, out, _ = run("evidence", "verify", pem, *collateral, "--trust", kept.trust)
    assert code == 0
    for said in ("RA-TLS certificate with a quote of an SGX enclave", hashlib.sha256(made.spki).hexdigest(), "any age"):
        assert said in out
    found = json.loads(
        run("evidence", "verify", kept.folder / "ra-tls.der", *collateral, "--trust", kept.trust, "--json")[1]
    )
    assert (found["believed"], found["kind"]) == (True, "RA-TLS certificate")
    assert found["certificate"] == {
        "tls_spki_sha256": hashlib.sha256(made.spki).hexdigest(),
        "nonce": None,
        "legacy": False,
        "claims_passed_over": [],
    }
    kept.write(mrenclave=frozenset({"ab" * 32}))
    assert refused(run, pem, *collateral, "--trust", kept.trust) == (0, "measurement.unknown")
    assert refused(run, pem, *collateral)[0] == 2


@pytest.mark.attack("D13")
def test_a_certificate_whose_quote_is_anothers_is_not_believed(run: Run, kept: Kept) -> None:
    platform = simulated_platform()
    made = attester(platform)
    thief = Certificate()
    claims = attester_claims(thief.spki)
    quote = platform.quote(report_data(attester_claims(made.spki)))
    thief.extensions.append((EVIDENCE, None, evidence_extension(quote, claims).value))
    words = write_certificate(kept.folder, thief, platform)
    assert refused(run, *words, "--trust", kept.trust) == (5, "claims.unbound")
    assert hashlib.sha256(thief.spki).hexdigest() not in run("evidence", "verify", *words, "--trust", kept.trust)[1]
    words = write_certificate(kept.folder, replace(made, key=thief.key), platform)
    assert refused(run, *words, "--trust", kept.trust) == (0, "claims.key_mismatched")
    assert "no quote was looked at" in run("evidence", "verify", *words, "--trust", kept.trust)[1]


@pytest.mark.attack("D13")
def test_a_legacy_certificate_is_judged_only_when_asked_for(run: Run, kept: Kept) -> None:
    platform = simulated_platform()
    for name, value in enclave_fields().items():
        setattr(platform, name, value)
    words = (*write_certificate(kept.folder, legacy_attester(platform), platform), "--trust", kept.trust)
    assert refused(run, *words) == (0, "evidence.legacy")
    code, _, err = run("evidence", "verify", *words)
    assert code == 3
    assert "--allow-legacy-ra-tls" in err
    code, out, _ = run("evidence", "verify", *words, "--allow-legacy-ra-tls")
    assert code == 0
    assert "the legacy extension: the key alone" in out


def test_what_the_verifier_found_must_agree(run: Run, kept: Kept) -> None:
    found = json.loads(run("evidence", "verify", kept.file, "--trust", kept.trust, "--json")[1])
    assert found["attestation_result"]["issuer"] == VERIFIER
    assert "also found by" in run("evidence", "verify", kept.file, "--trust", kept.trust)[1]
    other = (
        FakeWorker(kept.verifier, spoil=lambda result: replace(result, tcb_evaluation=99, isvsvn=9)).serving().bundle
    )
    for token, reason in (
        ("", "token.malformed"),
        (FakeWorker(FakeVerifier()).token, "token.key_unknown"),
        (FakeWorker(kept.verifier).token, "claims.nonce_mismatched"),
    ):
        kept.bundle.attestation_result = token
        kept.write()
        assert refused(run, kept.file, "--trust", kept.trust)[1] == reason
    kept.bundle.CopyFrom(other)
    kept.write()
    assert refused(run, kept.file, "--trust", kept.trust) == (0, "findings.other")


def test_a_kept_bundle_is_judged_as_of_its_time(run: Run, kept: Kept) -> None:
    late = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    assert refused(run, kept.file, "--trust", kept.trust, "--at", late) == (0, "token.expired")
    code, _, err = run("evidence", "verify", kept.file, "--trust", kept.trust, "--at", late)
    assert code == 3
    assert "--at" in err


def test_a_status_that_is_refused_is_explained(run: Run, kept: Kept) -> None:
    platform = simulated_platform()
    platform.tcb_status, platform.advisory_ids = "OutOfDate", ["INTEL-SA-00001"]
    quote, collateral = write_quote(kept.folder, good_evidence(platform=platform))
    code, out, _ = run("evidence", "verify", quote, "--collateral", collateral, "--trust", kept.trust)
    assert code == 3
    assert f"OutOfDate: {status_meaning('OutOfDate')}" in out
    assert "INTEL-SA-00001" in out
    assert "step 7" in out
    assert "tcb_status.refused" in out


def test_what_is_furthest_behind_is_said_where_it_is_not_the_platform(run: Run, kept: Kept) -> None:
    platform = simulated_platform()
    platform.qe_isvsvn = 5
    quote, collateral = write_quote(kept.folder, good_evidence(platform=platform))
    words = (quote, "--collateral", collateral, "--trust", kept.trust)
    found = json.loads(run("evidence", "verify", *words, "--json")[1])
    assert found["patched_to"] < found["tcb_date"]
    assert f"patched to {found['patched_to'][:10]}" in run("evidence", "verify", *words)[1]


def test_every_status_has_words() -> None:
    assert all(status_meaning(status.value) for status in TcbStatus)


def test_what_cannot_be_judged_is_wrong_usage(run: Run, kept: Kept) -> None:
    quote, _ = write_quote(kept.folder, good_evidence())
    for words, says in (
        ((kept.folder / "none",), "cannot be read"),
        ((kept.folder,), "cannot be read"),
        ((quote,), "--collateral"),
        ((quote, "--collateral", kept.folder / "none"), "cannot be read"),
        ((kept.file, "--trust", kept.folder / "none"), "no trust bundle"),
        ((kept.file, "--trust", quote), "not a trust bundle"),
        ((kept.file, "--at", "yesterday"), "is no time"),
        ((kept.file, "--at", "0001-01-01T00:00:00+14:00"), "is no time"),
    ):
        code, out, err = run("evidence", "verify", *words)
        assert (code, out) == (2, "")
        assert says in err


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize(("name", "says"), [("tdx5-td15ex-01:valid", "mrtd"), ("sgx-swhn-01:valid", "mrenclave")])
def test_real_quotes(run: Run, name: str, says: str) -> None:
    one = corpus.evaluation(name)
    words = (one.quote, "--collateral", one.collateral, "--at", one.now.isoformat())
    code, out, _ = run("evidence", "verify", *words)
    assert code == (0 if one.expected.accepted else 3)
    assert "Intel (its SGX root CA)" in out
    assert says in out
    assert one.expected.tcb_status in out
    found = json.loads(run("evidence", "verify", *words, "--json")[1])
    assert (found["believed"], found["tcb_status"]) == (one.expected.accepted, one.expected.tcb_status)
    assert found["simulated"] is False


@pytest.fixture
def quotes(tmp_path: Path) -> Path:
    """A folder with one good quote of the simulator, and all files that entries of a test may name."""
    sample = good_evidence()
    write_quote(tmp_path, sample)
    (tmp_path / "root.der").write_bytes(sample.root_der)
    (tmp_path / "intel.der").write_bytes(INTEL_SGX.root_der)
    (tmp_path / "junk").write_bytes(b"junk")
    return tmp_path


def entry(**changes: Any) -> dict[str, Any]:
    evaluations = [{"label": "now", "now": int(datetime.now(UTC).timestamp())}]
    names = {"id": "one", "quote": "quote.bin", "collateral": "collateral.json", "root": "root.der"}
    return {key: value for key, value in {**names, "evaluations": evaluations, **changes}.items() if value is not None}


def lines(run: Run, folder: Path, *entries: object) -> list[dict[str, Any]]:
    (folder / "manifest.json").write_text(json.dumps({"entries": entries}))
    code, out, err = run("evidence", "judge", "--corpus", folder, "--json")
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_an_entry_is_a_line(run: Run, quotes: Path) -> None:
    (line,) = lines(run, quotes, entry())
    assert list(line) == FIELDS
    assert list(line.values()) == ["one", "now", "verified", "UpToDate", [], "accept", None, None]


def test_each_evaluation_has_its_time_and_root(run: Run, quotes: Path) -> None:
    now = int(datetime.now(UTC).timestamp())
    evaluations = [
        {"label": "late", "now": now + 400 * 86400},
        {"label": "intel", "now": now, "root_override": "intel.der"},
        {"label": "now", "now": now, "expected": "passed over"},
    ]
    late, intel, good = lines(run, quotes, entry(evaluations=evaluations))
    assert (late["label"], late["step"], late["reason"].split(".")[1]) == ("late", 2, "expired")
    assert (intel["crypto"], intel["step"], intel["default_policy"]) == ("reject", 2, "reject")
    assert good["default_policy"] == "accept"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quote": "none"}, "file.unreadable"),
        ({"quote": "."}, "file.unreadable"),
        ({"quote": "a\0b"}, "file.unreadable"),
        ({"quote": "\ud800"}, "file.unreadable"),
        ({"quote": "x" * 5000}, "file.unreadable"),
        ({"quote": None}, "manifest.malformed"),
        ({"quote": 7}, "manifest.malformed"),
        ({"quote": "junk"}, "quote.malformed"),
        ({"collateral": "none"}, "file.unreadable"),
        ({"collateral": "junk"}, "collateral.malformed"),
        ({"root": "junk"}, "anchor.refused"),
        ({"root": None}, "manifest.malformed"),
        ({"evaluations": None}, "manifest.malformed"),
        ({"evaluations": [7]}, "manifest.malformed"),
        ({"evaluations": [{"label": "now"}]}, "manifest.malformed"),
        ({"evaluations": [{"label": "now", "now": "today"}]}, "manifest.malformed"),
        ({"evaluations": [{"label": "now", "now": 10**30}]}, "manifest.malformed"),
        ({"evaluations": [{"label": "now", "now": -(10**9)}]}, "certificate.expired"),
    ],
)
def test_what_is_broken_is_a_line_and_stops_nothing(
    run: Run, quotes: Path, changes: dict[str, Any], reason: str
) -> None:
    broken, good = lines(run, quotes, entry(**changes), entry())
    assert (broken["id"], broken["crypto"], broken["default_policy"]) == ("one", "reject", "reject")
    assert (broken["tcb_status"], broken["advisory_ids"], broken["reason"]) == (None, None, reason)
    assert isinstance(broken["step"], int)
    assert good["default_policy"] == "accept"


@pytest.mark.attack("A03")
@pytest.mark.attack("B11")
def test_files_too_large_are_refused_by_their_beginning(run: Run, quotes: Path) -> None:
    with (quotes / "large").open("wb") as file:
        file.truncate(1 << 30)
    quote, collateral, root = lines(run, quotes, entry(quote="large"), entry(collateral="large"), entry(root="large"))
    assert (quote["step"], quote["reason"]) == (1, "quote.too_large")
    assert (collateral["step"], collateral["reason"]) == (2, "collateral.malformed")
    assert root["reason"] == "anchor.refused"


def test_an_entry_that_is_none_is_a_line(run: Run, quotes: Path) -> None:
    broken, good = lines(run, quotes, "entry", entry(id=None))
    assert (broken["id"], broken["label"], broken["reason"]) == (None, None, "manifest.malformed")
    assert (good["id"], good["default_policy"]) == (None, "accept")


def test_a_defect_of_ours_is_a_line_and_a_failure(run: Run, quotes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    (quotes / "manifest.json").write_text(json.dumps({"entries": [entry(), entry()]}))
    monkeypatch.setattr("cloister.client.quote_corpus.judge", broken)
    code, out, err = run("evidence", "judge", "--corpus", quotes, "--json")
    assert code == 1
    assert [json.loads(line)["reason"] for line in out.splitlines()] == ["internal", "internal"]
    assert "defect" in err


def test_for_a_person_there_are_a_table_and_a_count(run: Run, quotes: Path) -> None:
    platform = simulated_platform()
    platform.advisory_ids = [f"INTEL-SA-0000{n}" for n in range(5)]
    sample = good_evidence(platform=platform)
    (quotes / "advised.json").write_bytes(sample.collateral)
    entries = [entry(), entry(id="advised", collateral="advised.json"), entry(id="gone", quote="none")]
    (quotes / "manifest.json").write_text(json.dumps({"entries": entries}))
    code, out, _ = run("evidence", "judge", "--corpus", quotes)
    assert code == 0
    assert "INTEL-SA-00000, INTEL-SA-00001 and 3 more" in out
    assert "advisory.refused" in out
    assert out.splitlines()[-1] == "3 judged: 2 genuine, of which 1 accepted; 1 not genuine"


@pytest.mark.parametrize("content", [None, b"junk", b"[]", b"{}", b'{"entries": {}}', b"[" * 100_000])
def test_a_folder_without_a_manifest_is_wrong_usage(run: Run, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    code, out, err = run("evidence", "judge", "--corpus", tmp_path, "--json")
    assert (code, out) == (2, "")
    assert "manifest.json" in err


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
def test_the_whole_corpus_is_printed_as_it_is_judged_without_its_expectations(run: Run, tmp_path: Path) -> None:
    kept = ("label", "now", "root_override")
    entries = [
        {
            "id": each["id"],
            **{name: str(corpus.FOLDER / each[name]) for name in ("quote", "collateral", "root")},
            "evaluations": [{key: value for key, value in one.items() if key in kept} for one in each["evaluations"]],
        }
        for each in json.loads((corpus.FOLDER / "manifest.json").read_bytes())["entries"]
    ]
    for one in (one for each in entries for one in each["evaluations"] if "root_override" in one):
        one["root_override"] = str(corpus.FOLDER / one["root_override"])
    found = lines(run, tmp_path, *entries)
    assert len(found) == corpus.EVALUATIONS
    assert found == [json.loads(json.dumps(asdict(one))) for one in judge_corpus(corpus.FOLDER)]
