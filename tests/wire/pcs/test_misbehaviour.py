"""A service that misbehaves, or whoever stands in its place: an error that names it, in time, and nobody else asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.errors import CloisterError, InvalidRequest, NotFound, Unavailable
from cloister.kit.metrics import Metrics
from cloister.pcs import Wanted
from cloister.verifier.collateral_files import FetchedFile
from cloister.verifier.collateral_refresh import Pace, Refresher
from cloister_simulator.platform import Platform
from fakes import pcs_server
from fakes.held_collateral import HeldCollateral
from fakes.pcs_server import Misbehaviour, PcsServer, serving
from fakes.pki import MeshPki
from wire.pcs.conftest import Asking

BROKEN = {
    "garbage": (pcs_server.garbage, InvalidRequest, "pcs.malformed"),
    "web page": (pcs_server.web_page, InvalidRequest, "pcs.malformed"),
    "oversize": (pcs_server.oversize, InvalidRequest, "pcs.too_large"),
    "endless": (pcs_server.endless, InvalidRequest, "pcs.too_large"),
    "compressed": (pcs_server.compressed, InvalidRequest, "pcs.malformed"),
    "drip": (pcs_server.drip, Unavailable, "pcs.slow"),
    "drip of headers": (pcs_server.drip_headers, Unavailable, "pcs.slow"),
    "hangs up": (pcs_server.hangs_up, Unavailable, "pcs.unreachable"),
    "not found": (pcs_server.answers(404), NotFound, "pcs.unknown"),
    "gone": (pcs_server.answers(410), NotFound, "pcs.unknown"),
    "bad request": (pcs_server.answers(400), InvalidRequest, "pcs.refused"),
    "failed": (pcs_server.answers(500), InvalidRequest, "pcs.refused"),
    "busy": (pcs_server.answers(503), Unavailable, "pcs.busy"),
}


@pytest.mark.attack("B16")
@pytest.mark.parametrize(("misbehaves", "kind", "reason"), BROKEN.values(), ids=BROKEN)
async def test_every_misbehaviour_is_an_error_that_names_the_service(
    asking: Asking,
    simulated: Callable[..., PcsServer],
    wanted: Wanted,
    misbehaves: Misbehaviour,
    kind: type[CloisterError],
    reason: str,
) -> None:
    began = time.monotonic()
    with serving(simulated(misbehaves=misbehaves)) as service:
        error = await asking.fetch(service, wanted)
    assert isinstance(error, kind)
    assert (error.reason, str(error).split(":")[0].split("/")[0]) == (reason, "127.0.0.1")
    assert time.monotonic() - began < 15.0  # a drip would last for twenty seconds, headers alone


@pytest.mark.attack("B16")
@pytest.mark.attack("G27")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted, status: int
) -> None:
    with serving(simulated(cache=True)) as internal, serving(simulated(cache=True)) as service:
        service.misbehaves = pcs_server.redirects(f"{internal.url}/sgx/certification/v4/tcb", status)
        error = await asking.fetch(service, wanted)
        assert isinstance(error, InvalidRequest)
        assert error.reason == "pcs.redirected"
        assert internal.heard == []
        assert asking.pauses == []
        assert isinstance(await asking.fetch(internal, wanted), bytes)  # it was there to be reached


@pytest.mark.attack("G27")
async def test_no_proxy_of_the_environment_hears_of_it(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(simulated(cache=True)) as proxy, serving(simulated(cache=True)) as service:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert isinstance(await asking.fetch(service, wanted), bytes)
        assert proxy.heard == []


@pytest.mark.parametrize(
    ("status", "headers", "asked"),
    [(503, {}, 3), (429, {"Retry-After": "2"}, 3), (503, {"Retry-After": "3600"}, 1), (404, {}, 1), (400, {}, 1)],
)
async def test_only_what_may_pass_is_asked_for_again_and_no_sooner_than_wished(
    asking: Asking,
    simulated: Callable[..., PcsServer],
    wanted: Wanted,
    status: int,
    headers: dict[str, str],
    asked: int,
) -> None:
    with serving(simulated(misbehaves=pcs_server.answers(status, **headers))) as service:
        assert isinstance(await asking.fetch(service, wanted), CloisterError)
    assert len([path for path in service.heard if "/tcb" in path]) == asked
    assert len(asking.pauses) == asked - 1
    assert all(pause == 2.0 if headers else 0 < pause <= 2 for pause in asking.pauses)


async def test_a_service_that_comes_back_is_served_from(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted
) -> None:
    with serving(simulated(cache=True)) as service:

        def once(handler: pcs_server.Handler) -> None:
            service.misbehaves = None
            handler.send(503, b"")

        service.misbehaves = once
        assert isinstance(await asking.fetch(service, wanted), bytes)
    assert len(asking.pauses) == 1


async def test_a_service_that_is_down_is_waited_for_once(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted
) -> None:
    began = time.monotonic()
    with serving(simulated(misbehaves=pcs_server.drip)) as service:
        many = [wanted, *(Wanted(tee="sgx", fmspc=f"{n:012x}", ca="platform") for n in range(20))]
        found = await asking.client(service).fetch(many)
    assert {getattr(error, "reason", None) for error in found.values()} == {"pcs.slow"}
    assert (len(found), len(service.heard)) == (21, 1)
    assert time.monotonic() - began < 15.0


async def test_what_a_cache_cannot_get_now_does_not_keep_it_from_the_rest(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted
) -> None:
    uncached = Wanted(tee="sgx", fmspc="0" * 12, ca="platform")
    with serving(simulated(cache=True)) as service:

        def unless_known(handler: pcs_server.Handler) -> None:
            service.misbehaves = None
            if uncached.fmspc in handler.path:
                handler.send(504, b"Unable to retrieve the collateral from the Intel SGX PCS.")
            else:
                service.answer(handler)
            service.misbehaves = unless_known

        service.misbehaves = unless_known
        found = await asking.client(service).fetch([uncached, wanted])
    assert getattr(found[uncached], "reason", None) == "pcs.busy"
    assert isinstance(found[wanted], bytes)


async def test_nobody_is_there(asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted) -> None:
    with serving(simulated()) as service:
        pass
    error = await asking.fetch(service, wanted)
    assert isinstance(error, Unavailable)
    assert str(error) == "127.0.0.1: it cannot be reached"


# TLS


async def test_a_certificate_of_the_named_ca_is_believed(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted, tls: MeshPki, ca_file: Path
) -> None:
    with serving(simulated(cache=True), tls) as service:
        assert isinstance(await asking.fetch(service, wanted, ca_file=ca_file), bytes)


@pytest.mark.attack("B16")
@pytest.mark.parametrize("wrong", ["ca", "name", "plain"])
async def test_a_service_that_is_somebody_else_is_asked_nothing(
    asking: Asking,
    simulated: Callable[..., PcsServer],
    wanted: Wanted,
    tls: MeshPki,
    ca_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))  # the environment has no say
    name = "pccs.example" if wrong == "name" else "127.0.0.1"
    served = {"ca": MeshPki(), "name": tls, "plain": None}[wrong]
    with serving(simulated(cache=True), served, name=name) as service:
        service.url = service.url.replace("http://", "https://")
        error = await asking.fetch(service, wanted, ca_file=ca_file)
    assert isinstance(error, Unavailable)
    assert error.reason == "pcs.unreachable"
    assert ("not believed" in str(error)) == (wrong != "plain")
    assert service.heard == []


@pytest.mark.attack("B16")
async def test_a_connection_that_somebody_writes_into_is_broken_and_no_more(
    asking: Asking, simulated: Callable[..., PcsServer], wanted: Wanted, tls: MeshPki, ca_file: Path
) -> None:
    with serving(simulated(cache=True, misbehaves=pcs_server.breaks_tls), tls) as service:
        error = await asking.fetch(service, wanted, ca_file=ca_file)
    assert isinstance(error, Unavailable)
    assert (error.reason, str(error)) == ("pcs.unreachable", "127.0.0.1: it does not speak TLS as it should")


# Through to what the verifier holds


@pytest.mark.attack("B16")
@pytest.mark.parametrize("misbehaves", [one[0] for one in BROKEN.values()], ids=BROKEN)
async def test_the_last_good_collateral_is_kept(
    asking: Asking, simulated: Callable[..., PcsServer], platform: Platform, tmp_path: Path, misbehaves: Misbehaviour
) -> None:
    now = datetime.now(UTC)
    held = HeldCollateral(tmp_path, platform)
    held.publish()
    kept = held.restart().current(platform.quote(bytes(64)), now)
    with serving(simulated(misbehaves=misbehaves, cache=True)) as service:
        refresher = Refresher(
            asking.client(service),
            held.store,
            FetchedFile(tmp_path / "fetched.json"),
            update="standard",
            pace=Pace(every_s=3600.0),
            metrics=Metrics(),
            now=lambda: now,
            monotonic=time.monotonic,
        )
        assert (await refresher.refresh()).failed == 1
        assert service.heard != []
        assert held.current(now) is kept
        service.misbehaves = None
        assert (await refresher.refresh()).failed == 0
