from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.v1 import provisioner_pb2
from cloister.api.v1.model_pb2 import SignedReleasePolicy
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke
from cloister.seal.grant import MAX_EPOCHS, EpochKey, ModelGrant, grant_info, open_grant, proof_message, seal_grant
from cloister.seal.keys import ModelKey, Secret
from fakes.sealed import flipped, unhurried

_PAIR = hpke.KeyPair.generate(hpke.X25519)
_GRANT = ModelGrant(
    model_key=ModelKey(Secret(b"k" * 32)),
    model_name="resnet",
    model_version=3,
    model_digest=b"d" * 32,
    allow_plain=True,
    lease_s=3600,
    policy_digest=b"p" * 32,
)
_EPOCH = EpochKey(
    epoch=7,
    suite=hpke.XWING,
    seed=Secret(b"s" * 32),
    seal_until_ms=1_000,
    open_until_ms=2_000,
    policy=b"policy",
    policy_signature=b"g" * 64,
)
_INFO = grant_info("demo.cloister.internal", "a" * 32, b"d" * 32, 3, "lease", "ear")


def _seal(grant: ModelGrant = _GRANT) -> bytes:
    return seal_grant(grant, suite=_PAIR.suite, public=_PAIR.public, info=_INFO)


def _open(sealed: bytes, info: bytes = _INFO, *, name: str = "resnet", version: int = 3) -> ModelGrant:
    return open_grant(sealed, _PAIR, info, model_name=name, model_version=version, model_digest=b"d" * 32)


def test_a_grant_opens_as_it_was_sealed() -> None:
    assert _open(_seal()) == _GRANT
    assert "kkkk" not in repr(_GRANT)


@pytest.mark.parametrize(
    "info",
    [
        grant_info("other.cluster", "a" * 32, b"d" * 32, 3, "lease", "ear"),
        grant_info("demo.cloister.internal", "b" * 32, b"d" * 32, 3, "lease", "ear"),
        grant_info("demo.cloister.internal", "a" * 32, b"e" * 32, 3, "lease", "ear"),
        grant_info("demo.cloister.internal", "a" * 32, b"d" * 32, 2, "lease", "ear"),
        grant_info("demo.cloister.internal", "a" * 32, b"d" * 32, 3, "other lease", "ear"),
        grant_info("demo.cloister.internal", "a" * 32, b"d" * 32, 3, "lease", "other ear"),
    ],
)
def test_a_grant_for_another_release_does_not_open(info: bytes) -> None:
    with pytest.raises(SealBroken):
        _open(_seal(), info)


def test_a_grant_for_another_model_does_not_open() -> None:
    with pytest.raises(SealBroken):
        _open(_seal(), name="bert")
    with pytest.raises(SealBroken):
        _open(_seal(), version=4)
    with pytest.raises(SealBroken):
        _open(_seal(replace(_GRANT, model_digest=b"e" * 32)))


@unhurried
@given(st.data())
def test_no_changed_bit_opens(data: st.DataObject) -> None:
    sealed = _seal()
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    for broken in (flipped(sealed, bit), sealed[: bit // 8], sealed + b"\x00"):
        with pytest.raises(SealBroken):
            _open(broken)


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"\x0a\x03abc"])
def test_what_opens_but_is_no_grant_is_refused(content: bytes) -> None:
    with pytest.raises(SealBroken):
        _open(hpke.seal(_PAIR.suite, _PAIR.public, content, _INFO))


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_key": ModelKey(Secret(b"short"))},
        {"model_digest": b"short"},
        {"policy_digest": b""},
        {"lease_s": 0},
        {"lease_s": -1},
        {"lease_s": 86_401},
        {"model_name": "../up"},
        {"model_version": 0},
    ],
)
def test_a_malformed_grant_is_not_sealed(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        _seal(replace(_GRANT, **wrong))  # type: ignore[arg-type]  # one field at a time


def test_a_proof_is_for_one_nonce_result_and_model() -> None:
    messages = {
        proof_message(b"n" * 32, "token", "resnet", 1),
        proof_message(b"m" * 32, "token", "resnet", 1),
        proof_message(b"n" * 32, "other", "resnet", 1),
        proof_message(b"n" * 32, "token", "bert", 1),
        proof_message(b"n" * 32, "token", "resnet", 0),
    }
    assert len(messages) == 5


def _with_epochs(*epochs: EpochKey) -> ModelGrant:
    return replace(_GRANT, epochs=epochs)


def test_the_keys_of_epochs_come_along_newest_first() -> None:
    grant = _with_epochs(_EPOCH, replace(_EPOCH, epoch=5, suite=hpke.X25519, seed=Secret(b"t" * 32)))
    assert _open(_seal(grant)) == grant
    assert "ssss" not in repr(grant)


WRONG_EPOCHS = {
    "number 0": (replace(_EPOCH, epoch=0),),
    "oldest first": (_EPOCH, replace(_EPOCH, epoch=8)),
    "a number twice": (_EPOCH, _EPOCH),
    "too many": tuple(replace(_EPOCH, epoch=100 - n) for n in range(MAX_EPOCHS + 1)),
    "another suite": (replace(_EPOCH, suite="p256"),),
    "a short seed": (replace(_EPOCH, seed=Secret(b"s" * 31)),),
    "no end": (replace(_EPOCH, seal_until_ms=0),),
    "an end before the last seal": (replace(_EPOCH, open_until_ms=999),),
    "no policy": (replace(_EPOCH, policy=b""),),
    "no signature": (replace(_EPOCH, policy_signature=b""),),
}


@pytest.mark.parametrize("epochs", WRONG_EPOCHS.values(), ids=WRONG_EPOCHS)
def test_malformed_epochs_are_neither_sealed_nor_opened(epochs: tuple[EpochKey, ...]) -> None:
    with pytest.raises(InvalidRequest):
        _seal(_with_epochs(*epochs))
    message = provisioner_pb2.Grant(
        model_key=b"k" * 32,
        model_name="resnet",
        model_version=3,
        model_digest=b"d" * 32,
        lease_s=60,
        policy_digest=b"p" * 32,
        epochs=[
            provisioner_pb2.EpochKey(
                epoch=key.epoch,
                hpke_suite=key.suite,
                seed=key.seed.reveal(),
                seal_until_ms=key.seal_until_ms,
                open_until_ms=key.open_until_ms,
                policy=SignedReleasePolicy(policy=key.policy, signature=key.policy_signature),
            )
            for key in epochs
        ],
    )
    with pytest.raises(SealBroken):
        _open(hpke.seal(_PAIR.suite, _PAIR.public, message.SerializeToString(), _INFO))
    del message.epochs[:]
    assert _open(hpke.seal(_PAIR.suite, _PAIR.public, message.SerializeToString(), _INFO)).epochs == ()
