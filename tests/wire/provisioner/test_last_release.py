"""Owners and workers that speak the last release, and today's provisioner."""

from __future__ import annotations

import json
from typing import Any

from cloister.seal.grant import grant_info, open_grant
from fakes.release_desk import DIGEST, MODEL_KEY
from fakes.released_wire import Then
from fakes.results import MODEL


async def test_its_owners_register_and_allow_and_its_workers_get_the_key(desk: Any) -> None:
    async with desk.owner() as owner, desk.as_worker() as worker:
        again = await desk.register(Then(owner), version=3)
        assert again.audit_sequence > 0
        answer = await desk.worker.released(Then(worker), desk.token(ear_id="ear-1"), MODEL, version=2)
    info = grant_info(desk.pki.cluster, desk.worker.instance, DIGEST, 2, answer.lease_id, "ear-1")
    wanted: dict[str, Any] = {"model_name": MODEL, "model_version": 2, "model_digest": DIGEST}
    assert open_grant(answer.sealed_grant, desk.worker.hpke, info, **wanted).model_key == MODEL_KEY
    assert json.loads(answer.manifest.manifest)["name"] == MODEL
