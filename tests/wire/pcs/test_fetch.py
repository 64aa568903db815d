"""What a good service answers, as Intel's own and as a cache: every byte that is signed arrives as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.family import Family, family_of_quote
from cloister.appraisal.quote import parse_quote
from cloister.appraisal.verify import verify_quote
from cloister.errors import NotFound
from cloister.pcs import Wanted
from cloister_simulator.platform import Platform
from fakes import corpus
from fakes.held_collateral import other_family
from fakes.pcs_server import PcsServer, proxying, serving
from fakes.pki import MeshPki
from wire.pcs.conftest import Asking, wanted_for

KINDS = pytest.mark.parametrize("cache", [False, True], ids=["pcs", "pccs"])


@KINDS
async def test_collateral_arrives_byte_for_byte(
    asking: Asking, simulated: Callable[..., PcsServer], platform: Platform, wanted: Wanted, cache: bool
) -> None:
    with serving(simulated(cache=cache)) as service:
        raw = await asking.fetch(service, wanted)
    assert isinstance(raw, bytes)
    assert json.loads(raw) == {
        name: value for name, value in json.loads(service.collaterals[0]).items() if name != "pck_certificate_chain"
    }
    Collateral.parse(raw).verified(TrustAnchor("simulated", platform.root_der()), platform.window.issued_at)
    routes = [path.split("?")[0] for path in service.heard]
    assert routes[:3] == [f"/sgx/certification/v4/{route}" for route in ("tcb", "qe/identity", "pckcrl")]
    assert routes[3] == ("/sgx/certification/v4/rootcacrl" if cache else "/IntelSGXRootCA.der")
    assert "update=standard" in service.heard[0]


def _real() -> dict[Family, corpus.Evaluation]:
    """One genuine quote of each real family in the corpus."""
    found: dict[Family, corpus.Evaluation] = {}
    for one in corpus.evaluations():
        if one.expected.verified and not one.anchor().simulated:
            found.setdefault(family_of_quote(parse_quote(one.quote.read_bytes())), one)
    return found


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@KINDS
async def test_what_intel_signed_verifies_after_the_way_here(asking: Asking, cache: bool) -> None:
    families = _real()
    assert {family.tee for family in families} == {"sgx", "tdx"}
    for family, one in families.items():
        recorded = one.collateral.read_bytes()
        with serving(PcsServer([recorded], cache=cache)) as service:
            asked = Wanted(tee=family.tee.value, fmspc=family.fmspc.hex(), ca=family.ca.value)
            raw = await asking.fetch(service, asked)
        assert isinstance(raw, bytes), raw
        fetched = Collateral.parse(raw)
        assert fetched.to_json() == Collateral.parse(recorded).to_json(), one.name
        verified = verify_quote(one.quote.read_bytes(), fetched, one.anchor(), one.now)
        assert verified.tcb.status == one.expected.tcb_status


async def test_families_share_what_they_share(asking: Asking, platform: Platform, tls: MeshPki, ca_file: Path) -> None:
    other = other_family(platform)
    with serving(PcsServer([platform.collateral(), other.collateral()], cache=True), tls) as service:
        client = asking.client(service, ca_file=ca_file)
        found = await client.fetch(
            [wanted_for(platform), wanted_for(other), Wanted(tee="sgx", fmspc="0" * 12, ca="platform")]
        )
    first, second, unknown = found.values()
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert isinstance(unknown, NotFound)
    assert json.loads(first)["pck_crl"] == json.loads(second)["pck_crl"]
    assert len(service.heard) == 3 + 3  # three of TCB info, and the rest once


async def test_a_proxy_that_is_named_passes_tls_on(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted, tls: MeshPki, ca_file: Path
) -> None:
    with serving(simulated(cache=True), tls) as service, proxying() as (proxy, heard):
        found = await asking.client(service, ca_file=ca_file, proxy=proxy).fetch([wanted])
    assert isinstance(found[wanted], bytes)
    assert set(heard) == {service.url.removeprefix("https://")}


@pytest.mark.parametrize(
    ("update", "evaluation", "query"),
    [
        ("standard", None, "update=standard"),
        ("early", None, "update=early"),
        ("standard", 17, "tcbEvaluationDataNumber=17"),
    ],
)
async def test_the_evaluation_data_set_is_chosen_by_the_asker(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted, update: str, evaluation: int | None, query: str
) -> None:
    chosen = Wanted(tee=wanted.tee, fmspc=wanted.fmspc, ca=wanted.ca, update=update, evaluation=evaluation)
    with serving(simulated()) as service:
        assert isinstance(await asking.fetch(service, chosen), bytes)
    assert service.heard[0].endswith(f"tcb?fmspc={wanted.fmspc}&{query}")
    assert service.heard[1].endswith(f"qe/identity?{query}")
