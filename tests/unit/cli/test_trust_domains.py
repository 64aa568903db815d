"""What people read of trust domains: in bundles, policies, the list of workers, evidence and receipts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.api.v1.gateway_pb2 import WorkerStatus
from cloister.cli.code_words import code, code_lines, place
from cloister.cli.worker_words import facts_of, row_of
from cloister_simulator.trust_domain import TrustDomain
from fakes.results import MRENCLAVE, TD, good_result, good_td_result
from fakes.serving import FakeVerifier

Run = Callable[..., tuple[int, str, str]]
DIGEST = TD.digest.hex()
DOMAIN = TrustDomain()


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    path = tmp_path / "trust.json"
    path.write_bytes(FakeVerifier().trust().to_json())
    return path


def test_a_bundle_takes_and_shows_trust_domains(run: Run, trust: Path) -> None:
    assert "trust domains" not in run("trust", "show", "--trust", trust)[1]
    code_, out, _ = run("trust", "accept", "--td-measurement", DIGEST, "--trust", trust)
    assert code_ == 0
    assert "workers in trust domains that you named" in out
    assert DIGEST in run("trust", "show", "--trust", trust)[1]
    shown = json.loads(run("trust", "show", "--trust", trust, "--json")[1])
    assert (shown["td_measurement"], len(shown["mrenclave"])) == ([DIGEST], 1)
    for wrong in ("ab", "AB" * 32, ""):
        assert run("trust", "accept", "--td-measurement", wrong, "--trust", trust)[0] == 2


def test_a_bundle_of_trust_domains_alone_is_no_bundle_that_names_nobody(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    bundle = FakeVerifier().trust(mrenclave=None, td_measurement=frozenset({DIGEST}))
    path.write_bytes(bundle.to_json())
    assert "none of enclaves" in run("trust", "show", "--trust", path)[1]


def test_a_policy_says_what_release_policies_and_bundles_have_to_name(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    rtmrs = "".join(f'rtmr{n} = "{value.hex()}"\n' for n, value in enumerate(DOMAIN.rtmrs) if any(value))
    path.write_text(f'policy_id = "domains"\n[[td_reference_values]]\nmrtd = "{DOMAIN.mrtd.hex()}"\n{rtmrs}')
    named = DOMAIN.measurement.digest.hex()
    code_, out, err = run("policy", "check", path)
    assert (code_, named in out) == (0, True)
    assert "names no code" not in err
    (row,) = json.loads(run("policy", "check", path, "--json")[1])["td_reference_values"]
    assert row["td_measurement"] == named


def test_a_worker_is_shown_by_its_measurement() -> None:
    enclave = facts_of(WorkerStatus(instance="ab" * 16, tee="sgx", mrenclave=MRENCLAVE))
    domain = facts_of(WorkerStatus(instance="ab" * 16, tee="tdx", td_measurement=DIGEST))
    assert (domain["tee"], domain["mrenclave"], domain["td_measurement"]) == ("tdx", "", DIGEST)
    rows = [row_of({**worker, "attested_until": ""}) for worker in (enclave, domain)]
    assert [row[-2] for row in rows] == [MRENCLAVE[:16], f"TD {DIGEST[:16]}"]


def test_a_simulated_worker_is_shown_as_one() -> None:
    for simulated, state in ((True, "linked, simulated"), (False, "linked")):
        worker = facts_of(WorkerStatus(instance="ab" * 16, linked=True, simulated=simulated))
        assert (worker["simulated"], row_of({**worker, "attested_until": ""})[2]) == (simulated, state)


def test_words_for_what_it_runs_in() -> None:
    assert [place(result) for result in (good_result(), good_td_result())] == ["enclave", "trust domain"]
    assert code(good_result()) == {"tee": "sgx", "mrenclave": MRENCLAVE, "td_measurement": ""}
    assert code(good_td_result()) == {"tee": "tdx", "mrenclave": "", "td_measurement": DIGEST}
    lines = code_lines(good_td_result())
    assert (lines["trust domain"], lines["rtmr3"]) == (DIGEST, "d5" * 48)
    assert "mrowner" not in lines
    assert MRENCLAVE in code_lines(good_result()).values()
