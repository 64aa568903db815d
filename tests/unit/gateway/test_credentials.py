"""Who asks: certificates, API keys and tokens, each alone and two at once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from cloister.errors import CloisterError, Unauthenticated, Unavailable
from cloister.gateway import issuer_keys, token_verifier
from cloister.gateway.api_keys import new_key
from cloister.gateway.credentials import Headers
from fakes.oidc_issuer import OidcIssuer, jwks_of
from fakes.pki import CLUSTER, MeshPki
from fakes.tenants import RADIOLOGY, RESEARCH, Desk, bearer, issuer_table, key_table, tenants_text

START = datetime(2026, 11, 26, tzinfo=UTC)
NOW = START.timestamp()
ISSUER = OidcIssuer()
PKI = MeshPki(now=START)
ANN, ROSE, OLGA = (
    PKI.identity(role, name).certificate for role, name in (("client", "ann"), ("owner", "rose"), ("operator", "olga"))
)
STAFF = ISSUER.token(NOW, department="radiology")
IDS = f"spiffe://{CLUSTER}/tenant/"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as group:
        yield Desk(group, ISSUER, now_s=NOW)


async def refused(desk: Desk, reason: str, headers: Headers = (), pem: bytes | None = None) -> CloisterError:
    with pytest.raises((Unauthenticated, Unavailable)) as raised:
        await desk.name(headers, pem)
    assert raised.value.reason == reason
    return raised.value


async def test_each_kind_of_identity_names_its_tenant(desk: Desk) -> None:
    by_certificate = await desk.name((), ANN)
    by_key = await desk.name(bearer(RADIOLOGY.text))
    by_header = await desk.name(((b"x-api-key", RADIOLOGY.text.encode()),))
    by_token = await desk.name(bearer(STAFF))
    assert by_key == by_header
    found = [by_certificate, by_key, by_token]
    assert {desk.directory.of(peer.spiffe_id).name for peer in found} == {"radiology"}
    assert [peer.role for peer in found] == ["client", "client", "client"]
    assert by_key.spiffe_id == f"{IDS}radiology/key/{RADIOLOGY.id}"
    assert by_token.spiffe_id == f"{IDS}radiology/token/staff"
    assert (by_key.expires_at, by_token.expires_at) == (float("inf"), NOW + 630)
    lead = await desk.name(bearer(ISSUER.token(NOW, sub="lead")))
    assert desk.directory.of(lead.spiffe_id).name == "research"


async def test_nothing_shown_is_nobody(desk: Desk) -> None:
    await refused(desk, "identity.unknown")
    await refused(desk, "identity.unknown", ((b"x-tenant", b"radiology"), (b"cookie", b"a=b")))


async def test_the_scheme_may_be_spelt_in_any_case(desk: Desk) -> None:
    assert (await desk.name(((b"authorization", b"bEARER " + RADIOLOGY.text.encode()),))).role == "client"


@pytest.mark.attack("G23")
async def test_what_a_client_says_of_itself_changes_nothing(desk: Desk) -> None:
    said = tuple(
        (name, value)
        for name in (b"x-tenant", b"x-cloister-tenant", b"x-forwarded-user", b"x-forwarded-client-cert", b"forwarded")
        for value in (b"research", f"{IDS}research/key/{RESEARCH.id}".encode())
    )
    peer = await desk.name((*said, *bearer(RADIOLOGY.text)))
    assert desk.directory.of(peer.spiffe_id).name == "radiology"
    assert await desk.name(said, ANN) == await desk.name((), ANN)


@pytest.mark.attack("G23")
@pytest.mark.parametrize(
    "headers",
    [
        (*bearer(RADIOLOGY.text), *bearer(RADIOLOGY.text)),
        (*bearer(RADIOLOGY.text), *bearer(RESEARCH.text)),
        ((b"authorization", f"Bearer {RADIOLOGY.text}, Bearer {RESEARCH.text}".encode()),),
        ((b"authorization", f"Bearer {RADIOLOGY.text}\r\nx-tenant: research".encode()),),
        ((b"authorization", f"Bearer  {RADIOLOGY.text}".encode()),),
        ((b"authorization", f"Bearer {RADIOLOGY.text} ".encode()),),
        ((b"authorization", RADIOLOGY.text.encode()),),
        ((b"authorization", b"Basic YWRtaW46YWRtaW4="),),
        ((b"authorization", b"Bearer "),),
        ((b"authorization", b""),),
        ((b"authorization", b"Bearer \xff\xfe"),),
        ((b"authorization", b"Bearer " + b"A" * 1_000_000),),
        ((b"x-api-key", RADIOLOGY.text.encode()), (b"x-api-key", RADIOLOGY.text.encode())),
        ((b"x-api-key", b""),),
    ],
)
async def test_a_header_that_is_given_twice_or_is_none_is_refused_also_beside_a_good_certificate(
    desk: Desk, headers: Headers
) -> None:
    for pem in (None, ANN):
        error = await refused(desk, "authorization.malformed", headers, pem)
        assert RADIOLOGY.text not in str(error)


async def test_two_credentials_must_be_of_one_tenant(desk: Desk) -> None:
    both = await desk.name(bearer(STAFF), ANN)
    assert both.spiffe_id == f"spiffe://{CLUSTER}/client/ann"
    assert both.expires_at == NOW + 630
    await desk.name((*bearer(STAFF), (b"x-api-key", RADIOLOGY.text.encode())))
    for headers, pem in (
        (bearer(RESEARCH.text), ANN),
        (bearer(STAFF), ROSE),
        (bearer(STAFF), OLGA),
        ((*bearer(STAFF), (b"x-api-key", RESEARCH.text.encode())), None),
    ):
        await refused(desk, "identity.conflicting", headers, pem)
    await refused(desk, "key.unknown", bearer(new_key().text), ANN)


async def test_a_certificate_is_of_this_cluster_listed_and_in_time(desk: Desk) -> None:
    stranger = MeshPki("other.cloister.internal", now=START).identity("client", "ann").certificate
    await refused(desk, "identity.unknown", (), stranger)
    await refused(desk, "tenant.unknown", (), PKI.identity("client", "bob").certificate)
    desk.now_s += 3600
    await refused(desk, "identity.expired", (), ANN)


# API keys


async def test_a_key_that_is_unknown_wrong_or_revoked_is_told_alike(desk: Desk) -> None:
    wrong = RADIOLOGY.text[:-1] + ("A" if RADIOLOGY.text[-1] != "A" else "B")
    other_id = f"clk_{RESEARCH.id}_{RADIOLOGY.text.rpartition('_')[2]}"
    told = [str(await refused(desk, "key.unknown", bearer(text))) for text in (wrong, other_id, new_key().text)]
    told += [str(await refused(desk, "key.unknown", bearer(text))) for text in ("clk_", "clk_0123456789_short")]
    desk.use(tenants_text().replace(key_table("radiology", RADIOLOGY), ""))
    told.append(str(await refused(desk, "key.unknown", bearer(RADIOLOGY.text))))
    assert len(set(told)) == 1


async def test_a_key_ends_when_it_is_said_to(desk: Desk) -> None:
    ending = key_table("radiology", RADIOLOGY, "2026-11-26T00:01:00Z")
    desk.use(tenants_text().replace(key_table("radiology", RADIOLOGY), ending))
    assert (await desk.name(bearer(RADIOLOGY.text))).expires_at == (START + timedelta(minutes=1)).timestamp()
    desk.now_s += 60
    await refused(desk, "key.expired", bearer(RADIOLOGY.text))


def test_a_key_hides_itself_and_is_never_the_same() -> None:
    assert RADIOLOGY.text not in repr(RADIOLOGY)
    assert len({new_key().text for _ in range(100)}) == 100


# Tokens


async def test_a_token_that_is_nobodys_or_two_tenants_is_refused(desk: Desk) -> None:
    await refused(desk, "token.nobodys", bearer(ISSUER.token(NOW)))
    await refused(desk, "token.ambiguous", bearer(ISSUER.token(NOW, sub="lead", department="radiology")))
    await refused(desk, "token.issuer", bearer(OidcIssuer(issuer="https://evil.example").token(NOW)))


@pytest.mark.attack("E01")
async def test_an_issuers_algorithms_are_those_that_the_file_names(desk: Desk) -> None:
    ec, rsa = ISSUER, OidcIssuer("RS256", "k2")
    desk.jwks = jwks_of(ec, rsa)
    await desk.name(bearer(rsa.token(NOW, department="radiology")))
    desk.use(tenants_text(issuer_table() + 'algorithms = ["ES256"]\n'))
    await refused(desk, "token.algorithm", bearer(rsa.token(NOW, department="radiology")))
    await desk.name(bearer(STAFF))


@pytest.mark.attack("E03")
async def test_a_token_that_was_good_ends_all_the_same(desk: Desk) -> None:
    for _ in range(3):
        await desk.name(bearer(STAFF))
    desk.now_s += 631
    await refused(desk, "token.expired", bearer(STAFF))


@pytest.mark.attack("E04")
async def test_a_token_that_was_good_is_for_whom_the_file_says_now(desk: Desk) -> None:
    await desk.name(bearer(STAFF))
    desk.use(tenants_text(issuer_table(audience="broker")))
    await refused(desk, "token.audience", bearer(STAFF))


@pytest.mark.attack("E08")
async def test_a_key_that_the_issuer_has_taken_back_signs_nothing_any_more(desk: Desk) -> None:
    newer = OidcIssuer(kid="k2")
    await desk.name(bearer(STAFF))
    desk.jwks = newer.jwks()
    desk.now_s += 10
    await desk.name(bearer(newer.token(NOW, department="radiology")))
    await refused(desk, "token.key_unknown", bearer(STAFF))
    assert desk.asked == 2


@pytest.mark.attack("E08")
async def test_a_crowd_with_keys_of_its_own_makes_us_ask_once_in_ten_seconds(desk: Desk) -> None:
    for number in range(30):
        await refused(desk, "token.key_unknown", bearer(OidcIssuer(kid=f"made-up-{number}").token(NOW)))
    assert desk.asked == 1
    desk.now_s += 9.9
    await refused(desk, "token.key_unknown", bearer(OidcIssuer(kid="more").token(NOW)))
    assert desk.asked == 1
    desk.now_s += 0.2
    await refused(desk, "token.key_unknown", bearer(OidcIssuer(kid="more").token(NOW)))
    assert desk.asked == 2


async def test_all_who_come_with_a_new_key_wait_for_one_look(desk: Desk) -> None:
    desk.answers.clear()
    async with asyncio.TaskGroup() as group:
        asking = [
            group.create_task(desk.name(bearer(ISSUER.token(NOW, department="radiology", jti=str(n)))))
            for n in range(20)
        ]
        await desk.heard.wait()
        asking[0].cancel()
        desk.answers.set()
    assert desk.asked == 1
    assert all(task.cancelled() or task.result().role == "client" for task in asking)


@pytest.mark.attack("E08")
async def test_where_an_issuer_is_slow_no_crowd_waits_with_keys_that_it_made_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "MAX_WAITING", 3)
    await desk.name(bearer(STAFF))
    desk.now_s += 11
    desk.answers.clear()
    made_up = [bearer(OidcIssuer(kid=f"made-up-{number}").token(NOW)) for number in range(4)]
    async with asyncio.TaskGroup() as group:
        desk.heard.clear()
        waiting = [group.create_task(refused(desk, "token.key_unknown", token)) for token in made_up[:3]]
        await desk.heard.wait()
        await asyncio.sleep(0)
        assert isinstance(await refused(desk, "issuer.busy", made_up[3]), Unavailable)
        assert not any(task.done() for task in waiting)
        await desk.name(bearer(ISSUER.token(NOW, department="radiology")))  # by a key that is known
        desk.answers.set()
    await refused(desk, "token.key_unknown", made_up[3])


@pytest.mark.attack("E08")
async def test_a_crowd_of_signatures_takes_two_threads_and_one_token_is_not_verified_for_each(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, lock = token_verifier.verify_signature, threading.Lock()
    verified: list[str] = []
    at_once = most = 0

    def counted(token: str, algorithm: str, key: object) -> None:
        nonlocal at_once, most
        with lock:
            at_once, most = at_once + 1, max(most, at_once + 1)
            verified.append(token)
        time.sleep(0.003)  # so that the others are there
        try:
            verify(token, algorithm, key)  # type: ignore[arg-type]
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(token_verifier, "verify_signature", counted)
    forged = [bearer(OidcIssuer().token(NOW, department="radiology", jti=str(number))) for number in range(9)]
    async with asyncio.TaskGroup() as group:
        for headers in forged:
            group.create_task(refused(desk, "token.signature", headers))
        for _ in range(9):
            group.create_task(desk.name(bearer(STAFF)))
    assert most <= token_verifier.AT_A_TIME
    assert len(verified) <= 11
    assert 1 <= verified.count(STAFF) <= token_verifier.AT_A_TIME


async def test_the_last_good_keys_count_for_a_day_and_no_longer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_verifier, "TICK_S", 0.001)
    async with asyncio.TaskGroup() as group:
        await desk.name(bearer(STAFF))
        refreshing = group.create_task(desk.tokens.refreshing())
        for broken in (Unavailable("down"), b"<html>", jwks_of()):
            desk.jwks = broken
            desk.now_s += 3600
            desk.heard.clear()
            await desk.heard.wait()
            await desk.name(bearer(ISSUER.token(desk.now_s, department="radiology")))
        desk.now_s = NOW + 86_400
        error = await refused(desk, "issuer.unreachable", bearer(ISSUER.token(desk.now_s, department="radiology")))
        assert isinstance(error, Unavailable)
        refreshing.cancel()


@pytest.mark.attack("E02")
async def test_a_token_makes_us_ask_nobody_but_the_issuer_that_the_file_names(desk: Desk) -> None:
    for header in ({"jku": "https://127.0.0.1/keys"}, {"x5u": "https://127.0.0.1/c"}, {"jwk": ISSUER.jwk()}):
        await refused(desk, "token.malformed", bearer(_with_header(header)))
    await refused(desk, "token.issuer", bearer(OidcIssuer(issuer="https://127.0.0.1").token(NOW)))
    assert desk.asked == 0


def _with_header(header: dict[str, object]) -> str:
    _, payload, signature = STAFF.split(".")
    head = json.dumps({"alg": "ES256", "kid": "k1", **header}).encode()
    return f"{urlsafe_b64encode(head).rstrip(b'=').decode()}.{payload}.{signature}"


async def test_tokens_that_are_remembered_are_bounded_and_verified_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_verifier, "REMEMBERED", 4)
    verified = []
    verify = token_verifier.verify_signature

    def counted(token: str, algorithm: str, key: object) -> None:
        verified.append(token)
        verify(token, algorithm, key)  # type: ignore[arg-type]

    monkeypatch.setattr(token_verifier, "verify_signature", counted)
    tokens = [ISSUER.token(NOW, department="radiology", jti=str(number)) for number in range(6)]
    for token in tokens:
        for _ in range(3):
            await desk.name(bearer(token))
    assert verified == tokens
    assert len(desk.tokens._verified) == 4
    for _ in range(3):
        await refused(desk, "token.signature", bearer(OidcIssuer().token(NOW, department="radiology")))
    assert len(desk.tokens._verified) == 4
