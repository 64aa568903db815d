"""HTTP as no client speaks it by mistake, at both engines: what is ambiguous is refused and its connection ended."""

from __future__ import annotations

import asyncio
import json
import ssl
from urllib.parse import quote

import pytest

from cloister.kit.grpc_http import PEER_HEADER
from fakes.http2_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    RST,
    connected,
    frame,
    headers,
    settings,
)
from fakes.running_rest import RestRig
from fakes.worker_link import FakeWorker

pytestmark = pytest.mark.asyncio(loop_scope="package")
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": [1]}]}).encode()
HIDDEN = b"GET /v2/models/hidden HTTP/1.1\r\nhost: x\r\n\r\n"
"""A request that only whoever reads the lengths otherwise would see."""


async def said(rest: RestRig, raw: bytes, *, name: str = "ann", end: bool = False) -> bytes:
    """All that comes back before the connection ends, as it must; what is well-formed must ask for that."""
    answer = bytearray()
    reader, writer = await asyncio.open_connection("127.0.0.1", rest.port, ssl=_tls(rest, name))
    try:
        writer.write(raw)
        if end:
            writer.transport.abort()
        async with asyncio.timeout(30):
            while piece := await reader.read(1 << 16):
                answer += piece
    except TimeoutError:
        raise AssertionError(f"the connection stays open, after {bytes(answer)!r}") from None
    except OSError:  # cut
        pass
    finally:
        writer.transport.abort()
    return bytes(answer)


def _tls(rest: RestRig, name: str) -> ssl.SSLContext:
    context = rest.tls("client", name)
    context.set_alpn_protocols(["http/1.1"])
    return context


def post(*headers: str, body: bytes = BODY, path: str = "/v2/models/tiny/infer") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


LENGTH = f"content-length: {len(BODY)}"
CHUNKED = "transfer-encoding: chunked"
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = {
    "both lengths": post(LENGTH, CHUNKED, body=CHUNK + HIDDEN),
    "chunked and a short length": post("content-length: 4", CHUNKED, body=CHUNK + HIDDEN),
    "two lengths": post(LENGTH, "content-length: 4", body=BODY + HIDDEN),
    "a length with a sign": post(f"content-length: +{len(BODY)}", body=BODY + HIDDEN),
    "a negative length": post("content-length: -1", body=BODY + HIDDEN),
    "a length that overflows": post("content-length: 18446744073709551617", body=b"x" + HIDDEN),
    "a length in hex": post("content-length: 0x10", body=BODY + HIDDEN),
    "a list of lengths": post(f"content-length: {len(BODY)}, 4", body=BODY + HIDDEN),
    "another coding": post("transfer-encoding: xchunked", body=CHUNK + HIDDEN),
    "chunked in the middle": post("transfer-encoding: chunked, identity", body=CHUNK + HIDDEN),
    "chunked twice": post(CHUNKED, CHUNKED, body=CHUNK + HIDDEN),
    "a space before the colon": post(f"content-length : {len(BODY)}", body=BODY + HIDDEN),
    "a header without a name": post(": x", LENGTH, body=BODY + HIDDEN),
    "a NUL in a value": post("x: a\0b", LENGTH, body=BODY + HIDDEN),
    "a chunk size with a sign": post(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "a chunk size that overflows": post(CHUNKED, body=b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "a chunk longer than it says": post(CHUNKED, body=b"1\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "no host": b"GET /v2 HTTP/1.1\r\n\r\n" + HIDDEN,
    "no version": b"GET /v2\r\n\r\n" + HIDDEN,
    "a space in the path": b"GET /v2 /x HTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN,
}


@pytest.mark.attack("G29")
@pytest.mark.parametrize("form", SMUGGLED)
async def test_what_could_be_read_in_two_ways_is_read_in_none(rest: RestRig, worker: FakeWorker, form: str) -> None:
    answer = await said(rest, SMUGGLED[form])
    assert len(statuses(answer)) <= 1, answer
    assert all(status in (*range(400, 432), 501, 504, 505) for status in statuses(answer)), answer
    assert b"hidden" not in answer
    assert not worker.seen


async def test_requests_behind_each_other_are_answered_in_order(rest: RestRig, worker: FakeWorker) -> None:
    one = post(LENGTH)
    last = b"GET /v2/models/tiny HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await said(rest, one + one + last)
    assert statuses(answer) == [200, 200, 200]
    assert answer.rindex(b'"outputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[1]}') < answer.index(
        b'"inputs"'
    )


@pytest.mark.attack("G19")
@pytest.mark.parametrize(
    "begun", [b"POST /v2/models/tiny/infer HT", post("content-length: 400"), post(CHUNKED, body=b"5\r\nhe")]
)
async def test_a_request_that_does_not_go_on_is_ended(rest: RestRig, worker: FakeWorker, begun: bytes) -> None:
    if rest.engine == "envoy" and b"\r\n\r\n" in begun:
        pytest.skip("inside Envoy the deadline of a body is the same guard's, and a minute")
    answer = await said(rest, begun)
    assert statuses(answer) in ([], [408], [504])
    assert not worker.seen


@pytest.mark.attack("G19")
async def test_a_client_that_leaves_in_the_middle_of_its_body_asks_nothing(rest: RestRig, worker: FakeWorker) -> None:
    await said(rest, post("content-length: 4000"), end=True)
    assert statuses(await said(rest, post(LENGTH, "connection: close"))) == [200]
    assert len(worker.seen) == 1


@pytest.mark.attack("G23")
@pytest.mark.parametrize(
    "head",
    [
        "x: " + "a" * (1 << 20),
        "\r\n".join(f"x-{number}: a" for number in range(5000)),
        "cookie: " + "a=b; " * 20_000,
    ],
    ids=["one large", "many", "cookies"],
)
async def test_headers_are_bounded(rest: RestRig, worker: FakeWorker, head: str) -> None:
    answer = await said(rest, post(head, LENGTH))
    assert all(status in (400, 431) for status in statuses(answer)), answer[:200]
    assert not worker.seen


@pytest.mark.attack("G23")
async def test_nobody_becomes_somebody_by_a_header(rest: RestRig, worker: FakeWorker) -> None:
    olga = rest.pki.identity("operator", "olga").certificate.decode()
    claims = {
        PEER_HEADER: quote(olga),
        "x-forwarded-client-cert": f"Cert={quote(olga)}",
        "x-ssl-client-cert": quote(olga),
        "x-tenant": "olga",
    }
    nobody, ann = await rest.client(name=""), await rest.client()
    assert (await nobody.post("/v2/repository/index", headers=claims)).status_code == 401
    assert (await ann.post("/v2/repository/models/a/load", headers=claims)).status_code == 403
    await ann.post("/v2/models/tiny/infer", content=BODY, headers={**claims, "content-type": "application/json"})
    assert [call.tenant for call in worker.seen] == [f"spiffe://{rest.pki.cluster}/client/ann"]


@pytest.mark.attack("G17")
async def test_a_certificate_that_is_shown_is_a_good_one_or_the_connection_ends(rest: RestRig) -> None:
    stranger = rest.pki.__class__()
    folder = rest.folder / "stranger"
    stranger.identity("client", "ann").write(folder)
    context = ssl.create_default_context(cafile=str(rest.files("client", "ann") / "roots.pem"))
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await _health(rest, context)
    old = rest.tls(name="")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):  # noqa: PT011 - of TLS, or a connection that is cut
        await _health(rest, old)
    assert b"live" in await _health(rest, rest.tls(name=""))


async def _health(rest: RestRig, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", rest.port, ssl=context)
    try:
        writer.write(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.readuntil(b"\r\n\r\n")
            return await reader.read()
    finally:
        writer.transport.abort()


@pytest.mark.attack("G29")
@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/tiny/../other",
        "//v2/health/live",
        "/v2/models/tiny%2finfer",
        "/v2/models/%ff",
        "/v2/health/live/",
        "/v2/health/live;x=1",
        "/V2/HEALTH/LIVE",
        "/v2/models/tiny/infer/infer",
        "/v2/models/" + "a" * 5000,
        "http://elsewhere/v2x",
        "/v2/models/tiny/versions//infer",
        "/.well-known/jwks.json",
        "/metrics",
    ],
)
async def test_nearly_a_path_is_none(rest: RestRig, worker: FakeWorker, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await said(rest, f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert statuses(answer)[0] in (400, 404, 405), answer
    assert not worker.seen


@pytest.mark.attack("G29")
@pytest.mark.parametrize(
    "path", ["/v2/models/tiny%2finfer", "/v2/models/tin%79/infer", "/v2/models/other/..%2ftiny/infer"]
)
async def test_an_escaped_path_is_none_for_a_whole_request_either(rest: RestRig, worker: FakeWorker, path: str) -> None:
    answer = await said(rest, post(LENGTH, "connection: close", path=path))
    assert statuses(answer)[0] in (400, 404), answer
    assert not worker.seen


@pytest.mark.attack("G29")
async def test_grpc_is_spoken_where_trailers_can_be_sent_and_is_no_path_elsewhere(rest: RestRig) -> None:
    head = "POST /inference.GRPCInferenceService/ServerLive HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc"
    answer = await said(rest, f"{head}\r\ncontent-length: 5\r\nconnection: close\r\n\r\n\0\0\0\0\0".encode(), name="")
    assert statuses(answer) == [200 if rest.engine == "envoy" else 404], answer
    assert (b"grpc-status: 16" in answer) == (rest.engine == "envoy")


@pytest.mark.attack("G28")
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "https://127.0.0.1"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
    ],
)
async def test_another_sites_page_asks_nothing_by_its_visitors_certificate(
    rest: RestRig, headers: dict[str, str]
) -> None:
    for http2 in (False, True) if rest.engine == "envoy" else (False,):
        olga = await rest.client("operator", "olga", http2=http2)
        answer = await olga.post("/v2/repository/models/tiny/unload", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (403, "site.other")
        own = {"origin": rest.address}
        assert (await olga.post("/v2/repository/index", headers=own)).status_code == 200


@pytest.mark.attack("G29")
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
async def test_other_methods_are_refused_and_told_which_there_are(rest: RestRig, method: str) -> None:
    answer = await said(rest, f"{method} /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert statuses(answer)[0] in (400, 403, 404, 405), answer
    assert b"access-control-allow" not in answer.lower()


async def test_head_is_get_without_the_body(rest: RestRig) -> None:
    answer = await said(rest, b"HEAD /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert statuses(answer) == [200]
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.attack("G29")
@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_a_connection_becomes_nothing_else(rest: RestRig, protocol: str) -> None:
    upgrade = f"upgrade: {protocol}\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nsec-websocket-key: AAAA"
    raw = (
        f"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\n{upgrade}\r\n\r\n".encode()
    )
    closing = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert 101 not in statuses(await said(rest, raw + closing))


async def test_a_client_may_wait_until_it_is_told_to_go_on(rest: RestRig, worker: FakeWorker) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rest.port, ssl=_tls(rest, "ann"))
    writer.write(post(LENGTH, "expect: 100-continue", "connection: close", body=b""))
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(BODY)
        assert statuses(await reader.read()) == [200]
    writer.transport.abort()


@pytest.mark.attack("G22")
@pytest.mark.parametrize(
    "length", ["0", "-1", "1000000", "abc", "99999999999999999999", "1, 1", "+5", str(len(BODY) - 1)]
)
async def test_a_wrong_length_of_the_json_is_refused(rest: RestRig, worker: FakeWorker, length: str) -> None:
    header = f"inference-header-content-length: {length}"
    answer = await said(rest, post(LENGTH, header, "connection: close"))
    assert statuses(answer) == [400], answer
    assert not worker.seen


@pytest.mark.attack("G20")
async def test_http_2_streams_that_are_reset_or_never_read_leave_nothing_behind(
    rest: RestRig, worker: FakeWorker
) -> None:
    if rest.engine != "envoy":
        pytest.skip("HTTP/2 is spoken behind Envoy only")
    context = rest.tls("client", "mallory")
    context.set_alpn_protocols(["h2"])
    block = headers("/v2/models/tiny/infer", {"content-type": "application/json"})
    async with connected(rest.port, context, f"gateway.{rest.pki.cluster}") as (_, writer):
        writer.write(PREFACE + settings({INITIAL_WINDOW_SIZE: 0}))
        for stream in range(1, 800, 2):
            asked = frame(HEADERS, block, flags=END_HEADERS, stream=stream) + frame(
                DATA, BODY, flags=END_STREAM, stream=stream
            )
            reset = frame(RST, (8).to_bytes(4, "big"), stream=stream) if stream % 4 == 1 else b""
            writer.write(asked + reset)
            if writer.transport.is_closing():
                break  # it was cut off, as it may be
        good = await rest.client(name="good")
        answer = await good.post("/v2/models/tiny/infer", content=BODY, headers={"content-type": "application/json"})
        assert answer.status_code == 200
    mallory = await rest.client(name="mallory")
    async with asyncio.timeout(10):
        while (await mallory.get("/v2/models/tiny")).status_code != 200:  # noqa: ASYNC110 - across a wire
            await asyncio.sleep(0.02)
    assert worker.under_way == 0
