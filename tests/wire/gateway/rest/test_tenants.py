"""Tenants over HTTPS: by a key without a certificate, and each sees what it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.gateway_parts import A, infer_request, model_state
from fakes.pki import MeshPki
from fakes.running_rest import ENGINES, running_rest
from fakes.tenants import RADIOLOGY, RESEARCH, tenants_text, write_tenants

REQUEST = {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": [1]}]}


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_key_names_a_tenant_and_a_forbidden_model_is_an_unknown_one(tmp_path: Path, engine: str) -> None:
    path = write_tenants(tmp_path / "tenants.toml", tenants_text())
    async with running_rest(tmp_path, MeshPki(), engine, tenants_file=path) as rest:
        worker = await rest.worker(A, models=(model_state("tiny"),))
        worker.serve_models(model_state("tiny"), model_state("secret"))
        nobody = await rest.client(name="")
        radiology, research = ({"authorization": f"Bearer {key.text}"} for key in (RADIOLOGY, RESEARCH))
        answer = await nobody.post("/v2/models/tiny/infer", json=REQUEST, headers=radiology)
        assert answer.json()["outputs"][0]["data"] == [1]
        while (await nobody.get("/v2/models/secret", headers=research)).status_code != 200:
            pass
        for path_of in ("/v2/models/{}", "/v2/models/{}/versions/1", "/v2/models/{}/ready"):
            forbidden, unknown = [
                await nobody.get(path_of.format(name), headers=radiology) for name in ("secret", "absent")
            ]
            assert forbidden.status_code == unknown.status_code == 404
            assert forbidden.text.replace("secret", "absent") == unknown.text
        for path_of in ("/v2/models/{}/infer", "/v1/models/{}:predict"):
            forbidden, unknown = [
                await nobody.post(path_of.format(name), json=REQUEST, headers=radiology)
                for name in ("secret", "absent")
            ]
            assert (forbidden.status_code, forbidden.text) == (unknown.status_code, unknown.text)
            assert forbidden.status_code in (400, 404)
        index = (await nobody.post("/v2/repository/index", headers=radiology)).json()
        assert [each["name"] for each in index] == ["tiny"]

        wrong = {"authorization": f"Bearer clk_{RADIOLOGY.id}_{RESEARCH.text.rpartition('_')[2]}"}
        refused = await nobody.get("/v2", headers=wrong)
        assert (refused.status_code, refused.json()["reason"]) == (401, "key.unknown")
        both = await (await rest.client(name="ann")).get("/v2", headers=research)
        assert (both.status_code, both.json()["reason"]) == (401, "identity.conflicting")
        if engine == "envoy":
            message = infer_request()
            web = {"content-type": "application/grpc-web+proto", **radiology}
            body = b"\0" + len(message).to_bytes(4, "big") + message
            answer = await nobody.post("/inference.GRPCInferenceService/ModelInfer", content=body, headers=web)
            assert b"grpc-status:0" in answer.content.replace(b" ", b"")
