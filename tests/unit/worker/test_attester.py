"""A worker's own Attestation Result: the verifier's word about its very claims, or nothing (attacks I03, I12)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import timedelta

import pytest

from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE, PURPOSE_MESH, AppraiseResponse
from cloister.ear import SigningKey
from cloister.errors import EvidenceRejected
from fakes.release_peers import CONFIG, ReleaseRig
from fakes.results import CLUSTER, NOW

OTHER = "other.cloister.internal"


@pytest.fixture
def rig():
    return ReleaseRig()


async def refusal(rig, purpose=PURPOSE_MESH):
    with pytest.raises(EvidenceRejected) as refused:
        await rig.attester.appraised(rig.asked(rig.verifier), purpose, rig.hpke)
    return refused.value.reason


@pytest.mark.parametrize("purpose", [PURPOSE_MESH, PURPOSE_KEY_RELEASE])
async def test_a_result_about_our_claims_is_ours(rig, purpose):
    result = await rig.attester.appraised(rig.asked(rig.verifier), purpose, rig.hpke)
    assert (result.ear_id, result.issued_at, result.certificate) == (rig.verifier.result.ear_id, NOW, b"pem")
    assert rig.verifier.result.config_digest == CONFIG


@pytest.mark.attack("E09")
async def test_a_result_that_another_key_signed_is_not(rig):
    rig.verifier.key = SigningKey.generate()
    assert await refusal(rig) == "token.key_unknown"


async def test_a_result_that_nobody_signed_is_not(rig):
    members = {"jti": "x", "iat": 1, "exp": 2}
    payload = urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()

    async def unsigned(request, timeout):  # noqa: ASYNC109
        return AppraiseResponse(attestation_result=f".{payload}.")

    rig.verifier.Appraise = unsigned
    assert await refusal(rig) == "token.malformed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"issuer": f"spiffe://{CLUSTER}/verifier/two"}, "token.issuer"),
        ({"audience": "provisioner"}, "token.audience"),
        ({"expires_at": NOW + timedelta(hours=1, seconds=1)}, "token.too_long"),
        ({"nonce": bytes(32)}, "result.other"),
        ({"instance": "f" * 32}, "result.other"),
        ({"spiffe_id": f"spiffe://{CLUSTER}/worker/{'f' * 32}"}, "result.other"),
        ({"role": "gateway", "spiffe_id": f"spiffe://{CLUSTER}/gateway/main"}, "result.other"),
        ({"cluster": OTHER, "spiffe_id": f"spiffe://{OTHER}/worker/{'f' * 32}"}, "result.other"),
        ({"tls_spki_sha256": bytes(32)}, "result.other"),
        ({"receipt_key": bytes(32)}, "result.other"),
        ({"hpke_public": bytes(32)}, "result.other"),
        ({"hpke_suite": "xwing"}, "result.other"),
        ({"config_digest": bytes(32)}, "result.other"),
    ],
)
async def test_a_result_about_anything_else_is_not(rig, changes, reason):
    rig.verifier.changes = changes
    assert await refusal(rig) == reason


async def test_a_result_for_the_mesh_is_none_for_a_key(rig):
    rig.verifier.changes = {"audience": "mesh"}
    assert await refusal(rig, PURPOSE_KEY_RELEASE) == "token.audience"


async def test_a_result_for_a_key_lasts_five_minutes_at_most(rig):
    rig.verifier.changes = {"expires_at": NOW + timedelta(minutes=5, seconds=1)}
    assert await refusal(rig, PURPOSE_KEY_RELEASE) == "token.too_long"
