"""Which epoch keys a client seals jobs to, and who it would let read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.model_pb2 import SignedReleasePolicy
from cloister.appraisal.anchors import INTEL_SGX
from cloister.client.bundle import TrustBundle
from cloister.client.job_epochs import believe_epoch, choose_epoch
from cloister.client.policy_scope import check_no_wider
from cloister.client.trust import VerifiedWorker, believe
from cloister.errors import EvidenceRejected, NotReady, Unavailable
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.job_epoch import sign_epoch
from fakes.job_worker import Epoch, JobWorker, jointly_signed_policy, signed_policy
from fakes.serving import MODEL, OWNER, FakeVerifier, FakeWorker
from fakes.signer_sets import signed_set, signer_set
from fakes.sim import ENCLAVE

MRENCLAVE = ENCLAVE.mrenclave.hex()
MRSIGNER = ENCLAVE.mrsigner.hex()
OTHER = "cd" * 32
VERIFIER = FakeVerifier()
TRUST = VERIFIER.trust()


def believed(*epochs: Epoch) -> VerifiedWorker:
    """A worker that this client believes, and that announces the last of these."""
    worker = JobWorker(FakeWorker(VERIFIER), *epochs).worker
    return believe(worker.serving(), MODEL, TRUST, datetime.now(UTC))


def reason(worker: VerifiedWorker, trust: TrustBundle = TRUST) -> str:
    with pytest.raises((EvidenceRejected, NotReady, Unavailable)) as raised:
        believe_epoch(worker, trust, datetime.now(UTC))
    return raised.value.reason


def test_an_epoch_that_a_believed_worker_vouches_for_is_believed() -> None:
    epoch = Epoch(number=7)
    key = believe_epoch(believed(epoch), TRUST, datetime.now(UTC)).key
    assert (key.model_name, key.epoch, key.suite, key.public) == (MODEL, 7, epoch.pair.suite, epoch.pair.public)
    assert timedelta(0) <= epoch.open_until - key.open_until < timedelta(milliseconds=1)


def test_a_worker_that_says_nothing_takes_no_jobs() -> None:
    worker = believe(FakeWorker(VERIFIER).serving(), MODEL, TRUST, datetime.now(UTC))
    assert reason(worker) == "epoch.missing"


def _by_another(worker: FakeWorker, epoch: Epoch) -> None:
    worker.job_epoch = sign_epoch(epoch.statement(worker), Ed25519PrivateKey.generate())


def _altered(worker: FakeWorker, _: Epoch) -> None:
    assert worker.job_epoch is not None
    worker.job_epoch.statement = worker.job_epoch.statement.replace(b"\x28\x01", b"\x28\x02", 1)


def _another_workers(worker: FakeWorker, epoch: Epoch) -> None:
    other = JobWorker(FakeWorker(VERIFIER), epoch).worker
    worker.job_epoch = other.job_epoch


@pytest.mark.attack("G13")
@pytest.mark.parametrize("spoil", [_by_another, _altered, _another_workers])
def test_a_key_that_the_worker_did_not_sign_is_refused(spoil: Callable[[FakeWorker, Epoch], None]) -> None:
    """As one of the gateway's own, which could then read all jobs that are sealed to it."""
    epoch = Epoch()
    worker = JobWorker(FakeWorker(VERIFIER), epoch).worker
    spoil(worker, epoch)
    assert reason(believe(worker.serving(), MODEL, TRUST, datetime.now(UTC))) == "epoch.unsigned"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cluster": "other.internal"}, "epoch.other"),
        ({"instance": "0" * 32}, "epoch.other"),
        ({"model_name": "triple"}, "epoch.other"),
        ({"ear_id": "the one before"}, "epoch.unsettled"),
        ({"seal_until_ms": 1}, "epoch.ended"),
        ({"hpke_suite": XWING, "hpke_public": KeyPair.generate(XWING).public}, "suite.below_floor"),
    ],
)
def test_a_statement_is_about_this_worker_this_model_and_now(changes: dict[str, Any], expected: str) -> None:
    assert reason(believed(Epoch(changes=changes))) == expected


def test_a_policy_that_the_owner_did_not_sign_is_refused() -> None:
    other = signed_policy(Ed25519PrivateKey.generate())
    later = signed_policy(version=2)
    mixed = SignedReleasePolicy(policy=later.policy, signature=signed_policy().signature)
    for policy in (other, mixed):
        assert reason(believed(Epoch(policy=policy))) == "epoch.policy_unsigned"


PEOPLE = [Ed25519PrivateKey.generate() for _ in range(3)]
SET = signer_set(1, 2, *PEOPLE, model_name=MODEL, cluster=TRUST.cluster)
SETS = (signed_set(SET, OWNER, *PEOPLE[:2]),)


def test_a_policy_that_the_owner_left_to_others_is_believed_when_enough_of_them_signed() -> None:
    jointly = jointly_signed_policy(*PEOPLE[1:], signer_sets=SETS)
    assert believe_epoch(believed(Epoch(number=3, policy=jointly)), TRUST, datetime.now(UTC)).key.epoch == 3


@pytest.mark.attack("C08")
@pytest.mark.parametrize(
    "policy",
    [
        jointly_signed_policy(PEOPLE[0], signer_sets=SETS),
        jointly_signed_policy(OWNER, PEOPLE[0], signer_sets=SETS),
        jointly_signed_policy(*PEOPLE, signer_sets=(), signer_set=1),
        jointly_signed_policy(*PEOPLE, signer_sets=SETS, signer_set=2),
        jointly_signed_policy(*PEOPLE, signer_sets=(signed_set(SET, *PEOPLE),)),
        jointly_signed_policy(OWNER, signer_sets=SETS, signer_set=0),
    ],
    ids=["too few", "the owner for one of them", "no set", "another set", "a set not by the owner", "names no set"],
)
def test_a_policy_that_too_few_signed_is_refused(policy: SignedReleasePolicy) -> None:
    assert reason(believed(Epoch(policy=policy))) == "epoch.policy_unsigned"


def scope(policy: SignedReleasePolicy, **trust: Any) -> None:
    check_no_wider(policy.policy, MODEL, VERIFIER.trust(**trust))


@pytest.mark.parametrize("changes", [{"cluster": "other.internal"}, {"model_name": "triple"}, {"version": 0}])
def test_a_policy_of_another_model_or_mesh_says_nothing(changes: dict[str, Any]) -> None:
    scope(signed_policy())
    with pytest.raises(EvidenceRejected) as raised:
        scope(signed_policy(**changes))
    assert raised.value.reason == "epoch.policy_other"


SIGNERS = [{"mrsigner": MRSIGNER, "isvprodid": 1, "min_isvsvn": 3}]
BY_SIGNER = """
policy_id = "mine"
[[reference_values]]
mrsigner = "{}"
isvprodid = {}
minimum_isvsvn = {}
"""
ENFORCED = """
policy_id = "mine"
[platforms]
mode = "enforce"
allow = ["{}"]
"""
DENIED = """
policy_id = "mine"
[platforms]
mode = "off"
deny = ["{}"]
"""
PPID = "0f" * 16
HERE = {"ppid_sha256": [hashlib.sha256(bytes.fromhex(PPID)).hexdigest()]}
BY_MEASUREMENT = """
policy_id = "mine"
[[reference_values]]
mrenclave = "{}"
"""


@pytest.mark.parametrize(
    ("policy", "trust"),
    [
        ({}, {}),
        ({"mrenclave": [MRENCLAVE]}, {"mrenclave": frozenset({MRENCLAVE, OTHER})}),
        ({"mrenclave": [MRENCLAVE]}, {"mrenclave": None, "policy_toml": BY_MEASUREMENT.format(MRENCLAVE)}),
        ({"mrenclave": [], "signers": SIGNERS}, {"mrenclave": None, "policy_toml": BY_SIGNER.format(MRSIGNER, 1, 3)}),
        ({"mrenclave": [], "signers": SIGNERS}, {"mrenclave": None, "policy_toml": BY_SIGNER.format(MRSIGNER, 1, 2)}),
        ({"mrenclave": [], "td_measurement": [OTHER]}, {"td_measurement": frozenset({OTHER})}),
        ({"tcb_statuses": ["UpToDate"]}, {}),
        ({"platforms": {"ppid_sha256": [OTHER]}}, {}),
        ({"platforms": HERE}, {"policy_toml": ENFORCED.format(PPID)}),
        ({"platforms": {"ppid_sha256": [OTHER]}}, {"policy_toml": DENIED.format(PPID)}),
        ({"releases_per_hour": 60}, {}),
        (
            {"tcb_statuses": ["OutOfDate"]},
            {"policy_toml": 'policy_id = "mine"\naccepted_statuses = ["UpToDate", "OutOfDate"]'},
        ),
    ],
)
def test_a_policy_that_lets_in_no_more_than_this_client_believes_is_fine(
    policy: dict[str, Any], trust: dict[str, Any]
) -> None:
    scope(signed_policy(**policy), **trust)


@pytest.mark.parametrize(
    ("policy", "trust", "names"),
    [
        ({"mrenclave": [MRENCLAVE, OTHER]}, {}, f"SGX enclaves that measure {OTHER[:16]}"),
        ({}, {"mrenclave": None, "td_measurement": frozenset({OTHER})}, "SGX enclaves"),
        ({}, {"policy_toml": BY_MEASUREMENT.format(OTHER)}, "SGX enclaves"),
        ({}, {"policy_toml": BY_SIGNER.format(MRSIGNER, 1, 3)}, "SGX enclaves"),
        ({"signers": SIGNERS}, {}, "whatever the signer"),
        ({"mrenclave": [], "signers": SIGNERS}, {"policy_toml": BY_SIGNER.format(MRSIGNER, 1, 3)}, "signer"),
        (
            {"mrenclave": [], "signers": SIGNERS},
            {"mrenclave": None, "policy_toml": BY_SIGNER.format(MRSIGNER, 1, 4)},
            "from security version 3 on",
        ),
        (
            {"mrenclave": [], "signers": SIGNERS},
            {"mrenclave": None, "policy_toml": BY_SIGNER.format(MRSIGNER, 2, 3)},
            "product 1",
        ),
        (
            {"mrenclave": [], "signers": SIGNERS},
            {"mrenclave": None, "policy_toml": BY_SIGNER.format(OTHER, 1, 3)},
            "whatever the signer",
        ),
        ({"td_measurement": [OTHER]}, {}, f"TDX trust domains that measure {OTHER[:16]}"),
        ({"td_measurement": [OTHER]}, {"td_measurement": frozenset({MRENCLAVE})}, "TDX trust domains"),
        ({"tcb_statuses": ["UpToDate", "OutOfDate"]}, {}, "TCB status is OutOfDate"),
        (
            {"platforms": {"ppid_sha256": [*HERE["ppid_sha256"], OTHER]}},
            {"policy_toml": ENFORCED.format(PPID)},
            f"the platform {OTHER[:16]}",
        ),
        ({"platforms": HERE}, {"policy_toml": DENIED.format(PPID)}, f"the platform {HERE['ppid_sha256'][0][:16]}"),
    ],
)
@pytest.mark.attack("G13")
def test_a_policy_that_lets_in_more_is_refused_and_the_error_names_whom(
    policy: dict[str, Any], trust: dict[str, Any], names: str
) -> None:
    with pytest.raises(EvidenceRejected) as raised:
        scope(signed_policy(**policy), **trust)
    assert raised.value.reason == "epoch.policy_wider"
    assert names in str(raised.value)


def test_a_policy_that_lets_in_simulated_hardware_is_for_clients_that_believe_a_simulator() -> None:
    genuine = replace(TRUST, anchor=INTEL_SGX)
    policy = signed_policy().policy
    with pytest.raises(EvidenceRejected, match="simulated") as raised:
        check_no_wider(policy, MODEL, genuine)
    assert raised.value.reason == "epoch.policy_wider"
    check_no_wider(signed_policy(allow_simulated=False).policy, MODEL, genuine)


def test_the_policy_is_judged_before_anything_is_sealed() -> None:
    assert reason(believed(Epoch(policy=signed_policy(mrenclave=[MRENCLAVE, OTHER])))) == "epoch.policy_wider"


def chosen(*workers: VerifiedWorker) -> int:
    return choose_epoch(workers, TRUST, datetime.now(UTC)).epoch


def test_under_one_policy_the_epoch_is_sealed_to_that_all_workers_have() -> None:
    old, new = Epoch(number=1), Epoch(number=2)
    assert chosen(believed(old, new), believed(old), believed(old, new)) == 1
    assert chosen(believed(old, new), believed(old, new)) == 2
    ended = replace(old, seal_until=datetime.now(UTC) - timedelta(seconds=1))
    assert chosen(believed(ended, new), believed(ended)) == 2


def test_the_owners_newest_policy_counts() -> None:
    later = signed_policy(version=2, tcb_statuses=["UpToDate"])
    old, new, newest = Epoch(number=1), Epoch(number=2, policy=later), Epoch(number=3, policy=later)
    assert chosen(believed(old), believed(old, new)) == 2
    assert chosen(believed(old), believed(old, new), believed(old, new, newest)) == 2


def test_who_offers_what_is_not_believed_is_left_out() -> None:
    wide = Epoch(number=9, policy=signed_policy(version=2, mrenclave=[MRENCLAVE, OTHER]))
    assert chosen(believed(wide), believed(Epoch(number=1))) == 1
    with pytest.raises(EvidenceRejected) as raised:
        chosen(believed(wide))
    assert raised.value.reason == "epoch.policy_wider"
    silent = believe(FakeWorker(VERIFIER).serving(), MODEL, TRUST, datetime.now(UTC))
    with pytest.raises(NotReady) as missing:
        chosen(silent)
    assert missing.value.reason == "epoch.missing"
    assert chosen(silent, believed(Epoch(number=4))) == 4
    assert OWNER.public_key().public_bytes_raw() == silent.owner
