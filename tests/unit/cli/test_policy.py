"""`cloister policy` without a mesh: what a policy means, who signs it, and whom it would refuse of kept evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.appraisal.policy import Policy
from cloister.appraisal.policy_document import check_signed
from cloister.client import read_policy
from cloister_simulator.measurement import Measurement
from fakes.policies import SIGNER_KEYS, SIGNERS, policy_toml
from fakes.serving import FakeVerifier, FakeWorker
from fakes.sim import simulated_platform

Run = Callable[..., tuple[int, str, str]]
OTHER = Measurement(mrenclave=b"\x05" * 32)

EVERYTHING = f"""policy_id = "everything"
version = 7
accepted_statuses = ["UpToDate"]
accepted_advisories = ["INTEL-SA-00615"]
minimum_evaluation = 17
minimum_tcb_date = 2023-08-09
allow_zero_padding = true

[grace_days]
OutOfDate = 90

[[reference_values]]
mrsigner = "{"bb" * 32}"
isvprodid = 5
minimum_isvsvn = 3
config_svn = 4

[[td_reference_values]]
mrtd = "{"ee" * 48}"
rtmr1 = "{"ff" * 48}"

[platforms]
mode = "enforce"
allow = ["{"cc" * 16}"]
deny = ["{"dd" * 16}", "{"de" * 16}"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_bytes(policy_toml(3))
    return path


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    """The signers' keys, each for its owner's eyes only."""
    return [write_key(tmp_path / f"{n}.pem", key) for n, key in enumerate(SIGNERS)]


def write_key(path: Path, key: Ed25519PrivateKey) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


# check


def test_a_policy_is_said_in_words(run: Run, file: Path) -> None:
    file.write_text(EVERYTHING)
    code, out, err = run("policy", "check", file)
    assert (code, err) == (0, "")
    for said in (
        "policy 'everything', version 7",
        read_policy(file).policy.digest.hex(),
        "nobody",
        "accepts UpToDate",
        "for 90 days OutOfDate",
        "INTEL-SA-00615; any other is refused",
        "evaluation number 17 or higher",
        "2023-08-09 or later",
        "only 1 that are named, and 2 refused by name",
        "zero bytes may follow",
        "refused always",
        "bb" * 32,
        "minimum_isvsvn",
        "config_svn",
        "ee" * 48,
        "rtmr1",
    ):
        assert said in out
    assert "rtmr0" not in out
    assert "config_id" not in out


def test_a_policy_for_a_script(run: Run, file: Path) -> None:
    file.write_text(EVERYTHING)
    code, out, _ = run("policy", "check", file, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["policy_id"], found["version"], found["signed_by"]) == ("everything", 7, [])
    assert (found["grace_days"], found["minimum_tcb_date"]) == ({"OutOfDate": 90}, "2023-08-09")
    assert found["reference_values"][0]["isvprodid"] == 5
    assert found["td_reference_values"][0]["rtmrs"][1] == "ff" * 48
    assert found["platforms"] == {"mode": "enforce", "allow": ["cc" * 16], "deny": ["dd" * 16, "de" * 16]}


def test_a_policy_that_leaves_much_open_is_warned_of(run: Run, file: Path) -> None:
    file.write_text('policy_id = "open"')
    code, _, err = run("policy", "check", file)
    assert code == 0
    assert "no version" in err
    assert "names no code" in err


@pytest.mark.attack("C07")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "table with something in it"),
        ('policy_id = "x"\naccepted_statuses = "any"', "accepted_statuses"),
        ('policy_id = "x"\nminimum_tcb_date = ""', "minimum_tcb_date"),
        ('policy_id = "x"\nminimum_evaluations = 1', "minimum_evaluations"),
        ("{", "not a signed document"),
    ],
)
def test_a_policy_that_does_not_load_is_one_sentence(run: Run, file: Path, text: str, says: str) -> None:
    file.write_text(text)
    code, out, err = run("policy", "check", file)
    assert (code, out) == (1, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_not_there_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    for command in ("check", "explain", "apply"):
        code, out, err = run("policy", command, tmp_path / "none")
        assert (code, out) == (2, "")
        assert "cannot be read" in err


# sign


def test_people_sign_one_after_another(run: Run, file: Path, keys: list[Path]) -> None:
    code, out, _ = run("policy", "sign", file, "--key", keys[0])
    assert code == 0
    assert SIGNER_KEYS[0] in out
    envelope = file.with_suffix(".signed.json")
    assert read_policy(envelope).toml == file.read_bytes()
    assert run("policy", "sign", envelope, "--key", keys[1])[0] == 0
    assert read_policy(envelope).signers == {SIGNER_KEYS[0], SIGNER_KEYS[1]}
    assert run("policy", "sign", envelope, "--key", keys[2], "-o", file.with_name("all.json"))[0] == 0
    assert len(read_policy(envelope).signers) == 2
    all_three = read_policy(file.with_name("all.json"))
    check_signed(all_three.raw, SIGNER_KEYS, 3)
    code, out, _ = run("policy", "check", file.with_name("all.json"))
    assert code == 0
    assert ", ".join(sorted(SIGNER_KEYS)) in out


def test_a_signature_on_the_toml_again_joins_those_that_are_there(run: Run, file: Path, keys: list[Path]) -> None:
    for key in keys[:2]:
        assert run("policy", "sign", file, "--key", key)[0] == 0
    check_signed(file.with_suffix(".signed.json").read_bytes(), SIGNER_KEYS, 2)


@pytest.mark.parametrize("there", ["another policy", "no policy"])
def test_what_is_there_and_is_something_else_is_left_as_it_is(
    run: Run, file: Path, keys: list[Path], there: str
) -> None:
    assert run("policy", "sign", file, "--key", keys[0])[0] == 0
    signed = file.with_suffix(".signed.json")
    if there == "no policy":
        signed.write_bytes(b"my only copy")
    before = signed.read_bytes()
    file.write_bytes(file.read_bytes() + b"\n# changed\n")
    code, _, err = run("policy", "sign", file, "--key", keys[1])
    assert code == 1
    assert "was left as it is" in err
    assert signed.read_bytes() == before


def test_what_nobody_should_sign_is_not_signed(run: Run, file: Path, keys: list[Path]) -> None:
    file.write_text('policy_id = "x"')
    code, _, err = run("policy", "sign", file, "--key", keys[0])
    assert code == 1
    assert "policy.unversioned" in err
    file.write_text('policy_id = "x"\nversion = 1\naccepted_advisories = []')
    code, _, err = run("policy", "sign", file, "--key", keys[0])
    assert code == 1
    assert "accepted_advisories" in err
    assert not file.with_suffix(".signed.json").exists()


def test_a_key_is_an_ed25519_key_that_nobody_else_reads(run: Run, file: Path, keys: list[Path], tmp_path: Path) -> None:
    keys[0].chmod(0o644)
    code, _, err = run("policy", "sign", file, "--key", keys[0])
    assert code == 2
    assert "chmod 600" in err
    keys[1].write_bytes(b"junk")
    assert run("policy", "sign", file, "--key", keys[1])[0] == 2
    assert run("policy", "sign", file, "--key", tmp_path / "none")[0] == 2


# explain


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Path, dict[str, FakeWorker]]:
    """Evidence of two workers of other code each, and the trust bundle that has their root."""
    folder, verifier = tmp_path / "kept", FakeVerifier()
    folder.mkdir()
    workers = {"ours": FakeWorker(verifier), "other": FakeWorker(verifier, enclave=OTHER)}
    for name, worker in workers.items():
        (folder / f"{name}.bundle").write_bytes(worker.serving().bundle.SerializeToString())
    (folder / "notes.txt").write_text("not evidence")
    (tmp_path / "trust.json").write_bytes(verifier.trust().to_json())
    return folder, tmp_path / "trust.json", workers


Kept = tuple[Path, Path, dict[str, FakeWorker]]


def test_who_would_fall_out_is_said_with_step_and_reason(run: Run, file: Path, kept: Kept) -> None:
    words = ("policy", "explain", file, "--evidence", kept[0], "--trust", kept[1])
    code, out, _ = run(*words, "--json")
    other, ours = json.loads(out)
    assert code == 3
    assert (other["worker"], other["believed"], other["step"], other["reason"]) == (
        "other",
        False,
        7,
        "measurement.refused",
    )
    assert (ours["worker"], ours["believed"], ours["step"], ours["tcb_status"]) == ("ours", True, None, "UpToDate")
    code, out, _ = run(*words)
    assert code == 3
    assert "2 judged: 1 would stay, 1 would fall out" in out
    assert "step 7: Platform and code are what the policy allows." in out


def test_nobody_falls_out_of_a_policy_that_wants_both(run: Run, file: Path, kept: Kept) -> None:
    file.write_bytes(policy_toml(3) + b'[[reference_values]]\nmrenclave = "' + b"05" * 32 + b'"\n')
    code, out, _ = run("policy", "explain", file, "--evidence", kept[0], "--trust", kept[1])
    assert code == 0
    assert "2 would stay, 0 would fall out" in out


def test_kept_evidence_is_judged_under_intels_root_unless_a_bundle_says_otherwise(
    run: Run, file: Path, kept: Kept
) -> None:
    code, out, _ = run("policy", "explain", file, "--evidence", kept[0], "--json")
    assert code == 3
    assert {one["step"] for one in json.loads(out)} == {2}


def test_evidence_with_other_claims_falls_out(run: Run, file: Path, kept: Kept) -> None:
    bundle = kept[2]["ours"].serving().bundle
    bundle.evidence.claims = kept[2]["other"].evidence.claims_bytes
    (kept[0] / "ours.bundle").write_bytes(EvidenceBundle.SerializeToString(bundle))
    _, out, _ = run("policy", "explain", file, "--evidence", kept[0], "--trust", kept[1], "--json")
    assert [one["reason"] for one in json.loads(out) if one["worker"] == "ours"] == ["claims.unbound"]


def test_newer_collateral_shows_who_will_fall_out(run: Run, file: Path, kept: Kept, tmp_path: Path) -> None:
    (kept[0] / "other.bundle").unlink()
    platform = simulated_platform()
    platform.tcb_status, platform.advisory_ids = "OutOfDate", ["INTEL-SA-00615"]
    (tmp_path / "early.json").write_bytes(platform.collateral())
    words = ("policy", "explain", file, "--evidence", kept[0], "--trust", kept[1])
    assert run(*words)[0] == 0
    code, out, _ = run(*words, "--collateral", tmp_path / "early.json", "--json")
    assert code == 3
    assert [(one["tcb_status"], one["reason"]) for one in json.loads(out)] == [("OutOfDate", "tcb_status.refused")]
    file.write_bytes(policy_toml(4, "[grace_days]\nOutOfDate = 3650"))
    assert run(*words, "--collateral", tmp_path / "early.json")[0] == 0
    platform.tcb_info_fmspc = bytes(6)
    (tmp_path / "early.json").write_bytes(platform.collateral())
    code, out, _ = run(*words, "--collateral", tmp_path / "early.json", "--json")
    assert (code, json.loads(out)[0]["tcb_status"]) == (0, "UpToDate")
    assert run(*words, "--collateral", tmp_path / "none")[0] == 2
    code, out, err = run(*words, "--collateral", file)
    assert (code, out) == (2, "")
    assert f"{file} is no collateral" in err


def test_a_folder_without_evidence_is_wrong_usage(run: Run, file: Path, tmp_path: Path) -> None:
    code, out, err = run("policy", "explain", file, "--evidence", tmp_path)
    assert (code, out) == (2, "")
    assert "cloister evidence save" in err
    code, out, err = run("policy", "explain", file, "--evidence", file)
    assert (code, out) == (2, "")
    assert f"{file} is no folder" in err


# The guide

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "appraisal-policy.md").read_text()


def test_the_guides_example_loads_and_names_every_key(file: Path) -> None:
    example = GUIDE.partition("```toml\n")[2].partition("```")[0]
    file.write_text(example)
    policy = read_policy(file).policy
    for name, value in vars(Policy.default()).items():
        assert getattr(policy, name) != value or name in {"accepted_statuses", "accepted_advisories"}, name
    for key in ("config_id", "config_svn", "ext_prod_id", "family_id", "allow_zero_padding", "mrownerconfig", "xfam"):
        assert f"`{key}`" in GUIDE


def test_the_guides_commands_exist(run: Run) -> None:
    for line in {line.split("#")[0].strip() for line in GUIDE.splitlines() if line.startswith("cloister ")}:
        words = [word for word in line.split()[1:3] if word.isalpha()]
        assert run(*words, "--help")[0] == 0, line
