"""Who asks over HTTPS: certificates, keys and tokens of a real issuer, alone and two at once; what none can tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from fakes.gateway_parts import model_state
from fakes.oidc_issuer import KeysPage, OidcIssuer, serving_keys
from fakes.pki import MeshPki
from fakes.running_rest import ENGINES, RestRig, running_rest
from fakes.tenants import RADIOLOGY, RESEARCH, issuer_table, key_table, tenants_text, write_tenants
from fakes.worker_link import FakeWorker

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUER = OidcIssuer()
ASKED = {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}]}
UNNAMED = frozenset({"date", "x-request-id"})
"""Headers that differ from one answer to the next, whatever was asked."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestRig]:
    """A gateway that has tenants, with an issuer of tokens beside it."""
    folder, pki = tmp_path_factory.mktemp(f"tenants-{request.param}"), MeshPki()
    with serving_keys(KeysPage(ISSUER.jwks()), pki) as page:
        (folder / "ca.pem").write_bytes(pki.roots_pem)
        text = tenants_text(issuer_table(jwks_url=page.url, ca="ca.pem"))
        path = write_tenants(folder / "tenants.toml", text)
        async with running_rest(folder, pki, request.param, tenants_file=path) as made:
            await made.worker("a" * 32, models=(model_state("tiny"),))
            worker = FakeWorker("b" * 32, 4, models=(model_state("secret"),))
            async with worker.serving(pki):
                made.workers[worker.instance] = worker
                made.feed.join(worker.attested())
                await until_seen(made)
                yield made


async def until_seen(rig: RestRig) -> None:
    nobody = await rig.client(name="")
    for _ in range(500):
        answer = await nobody.get("/v2/models/secret", headers=bearer(RESEARCH.text))
        if answer.status_code == 200:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(answer.text)


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def told(answer: httpx.Response) -> tuple[Any, ...]:
    """All that an answer says, but for what is of its own."""
    return answer.status_code, answer.content, sorted((k, v) for k, v in answer.headers.items() if k not in UNNAMED)


async def test_each_kind_of_identity_is_answered_as_its_tenant(rig: RestRig) -> None:
    nobody = await rig.client(name="")
    token = ISSUER.token(department="radiology")
    seen = rig.workers["a" * 32].seen
    seen.clear()
    for client, headers in (
        (await rig.client(name="ann"), {}),
        (nobody, bearer(RADIOLOGY.text)),
        (nobody, {"x-api-key": RADIOLOGY.text}),
        (nobody, bearer(token)),
        (await rig.client(name="ann"), bearer(token)),
    ):
        answer = await client.post("/v2/models/tiny/infer", json=ASKED, headers=headers)
        assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [1, 2, 3])
    assert [call.tenant for call in seen] == ["radiology"] * 5


@pytest.mark.attack("J04")
async def test_a_model_that_is_not_for_a_tenant_is_answered_as_one_that_does_not_exist_byte_for_byte(
    rig: RestRig,
) -> None:
    nobody = await rig.client(name="")
    ways = (
        ("POST", "/infer", ASKED),
        ("POST", "/versions/1/infer", ASKED),
        ("GET", "", None),
        ("GET", "/ready", None),
        ("GET", "/versions/1", None),
        ("GET", "/versions/1/ready", None),
    )
    answers: dict[str, set[str]] = {}
    for headers in (bearer(RADIOLOGY.text), bearer(ISSUER.token(department="radiology"))):
        for method, path, content in ways:
            for model in ("secret", "nosuch"):
                answer = await nobody.request(method, f"/v2/models/{model}{path}", json=content, headers=headers)
                answers.setdefault(f"{method} {path}", set()).add(repr(told(answer)).replace(model, "MODEL"))
                assert answer.status_code == 404
        for way in ("load", "unload"):
            for model in ("secret", "nosuch"):
                answer = await nobody.post(f"/v2/repository/models/{model}/{way}", json={}, headers=headers)
                answers.setdefault(way, set()).add(repr(told(answer)).replace(model, "MODEL"))
                assert answer.status_code == 403
    assert {way: said for way, said in answers.items() if len(said) > 1} == {}
    index = await nobody.post("/v2/repository/index", json={}, headers=bearer(RADIOLOGY.text))
    assert [model["name"] for model in index.json()] == ["tiny"]
    assert rig.workers["b" * 32].seen == []


@pytest.mark.attack("G23")
async def test_who_is_nobody_or_two_is_refused_whatever_it_says_of_itself(rig: RestRig) -> None:
    nobody, ann = await rig.client(name=""), await rig.client(name="ann")
    claims = {"x-tenant": "research", "x-forwarded-user": "research", "x-cloister-peer": "research"}
    cases: list[tuple[httpx.AsyncClient, Any, str]] = [
        (nobody, claims, "identity.unknown"),
        (nobody, {**claims, **bearer("clk_0123456789_" + "A" * 43)}, "key.unknown"),
        (nobody, [*bearer(RADIOLOGY.text).items(), *bearer(RESEARCH.text).items()], "authorization.malformed"),
        (nobody, {"authorization": "Basic YTpi"}, "authorization.malformed"),
        (nobody, bearer(OidcIssuer().token()), "token.signature"),
        (nobody, bearer(ISSUER.token(aud="broker", department="radiology")), "token.audience"),
        (nobody, bearer(ISSUER.token(iat=0, exp=600, department="radiology")), "token.expired"),
        (ann, bearer(RESEARCH.text), "identity.conflicting"),
        (await rig.client(name="bob"), {}, "tenant.unknown"),
    ]
    for client, headers, reason in cases:
        answer = await client.get("/v2/models/tiny", headers=headers)
        assert (answer.status_code, reason in answer.text) == (401, True), (reason, answer.text)
        assert RADIOLOGY.text not in answer.text
    answer = await nobody.get("/v2/models/secret", headers={**claims, **bearer(RADIOLOGY.text)})
    assert answer.status_code == 404


async def test_a_revoked_key_is_refused_within_a_second(rig: RestRig) -> None:
    nobody, path = await rig.client(name=""), rig.folder / "tenants.toml"
    before = (rig.folder / "tenants.toml").read_text()
    write_tenants(path, before.replace(key_table("research", RESEARCH), ""))
    began = time.monotonic()
    while (await nobody.get("/v2/models/tiny", headers=bearer(RESEARCH.text))).status_code == 200:
        assert time.monotonic() - began < 5
    write_tenants(path, before)
    await until_seen(rig)
