"""What several people sign for a model, from hand to hand: each says what it signs, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.identities import new_ed25519_pem
from cloister.cli.mesh_folder import Mesh
from cloister.cli.release_explaining import is_model
from cloister.client import policy_draft, read_document, signer_set_draft
from cloister.rpc.files import create_private
from fakes.release_desk import signed_manifest
from fakes.results import MODEL, MRENCLAVE, good_policy
from fakes.signer_sets import ALICE, BOB, OWNER, public, signer_set

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.pem" for name in ("alice", "bob")]
    for path in paths:
        create_private(path, new_ed25519_pem())
    return paths


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "policy.json"
    path.write_bytes(policy_draft(good_policy(platforms={"ppid_sha256": ["c3" * 32]}, releases_per_hour=60)))
    return path


def test_a_policy_goes_from_hand_to_hand(run: Run, draft: Path, keys: list[Path]) -> None:
    code, out, _ = run("model", "sign", draft, "--key", keys[0])
    assert code == 0
    for said in (f"policy 1 of {MODEL}", MRENCLAVE, "c3" * 32, "60", "signed by 1"):
        assert said in out
    envelope = draft.with_suffix(".signed.json")
    assert run("model", "sign", envelope, "--key", keys[1])[0] == 0
    signed = read_document(envelope.read_bytes())
    assert (len(signed.signers), signed.policy()) == (2, read_document(draft.read_bytes()).policy())


def test_who_signs_the_draft_again_adds_to_what_others_signed(run: Run, draft: Path, keys: list[Path]) -> None:
    for key in keys:
        assert run("model", "sign", draft, "--key", key)[0] == 0
    assert len(read_document(draft.with_suffix(".signed.json").read_bytes()).signers) == 2


def test_what_others_signed_is_not_written_over(run: Run, draft: Path, keys: list[Path]) -> None:
    assert run("model", "sign", draft, "--key", keys[0])[0] == 0
    before = draft.with_suffix(".signed.json").read_bytes()
    draft.write_bytes(policy_draft(good_policy(version=2)))
    code, _, err = run("model", "sign", draft, "--key", keys[1])
    assert code == 1
    assert "holds something else" in err
    assert draft.with_suffix(".signed.json").read_bytes() == before


def test_simulated_workers_are_not_signed_for_unseen(run: Run, draft: Path, keys: list[Path]) -> None:
    draft.write_bytes(policy_draft(good_policy(allow_simulated=True)))
    assert "Simulated workers may have the key" in run("model", "sign", draft, "--key", keys[0])[2]


def test_signer_sets_and_manifests_are_signed_too(run: Run, tmp_path: Path, keys: list[Path]) -> None:
    signers, manifest = tmp_path / "signers.json", tmp_path / "manifest.json"
    signers.write_bytes(signer_set_draft(signer_set(1, 2, ALICE, BOB)))
    manifest.write_bytes(signed_manifest(OWNER).manifest)
    code, out, _ = run("model", "sign", signers, "--key", keys[0])
    assert (code, f"signer set 1 of {MODEL}: 2 of 2 sign" in out, public(ALICE) in out) == (0, True, True)
    code, out, _ = run("model", "sign", manifest, "--key", keys[0], "--out", tmp_path / "approval.json")
    assert (code, f'"name":"{MODEL}"' in out) == (0, True)
    code, _, err = run("model", "apply", tmp_path / "approval.json")
    assert (code, "--approval" in err) == (2, True)


def test_a_draft_that_nobody_signed_is_not_handed_in(run: Run, draft: Path) -> None:
    code, _, err = run("model", "apply", draft)
    assert (code, "nobody has signed" in err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [("--threshold", "2"), ("--signer", "ab" * 32), ("--draft", "x.json"), ("--threshold", "1", "--signer", "ab" * 32)],
)
def test_half_of_a_signer_set_is_none(run: Run, mesh: Mesh, words: tuple[str, ...]) -> None:
    code, _, err = run("model", "signers", MODEL, *words, "--mesh", mesh.folder)
    assert (code, "--threshold, --signer and --draft" in " ".join(err.split())) == (2, True)


def test_a_file_is_not_taken_for_a_model_nor_a_model_for_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris").write_text("policy_id = 'x'")
    assert [is_model(each) for each in ("breast-cancer", "iris", "policy.toml", "a/b", "Iris", str(tmp_path))] == [
        True,
        *[False] * 5,
    ]
    code, _, err = run("policy", "explain", "iris", "--policy", "draft.json")
    assert (code, "are for a model" in " ".join(err.split())) == (2, True)
    code, _, err = run("policy", "explain", "breast-cancer", "--evidence", tmp_path)
    assert (code, "are for an appraisal policy" in " ".join(err.split())) == (2, True)
