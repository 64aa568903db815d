"""Who is let in: by a link once, by a cookie then, by a certificate elsewhere; and no page of somebody else's ever."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cloister.console import door
from cloister.console.door import Door
from cloister.console.sessions import MAX_SESSIONS, SESSION_S, Sessions
from cloister.console.settings import Settings
from cloister.errors import InvalidRequest, Unauthenticated
from cloister.rpc.identity import PeerIdentity, TlsFiles

HOST = "127.0.0.1:8450"
SAME_SITE = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}


async def secret(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"the mesh"})


class Visit:
    """A console behind its door."""

    def __init__(self, **options: Any) -> None:
        self.links: list[str] = []
        self.now_s = 0.0
        self.sessions = Sessions(self.links.append, lambda: self.now_s)
        options.setdefault("sessions", self.sessions)
        self.door = Door(secret, hosts=(HOST, "localhost:8450"), **options)

    async def get(
        self, path: str = "/", method: str = "GET", tls: Any = None, *, host: str = HOST, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        given = [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in headers.items())]
        bare, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": bare,
            "query_string": query.encode(),
            "headers": given,
            "extensions": {"tls": {"client_cert_chain": tls or []}},
        }
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self.door(scope, None, send)  # type: ignore[arg-type]
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, sent[1]["body"].decode()

    async def cookie(self) -> str:
        status, headers, _ = await self.get(f"/enter?link={self.links[-1]}")
        assert status == 303
        return headers["set-cookie"].partition(";")[0]


@pytest.fixture
def visit() -> Visit:
    return Visit()


@pytest.mark.attack("J04")
async def test_nobody_sees_anything_without_having_come_by_the_link(visit: Visit) -> None:
    for path in ("/", "/api/mesh", "/static/mesh.mjs", "/nothing"):
        status, _, said = await visit.get(path)
        assert status == 403
        assert "the mesh" not in said
    for cookie in ("", "cloister-console-8450=", f"cloister-console-8450={'A' * 43}", "\x00;;=", "a" * 9000):
        assert (await visit.get(cookie=cookie))[0] == 403


async def test_a_link_opens_once_and_another_takes_its_place(visit: Visit) -> None:
    first = visit.links[-1]
    cookie = await visit.cookie()
    assert (await visit.get(cookie=cookie))[2] == "the mesh"
    assert len(visit.links) == 2
    status, headers, _ = await visit.get(f"/enter?link={first}")
    assert (status, "set-cookie" in headers) == (403, False)
    assert (await visit.get(cookie=await visit.cookie()))[0] == 200


async def test_a_look_ahead_uses_no_link_up(visit: Visit) -> None:
    assert (await visit.get(f"/enter?link={visit.links[-1]}", "HEAD"))[0] == 403
    await visit.cookie()


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visit: Visit) -> None:
    _, headers, _ = await visit.get(f"/enter?link={visit.links[-1]}")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(headers["set-cookie"].split("; "))
    assert headers["location"] == "/"
    assert headers["referrer-policy"] == "no-referrer"


async def test_a_session_ends(visit: Visit) -> None:
    cookie = await visit.cookie()
    visit.now_s = SESSION_S - 1
    assert (await visit.get(cookie=cookie))[0] == 200
    visit.now_s += 2
    assert (await visit.get(cookie=cookie))[0] == 403


async def test_sessions_are_bounded_and_the_oldest_goes(visit: Visit) -> None:
    first = await visit.cookie()
    for _ in range(MAX_SESSIONS):
        visit.now_s += 1
        last = await visit.cookie()
    assert [(await visit.get(cookie=each))[0] for each in (first, last)] == [403, 200]


@pytest.mark.attack("G23")
async def test_a_name_that_was_bound_to_this_address_reaches_nothing(visit: Visit) -> None:
    """DNS rebinding: the browser believes that our address is another site's, and says so."""
    cookie = await visit.cookie()
    for host in ("evil.example", "evil.example:8450", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8450.evil.example", ""):
        assert (await visit.get(host=host, cookie=cookie))[0] == 403
        assert (await visit.get(f"/enter?link={visit.links[-1]}", host=host))[0] == 403
    assert (await visit.get(host="localhost:8450", cookie=cookie))[0] == 200


@pytest.mark.attack("G28")
async def test_another_site_in_the_same_browser_gets_nothing(visit: Visit) -> None:
    cookie = await visit.cookie()
    assert (await visit.get("/api/mesh", cookie=cookie, **SAME_SITE))[0] == 200
    for site in ("cross-site", "same-site"):
        for mode, dest in (("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "image")):
            fetched = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
            assert (await visit.get("/api/mesh", cookie=cookie, **fetched))[0] == 403


@pytest.mark.attack("G28")
async def test_nothing_can_be_asked_for_that_changes_anything(visit: Visit) -> None:
    cookie = await visit.cookie()
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"):
        for path in ("/", "/api/mesh", f"/enter?link={visit.links[-1]}"):
            assert (await visit.get(path, method, cookie=cookie))[0] == 403
    assert (await visit.get(cookie=await visit.cookie()))[0] == 200


async def test_every_answer_says_what_a_browser_may_do_with_it(visit: Visit) -> None:
    cookie = await visit.cookie()
    for status, headers, _ in (await visit.get(cookie=cookie), await visit.get()):
        assert status in (200, 403)
        allowed = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert allowed["default-src"] == allowed["frame-ancestors"] == "'none'"
        assert {value for name, value in allowed.items() if name.endswith("-src") and name != "default-src"} == {
            "'self'"
        }
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def named(role: str, expires_at: float = 2e9) -> PeerIdentity:
    spiffe_id = f"spiffe://a.example/{role}/one"
    return PeerIdentity(
        spiffe_id=spiffe_id, cluster="a.example", role=role, name="one", spki_sha256=bytes(32), expires_at=expires_at
    )


@pytest.mark.attack("J04")
async def test_elsewhere_a_certificate_says_who_looks() -> None:
    def identify(pem: str) -> PeerIdentity:
        if pem == "stranger":
            raise Unauthenticated("not of this mesh")
        return named(pem)

    visit = Visit(sessions=None, identify=identify)
    seen = {
        role: (await visit.get(tls=[role]))[0] for role in ("operator", "auditor", "client", "owner", "worker", "enrol")
    }
    assert seen == {"operator": 200, "auditor": 200, "client": 403, "owner": 403, "worker": 403, "enrol": 403}
    assert (await visit.get(tls=["stranger"]))[0] == 403
    assert (await visit.get())[0] == 403
    assert (await visit.get("/enter?link=x", tls=["client"]))[0] == 403


async def test_a_certificate_that_ends_during_a_connection_is_worth_nothing_more() -> None:
    visit = Visit(sessions=None, identify=lambda _: named("operator", 100.0), wall_s=lambda: 101.0)
    assert (await visit.get(tls=["x"]))[0] == 403


def test_plain_http_is_for_this_machine_alone(tmp_path: Path) -> None:
    tls = TlsFiles(certificate=tmp_path, private_key=tmp_path, trust_roots=tmp_path)

    def settings(listen: str, https: TlsFiles | None = None) -> Settings:
        return Settings(
            cluster="a", gateway="a:1", verifier="a:1", provisioner="a:1", trust=tmp_path, identity=tls,
            listen=listen, https=https,
        )  # fmt: skip

    for address in ("127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.8.8:1"):
        assert settings(address).is_loopback
    for address in ("0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.org:1", ":1"):
        with pytest.raises(InvalidRequest, match="loopback"):
            settings(address)
        assert settings(address, tls).port == 1


def test_no_page_holds_a_script_or_style_of_its_own_or_anything_from_elsewhere() -> None:
    """The policy would forbid it in the browser; this says so without one."""
    static = Path(door.__file__).with_name("static")
    for page in static.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"\son\w+=|style=|<style|javascript:|https?://", text), page.name
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), page.name
    for script in static.glob("*.mjs"):
        text = re.sub(r"//.*", "", script.read_text().replace("http://www.w3.org/2000/svg", ""))
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|https?://", text
        )
