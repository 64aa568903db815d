"""The policy in force: signed by enough, never older than before, and replaced only by one that may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.appraisal.policy_document import PAYLOAD_TYPE
from cloister.appraisal.policy_file import MAX_POLICY_BYTES
from cloister.errors import AlreadyExists, CloisterError, InvalidRequest, NotReady, Unavailable
from cloister.verifier.policy_in_force import MEMORY, PolicyInForce, Signers
from fakes.policies import SIGNER_KEYS, policy_toml, signed
from fakes.sim import simulated_platform

NOBODY = Signers()
TWO_OF_THREE = Signers(keys=SIGNER_KEYS, threshold=2)
SIMULATED = TrustAnchor("simulated", simulated_platform().root_der())

Open = Callable[..., PolicyInForce]


@pytest.fixture
def open_(tmp_path: Path) -> Open:
    """Start with this in the policy's file."""

    def act(raw: bytes | None, signers: Signers = TWO_OF_THREE, anchor: TrustAnchor = SIMULATED) -> PolicyInForce:
        file = None
        if raw is not None:
            file = tmp_path / "policy"
            file.write_bytes(raw)
        policies = PolicyInForce.opened(file, signers=signers, anchor=anchor, folder=tmp_path)
        policies.remember()
        return policies

    return act


def refusal(act: Callable[[], object], kind: type[CloisterError] = InvalidRequest) -> str:
    with pytest.raises(kind) as refused:
        act()
    return refused.value.reason


def apply(policies: PolicyInForce, raw: bytes) -> int:
    policies.put(policies.check(raw))
    return policies.current().version


# Development: nobody signs


def test_without_signers_the_file_counts_as_it_stands(open_: Open) -> None:
    assert open_(None, NOBODY).current() == Policy.default()
    assert open_(b'policy_id = "ours"', NOBODY).current().policy_id == "ours"
    assert open_(b'policy_id = "theirs"', NOBODY).current().policy_id == "theirs"
    assert open_(signed(policy_toml(1), 0), NOBODY).current().version == 1


def test_without_signers_what_was_applied_counts_until_the_file_is_newer(open_: Open) -> None:
    policies = open_(policy_toml(1), NOBODY)
    assert apply(policies, policy_toml(5)) == 5
    assert open_(policy_toml(1), NOBODY).current().version == 5
    assert open_(None, NOBODY).current().version == 5
    assert open_(policy_toml(6), NOBODY).current().version == 6


def test_under_intels_root_nothing_is_applied_that_nobody_must_sign(open_: Open) -> None:
    policies = open_(policy_toml(1), NOBODY, INTEL_SGX)
    assert refusal(lambda: policies.check(policy_toml(2)), NotReady) == "policy.unsigned"
    signers = open_(signed(policy_toml(1), 0, 1), TWO_OF_THREE, INTEL_SGX)
    assert apply(signers, signed(policy_toml(2), 0, 1)) == 2


def test_under_intels_root_what_nobody_signed_is_not_taken_over(open_: Open) -> None:
    apply(open_(policy_toml(1), NOBODY), policy_toml(5))
    assert open_(policy_toml(1), NOBODY, INTEL_SGX).current().version == 1


def test_a_memory_that_was_edited_is_lost(open_: Open, tmp_path: Path) -> None:
    raw = signed(policy_toml(3), 0, 1)
    open_(raw)
    members = json.loads((tmp_path / MEMORY).read_bytes())
    (tmp_path / MEMORY).write_text(json.dumps({**members, "version": 1}))
    assert refusal(lambda: open_(raw), NotReady) == "policy.memory_lost"


@pytest.mark.attack("C08")
def test_nothing_is_put_in_force_that_a_restart_could_not_read(open_: Open) -> None:
    policies = open_(signed(policy_toml(1), 0, 1))
    swollen = signed(policy_toml(2), 0, 1) + b" " * (1 << 20)  # the signatures still hold
    assert refusal(lambda: apply(policies, swollen)) == "policy.malformed"
    assert open_(signed(policy_toml(1), 0, 1)).current().version == 1


def test_the_longest_policy_with_the_most_signatures_is_remembered(open_: Open) -> None:
    comment = "# " + "x" * (MAX_POLICY_BYTES - len(policy_toml(2)) - 2)
    crowd = [Ed25519PrivateKey.generate() for _ in range(dsse.MAX_SIGNATURES)]
    signers = Signers(keys=[key.public_key().public_bytes_raw().hex() for key in crowd], threshold=len(crowd))
    longest = dsse.sign(policy_toml(2, comment), PAYLOAD_TYPE, crowd)
    first = dsse.sign(policy_toml(1), PAYLOAD_TYPE, crowd)
    assert apply(open_(first, signers), longest) == 2
    assert open_(first, signers).current().version == 2


def test_under_intels_root_a_policy_names_code(open_: Open) -> None:
    unpinned = b'policy_id = "x"\nversion = 2'
    assert refusal(lambda: open_(signed(unpinned, 0, 1), TWO_OF_THREE, INTEL_SGX), NotReady) == "policy.unpinned"
    policies = open_(signed(policy_toml(1), 0, 1), TWO_OF_THREE, INTEL_SGX)
    assert refusal(lambda: policies.check(signed(unpinned, 0, 1)), NotReady) == "policy.unpinned"
    assert policies.current().version == 1


# People sign


@pytest.mark.attack("C08")
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (policy_toml(3), "policy.unsigned"),
        (signed(policy_toml(3), 0), "signature.insufficient"),
        (signed(b'policy_id = "x"', 0, 1), "policy.unversioned"),
        (signed(policy_toml(1), 0, 1), "policy.rolled_back"),
    ],
)
def test_a_policy_that_may_not_be_in_force_leaves_the_old_one_there(open_: Open, raw: bytes, reason: str) -> None:
    policies = open_(signed(policy_toml(2), 0, 1))
    before = policies.document
    assert refusal(lambda: policies.check(raw)) == reason
    assert policies.document is before
    assert apply(policies, signed(policy_toml(3), 1, 2)) == 3


@pytest.mark.attack("C07")
@pytest.mark.parametrize(
    "extra",
    ['accepted_statuses = "any"', "accepted_advisories = []", 'minimum_evaluation = ""', "acepted_statuses = 1"],
)
def test_a_policy_that_does_not_load_leaves_the_old_one_there(open_: Open, extra: str) -> None:
    policies = open_(signed(policy_toml(2), 0, 1))
    assert refusal(lambda: policies.check(signed(policy_toml(3, extra), 0, 1, 2))) == "policy.malformed"
    assert policies.current().version == 2
    assert refusal(lambda: open_(signed(policy_toml(3, extra), 0, 1, 2)), NotReady) == "policy.malformed"


@pytest.mark.attack("C08")
def test_one_version_is_one_policy(open_: Open) -> None:
    policies = open_(signed(policy_toml(2), 0, 1))
    other = signed(policy_toml(2, "minimum_evaluation = 1"), 0, 1)
    assert refusal(lambda: policies.check(other), AlreadyExists) == "policy.version_taken"
    assert refusal(lambda: open_(other), NotReady) == "policy.version_taken"
    assert apply(policies, signed(policy_toml(2), 0, 1, 2)) == 2
    assert policies.signed_by(policies.check(signed(policy_toml(2), 0, 1, 2))) == sorted(SIGNER_KEYS)


@pytest.mark.attack("C08")
def test_an_older_policy_does_not_come_back_with_a_restart(open_: Open) -> None:
    first = signed(policy_toml(1), 0, 1)
    assert apply(open_(first), signed(policy_toml(7), 0, 1)) == 7
    assert open_(first).current().version == 7
    assert open_(signed(policy_toml(8), 0, 1)).current().version == 8
    assert open_(first).current().version == 8


@pytest.mark.attack("C08")
def test_what_was_applied_is_not_undone_by_removing_its_signers(open_: Open) -> None:
    first = signed(policy_toml(1), 1, 2)
    apply(open_(first), signed(policy_toml(7), 0, 1))
    without_the_first = Signers(keys=SIGNER_KEYS[1:], threshold=2)
    assert refusal(lambda: open_(first, without_the_first), NotReady) == "policy.rolled_back"
    assert open_(signed(policy_toml(7), 1, 2), without_the_first).current().version == 7


@pytest.mark.attack("C08")
def test_a_removed_signer_does_not_count(open_: Open) -> None:
    without_the_first = Signers(keys=SIGNER_KEYS[1:], threshold=2)
    policies = open_(signed(policy_toml(1), 1, 2), without_the_first)
    assert refusal(lambda: policies.check(signed(policy_toml(2), 0, 1))) == "signature.insufficient"
    assert open_(signed(policy_toml(2), 0, 1), without_the_first).current().version == 1
    assert policies.current().version == 1


def test_the_file_may_be_of_former_signers_where_a_newer_one_was_applied(open_: Open) -> None:
    apply(open_(signed(policy_toml(1), 0, 1)), signed(policy_toml(2), 1, 2))
    later = open_(signed(policy_toml(1), 0, 1), Signers(keys=SIGNER_KEYS[1:], threshold=2))
    assert later.current().version == 2


def test_a_start_with_a_policy_that_too_few_signed(open_: Open) -> None:
    assert refusal(lambda: open_(signed(policy_toml(1), 0)), NotReady) == "signature.insufficient"
    assert refusal(lambda: open_(policy_toml(1)), NotReady) == "policy.unsigned"


# What is remembered


def test_what_is_in_force_is_kept_before_it_counts(
    open_: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = open_(signed(policy_toml(1), 0, 1))

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("cloister.verifier.policy_in_force.replace_private", full)
    assert refusal(lambda: apply(policies, signed(policy_toml(2), 0, 1)), Unavailable) == "state.unavailable"
    assert policies.current().version == 1


def test_the_memory_is_private_and_holds_the_exact_bytes(open_: Open, tmp_path: Path) -> None:
    raw = signed(policy_toml(1), 0, 1)
    policies = open_(raw)
    assert (tmp_path / MEMORY).stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / MEMORY).read_bytes())["digest"] == policies.current().digest.hex()
    document = open_(raw).document
    assert document is not None
    assert document.raw == raw


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"version": 1, "digest": "", "document": ""}', b"\xff", b'{"document": "e30="}']
)
def test_a_memory_that_is_lost_is_said_and_not_passed_over(open_: Open, tmp_path: Path, content: bytes) -> None:
    raw = signed(policy_toml(1), 0, 1)
    open_(raw)
    (tmp_path / MEMORY).write_bytes(content)
    assert refusal(lambda: open_(raw), NotReady) == "policy.memory_lost"
