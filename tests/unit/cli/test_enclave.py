"""`cloister enclave` and what policies make of it, on folders that need no Gramine: from a build to who believes it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.client import TrustBundle, read_policy
from cloister.client.trust import Code, check_code
from cloister.enclave.kinds import VERIFIER, EnclaveSet
from cloister.enclave.measurement import Measurement
from cloister.enclave.signers import KeySigner, new_key
from cloister.errors import EvidenceRejected
from fakes.built_enclave import Built
from fakes.founded import found
from fakes.policies import policy_toml

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def signer() -> KeySigner:
    return new_key()


@pytest.fixture
def key(signer: KeySigner, tmp_path: Path) -> Path:
    path = tmp_path / "signer.pem"
    path.write_bytes(signer.private_pem())
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def _no_gramine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")


def test_measure_says_what_a_quote_would(run: Run, tmp_path: Path) -> None:
    measured = Built(isvsvn=4).into(tmp_path / "worker")
    code, out, _ = run("enclave", "measure", tmp_path / "worker")
    assert (code, measured.mrenclave in out, "nobody has signed it" in out) == (0, True, True)
    code, out, _ = run("enclave", "measure", tmp_path / "worker", "--json")
    assert json.loads(out) == {
        "kind": "worker",
        "set": "hardened",
        "mrenclave": measured.mrenclave,
        "mrsigner": None,
        "isvprodid": 1,
        "isvsvn": 4,
        "debug": False,
    }


def test_a_debug_or_simulated_enclave_is_never_shown_without_a_warning(
    run: Run, tmp_path: Path, signer: KeySigner
) -> None:
    for enclave_set, words in ((EnclaveSet.DEBUG, "open to a debugger"), (EnclaveSet.SIMULATED, "protects nothing")):
        Built(enclave_set=enclave_set, debug_key=signer).into(tmp_path / enclave_set)
        code, out, err = run("enclave", "measure", tmp_path / enclave_set)
        assert (code, words in err) == (0, True), out


def test_a_signature_made_with_openssl_alone_is_the_one_made_here(run: Run, tmp_path: Path, key: Path) -> None:
    for name in ("here", "there"):
        Built().into(tmp_path / name)
    assert run("enclave", "sign", tmp_path / "here", "--key", key)[0] == 0
    _, out, _ = run("enclave", "sign", tmp_path / "there", "--to-sign", tmp_path / "bytes")
    command = next(line for line in out.splitlines() if line.startswith("openssl "))
    places = {"KEY": key, "SIGNATURE": tmp_path / "signature"}
    subprocess.run([str(places.get(word, word)) for word in command.split()], check=True)
    subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", tmp_path / "key.pub"], check=True)
    signature = ("--signature", tmp_path / "signature", "--public-key", tmp_path / "key.pub")
    assert run("enclave", "sign", tmp_path / "there", *signature)[0] == 0
    assert (tmp_path / "there" / "worker.sig").read_bytes() == (tmp_path / "here" / "worker.sig").read_bytes()


@pytest.mark.parametrize("words", [(), ("--signature", "x"), ("--key", "x", "--to-sign", "y"), ("--public-key", "x")])
def test_sign_wants_one_way_to_sign(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    Built().into(tmp_path / "worker")
    code, _, err = run("enclave", "sign", tmp_path / "worker", *words)
    assert (code, "name one of --key" in err) == (2, True)


def test_run_asks_for_what_makes_the_quotes_of_a_simulated_enclave_and_of_no_other(
    run: Run, tmp_path: Path, key: Path
) -> None:
    Built(enclave_set=EnclaveSet.SIMULATED).into(tmp_path / "simulated")
    code, _, err = run("enclave", "run", tmp_path / "simulated")
    assert (code, "name what makes its quotes, --platform" in err) == (2, True)
    Built().into(tmp_path / "hardened")
    assert run("enclave", "sign", tmp_path / "hardened", "--key", key)[0] == 0
    code, _, err = run("enclave", "run", tmp_path / "hardened", "--platform", tmp_path)
    assert (code, "leave out --platform" in err) == (2, True)


def test_check_says_with_its_exit_code_whether_two_builds_are_the_same(run: Run, tmp_path: Path) -> None:
    for name, threads in (("one", 32), ("same", 32), ("other", 48)):
        Built(threads=threads).into(tmp_path / name)
    published = tmp_path / "published.json"
    (tmp_path / "same" / "measurement.json").rename(published)
    assert run("enclave", "check", published, tmp_path / "one")[0] == 0
    code, out, _ = run("enclave", "check", tmp_path / "one", tmp_path / "other")
    assert (code, "32 -> 48" in out) == (3, True)
    code, out, _ = run("enclave", "check", tmp_path / "one", tmp_path / "other", "--json")
    assert (code, json.loads(out)["options"]) == (3, [{"key": "sgx.max_threads", "before": 32, "after": 48}])


def test_check_holds_a_folder_against_its_own_measurement(run: Run, tmp_path: Path) -> None:
    Built().into(tmp_path / "worker")
    code, out, _ = run("enclave", "check", tmp_path / "worker")
    assert (code, "is as it was measured" in out) == (0, True)
    (tmp_path / "worker/root/lib/python3.11/os.py").write_text("import evil")
    code, out, _ = run("enclave", "check", tmp_path / "worker", "--json")
    assert (code, [file["path"] for file in json.loads(out)["changed"]]) == (3, ["root/lib/python3.11/os.py"])


def test_rows_can_be_appended_to_a_policy(run: Run, tmp_path: Path) -> None:
    measured = Built().into(tmp_path / "worker")
    rows, policy = tmp_path / "rows.toml", tmp_path / "policy.toml"
    assert run("enclave", "measure", tmp_path / "worker", "--reference-values", rows)[0] == 0
    policy.write_text(f'policy_id = "ward"\nversion = 1\n\n{rows.read_text()}')
    code, out, _ = run("policy", "check", policy, "--json")
    assert (code, json.loads(out)["reference_values"][0]["mrenclave"]) == (0, measured.mrenclave)


def test_a_policy_accepts_the_builds_that_are_named_and_no_others(run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_bytes(policy_toml(3, "# ours since spring\nminimum_evaluation = 17"))
    old, new = (Built(threads=threads).into(tmp_path / str(threads)) for threads in (32, 48))
    for words, wanted in (((32, 48), (old, new)), ((48,), (new,))):
        named = [word for threads in words for word in ("--enclave", tmp_path / str(threads))]
        assert run("policy", "accept", policy, *named)[0] == 0
        found = read_policy(policy).policy
        assert [value.mrenclave and value.mrenclave.hex() for value in found.reference_values] == [
            each.mrenclave for each in wanted
        ]
    assert (found.version, found.minimum_evaluation, "# ours since spring" in policy.read_text()) == (5, 17, True)


def test_no_policy_of_workers_takes_another_kind(run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_bytes(policy_toml(3))
    Built(kind=VERIFIER).into(tmp_path / "verifier")
    code, _, err = run("policy", "accept", policy, "--enclave", tmp_path / "verifier")
    assert (code, "verifier is a verifier, and a policy of the verifier is about workers" in err) == (2, True)
    assert policy.read_bytes() == policy_toml(3)


@pytest.mark.parametrize("enclave_set", [EnclaveSet.DEBUG, EnclaveSet.SIMULATED])
def test_no_policy_accepts_another_set_by_mistake(
    run: Run, tmp_path: Path, signer: KeySigner, enclave_set: EnclaveSet
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_bytes(policy_toml(3))
    Built(enclave_set=enclave_set, debug_key=signer).into(tmp_path / "other")
    Built().into(tmp_path / "hardened")
    for named in (
        ["--enclave", tmp_path / "other"],
        ["--enclave", tmp_path / "hardened", "--enclave", tmp_path / "other"],
    ):
        assert run("policy", "accept", policy, *named)[0] != 0
        assert policy.read_bytes() == policy_toml(3)
    allowed = run("policy", "accept", policy, "--enclave", tmp_path / "other", "--allow-simulated")
    assert allowed[0] == (0 if enclave_set is EnclaveSet.SIMULATED else 1)


def test_where_gramine_is_missing_one_sentence_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = run(
        "enclave", "build", "worker", "--settings", tmp_path / "worker.toml", "--out", tmp_path / "out"
    )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "install the package 'gramine'" in err
    assert list(tmp_path.iterdir()) == []


def test_a_built_worker_is_believed_by_mesh_and_clients_and_another_build_is_not(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/guides/building-enclaves.md has it: a founded mesh, then an upgrade, by the verifier and by clients."""
    old, new = (Built(threads=threads).into(tmp_path / str(threads)) for threads in (32, 48))
    mesh = found(tmp_path / "mesh", monkeypatch, mrenclave=[old.mrenclave])
    policy, signer = mesh.folder / "verifier" / "policy.toml", mesh.identity("owner") / "signing_key.pem"
    believed = [believes(policy, TrustBundle.read(mesh.trust), build) for build in (old, new)]
    assert run("policy", "accept", policy, "--enclave", tmp_path / "48")[0] == 0
    assert run("policy", "sign", policy, "--key", signer)[0] == 0
    _, out, _ = run("enclave", "measure", tmp_path / "48", "--json")
    assert run("trust", "accept", "--mrenclave", json.loads(out)["mrenclave"], "--trust", mesh.trust)[0] == 0
    signed = policy.with_name("policy.signed.json")
    believed += [believes(signed, TrustBundle.read(mesh.trust), build) for build in (old, new)]
    assert believed == [(True, True), (False, False), (False, False), (True, True)]


def believes(policy: Path, trust: TrustBundle, measured: Measurement) -> tuple[bool, bool]:
    """Whether the verifier would, and clients."""
    code = Code(bytes.fromhex(measured.mrenclave), bytes(32), measured.isvprodid, measured.isvsvn)
    try:
        check_code(code, trust)
        client = True
    except EvidenceRejected:
        client = False
    return any(value.matches(code) for value in read_policy(policy).policy.reference_values), client
