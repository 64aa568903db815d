"""The vault over HashiCorp Vault's Transit engine, on the wire: what it asks, and what becomes of each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import NotReady, SealBroken, Unavailable
from cloister.provisioner.vaults.enveloped import EnvelopedVault
from cloister.provisioner.vaults.guard import PAUSE_S, Guard
from cloister.provisioner.vaults.roots import Roots
from cloister.provisioner.vaults.settings import TransitSettings, VaultSettings
from cloister.provisioner.vaults.transit import open_transit
from cloister.provisioner.vaults.transit_client import LOGIN_PAUSE_S, MOST_ANSWER_BYTES, TransitClient
from cloister.provisioner.vaults.vault import Vault
from fakes.pki import MeshPki
from fakes.results import Clock
from fakes.running_services import private_file
from fakes.transit_server import (
    JWT,
    KUBERNETES_ROLE,
    NAMESPACE,
    PLAIN_TOKEN,
    ROLE_ID,
    SECRET_ID,
    Handler,
    Misbehaviour,
    TransitServer,
    serving,
)
from fakes.vault_contract import KEY, RECORD, VaultContract

DRIP_S = 0.02


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
def transit(pki: MeshPki, tmp_path: Path) -> Iterator[TransitServer]:
    with serving(TransitServer(), pki, tmp_path) as running:
        yield running


@pytest.fixture
def settings(transit: TransitServer, pki: MeshPki, tmp_path: Path) -> TransitSettings:
    (tmp_path / "ca.pem").write_bytes(pki.roots_pem)
    return TransitSettings(
        address=transit.url,
        ca_file=tmp_path / "ca.pem",
        key="cloister",
        token_file=private_file(tmp_path / "token", f"{PLAIN_TOKEN}\n".encode()),
        deadline_s=20.0,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(settings: TransitSettings, clock: Callable[[], float] = time.monotonic) -> list[EnvelopedVault]:
    guard = Guard("transit", deadline_s=settings.deadline_s, monotonic=clock)
    return open_transit(settings, TransitClient(settings, monotonic=clock), guard)


@pytest.fixture
def vault(settings: TransitSettings) -> Vault:
    return opened(settings)[0]


class TestTransit(VaultContract):
    """The contract, over the fixture above."""


class TestDerivedKey(VaultContract):
    """The same with a key that wants a context for each use."""

    @pytest.fixture
    def vault(self, transit: TransitServer, settings: TransitSettings) -> Vault:
        transit.keys["cloister"].derived = True
        return opened(settings)[0]


def test_each_version_is_a_root_key_of_its_own(transit: TransitServer, settings: TransitSettings) -> None:
    (first,) = opened(settings)
    wrapped = first.wrap(RECORD, KEY)
    transit.rotate()
    second, again = opened(settings)
    assert again.key_id() == first.key_id() != second.key_id()
    assert again.unwrap(RECORD, wrapped) == KEY
    assert again.unwrap(RECORD, first.wrap(RECORD, KEY)) == KEY, "it wraps under its own version still"
    with pytest.raises(SealBroken):
        second.unwrap(RECORD, wrapped)


def test_a_newer_version_wraps_when_it_is_gone_over_to_and_not_before(
    transit: TransitServer, settings: TransitSettings, tmp_path: Path
) -> None:
    def at_a_start(*used: str) -> Roots:
        return Roots.opened(VaultSettings(transit=settings), None, tmp_path, used)

    first = at_a_start().keyring.wrapping_id
    transit.rotate()
    roots = at_a_start(first)
    assert roots.keyring.wrapping_id == first
    wrapped = roots.keyring.wrap(RECORD, KEY)
    roots.turn_to(roots.next({first}))
    second = roots.keyring.wrapping_id
    assert second != first
    assert roots.keyring.unwrap(RECORD, wrapped) == roots.keyring.unwrap(RECORD, roots.keyring.wrap(RECORD, KEY)) == KEY
    assert at_a_start(first, second).keyring.wrapping_id == second
    transit.keys["cloister"].least_to_open = 2
    assert at_a_start(second).keyring.ids == {second}
    with pytest.raises(NotReady, match="put the right one back"):
        at_a_start(first, second)


def test_a_version_that_vault_opens_no_more_is_none_of_ours(transit: TransitServer, settings: TransitSettings) -> None:
    (first,) = opened(settings)
    wrapped = first.wrap(RECORD, KEY)
    transit.rotate()
    transit.keys["cloister"].least_to_open = 2
    assert first.key_id() not in {each.key_id() for each in opened(settings)}
    with pytest.raises(NotReady, match="too old") as refused:
        first.unwrap(RECORD, wrapped)
    assert refused.value.reason == "vault.refused"
    transit.keys["cloister"].least_to_open = 1
    assert first.unwrap(RECORD, wrapped) == KEY


def test_a_version_that_vault_wraps_under_no_more_is_refused(transit: TransitServer, vault: Vault) -> None:
    transit.rotate()
    transit.keys["cloister"].least_to_wrap = 2
    with pytest.raises(NotReady, match="minimum encryption key version"):
        vault.wrap(RECORD, KEY)


@pytest.mark.attack("F11")
def test_a_key_made_anew_under_the_same_name_is_another_one(
    transit: TransitServer, settings: TransitSettings, vault: Vault
) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    transit.make_anew()
    assert opened(settings)[0].key_id() != vault.key_id()
    with pytest.raises(SealBroken):
        vault.unwrap(RECORD, wrapped)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "rsa-4096"}, "must be of type"),
        ({"convergent": True}, "convergently"),
        ({"least_to_open": 2}, "no version that may be opened"),
    ],
    ids=["kind", "convergent", "no versions"],
)
def test_a_key_that_is_not_fit_for_it_is_refused(
    transit: TransitServer, settings: TransitSettings, change: dict[str, Any], said: str
) -> None:
    transit.keys["cloister"] = replace(transit.keys["cloister"], **change)
    with pytest.raises(NotReady, match=said):
        opened(settings)


def test_a_key_that_is_not_there_is_refused(settings: TransitSettings) -> None:
    with pytest.raises(NotReady, match="no such key") as refused:
        opened(replace(settings, key="missing"))
    assert refused.value.reason == "vault.refused"


LOGINS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "app role": lambda folder: {
        "app_role": ROLE_ID,
        "secret_id_file": private_file(folder / "secret_id", SECRET_ID.encode()),
    },
    "kubernetes": lambda folder: {
        "kubernetes_role": KUBERNETES_ROLE,
        "jwt_file": private_file(folder / "jwt", JWT.encode(), mode=0o644),
    },
}


@pytest.mark.parametrize("method", LOGINS)
def test_it_logs_in_by_what_lies_in_files(settings: TransitSettings, tmp_path: Path, method: str) -> None:
    vault = opened(replace(settings, token_file=None, **LOGINS[method](tmp_path)))[0]
    assert vault.unwrap(RECORD, vault.wrap(RECORD, KEY)) == KEY


@pytest.mark.parametrize("method", LOGINS)
def test_a_login_that_is_refused_is_told_and_not_tried_at_each_call(
    transit: TransitServer, settings: TransitSettings, tmp_path: Path, clock: Clock, method: str
) -> None:
    wrong = replace(settings, token_file=None, **LOGINS[method](tmp_path))
    for file in (wrong.secret_id_file, wrong.jwt_file):
        if file is not None:
            file.write_bytes(b"another")
    client = TransitClient(wrong, monotonic=clock)
    for _ in range(10):
        with pytest.raises(NotReady) as refused:
            open_transit(wrong, client, Guard("transit", deadline_s=20))
        assert refused.value.reason == "vault.refused"
    assert len(transit.heard) == 1
    clock.pass_s(LOGIN_PAUSE_S)
    with pytest.raises(NotReady):
        open_transit(wrong, client, Guard("transit", deadline_s=20))
    assert len(transit.heard) == 2


@pytest.mark.attack("F11")
@pytest.mark.parametrize("method", LOGINS)
def test_a_token_that_is_known_no_more_is_followed_by_another(
    transit: TransitServer, settings: TransitSettings, tmp_path: Path, clock: Clock, method: str
) -> None:
    vault = opened(replace(settings, token_file=None, **LOGINS[method](tmp_path)), clock)[0]
    wrapped = vault.wrap(RECORD, KEY)
    transit.end_tokens()
    clock.pass_s(LOGIN_PAUSE_S)
    assert vault.unwrap(RECORD, wrapped) == KEY


def test_a_token_in_a_file_is_read_again_when_it_is_known_no_more(
    transit: TransitServer, settings: TransitSettings, clock: Clock
) -> None:
    vault = opened(settings, clock)[0]
    wrapped = vault.wrap(RECORD, KEY)
    transit.end_tokens()
    transit.tokens["hvs.another"] = 3600
    assert settings.token_file is not None
    settings.token_file.write_text("hvs.another")
    clock.pass_s(LOGIN_PAUSE_S)
    assert vault.unwrap(RECORD, wrapped) == KEY


def test_a_token_is_renewed_before_it_ends(transit: TransitServer, settings: TransitSettings, clock: Clock) -> None:
    client = TransitClient(settings, monotonic=clock)
    vault = open_transit(settings, client, Guard("transit", deadline_s=20))[0]
    wrapped = vault.wrap(RECORD, KEY)
    clock.pass_s(transit.lease_s / 2)
    client.keep_alive()
    assert "POST /v1/auth/token/renew-self" not in transit.heard
    clock.pass_s(transit.lease_s / 3)
    client.keep_alive()
    assert transit.heard.count("POST /v1/auth/token/renew-self") == 1
    assert vault.unwrap(RECORD, wrapped) == KEY


def test_a_namespace_goes_with_each_request(transit: TransitServer, settings: TransitSettings) -> None:
    transit.namespace = NAMESPACE
    with pytest.raises(NotReady):
        opened(settings)
    vault = opened(replace(settings, namespace=NAMESPACE))[0]
    assert vault.unwrap(RECORD, vault.wrap(RECORD, KEY)) == KEY


def test_nothing_is_taken_from_the_environment(
    transit: TransitServer, settings: TransitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "hvs.of-somebody-else")
    monkeypatch.setenv("VAULT_ADDR", "https://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    vault = opened(settings)[0]
    assert vault.unwrap(RECORD, vault.wrap(RECORD, KEY)) == KEY


@pytest.mark.attack("F11")
def test_a_vault_under_another_authority_is_not_spoken_to(
    transit: TransitServer, settings: TransitSettings, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(MeshPki().roots_pem)
    with pytest.raises(Unavailable, match="not from the authorities in ca_file"):
        opened(settings)
    assert transit.heard == []


def test_a_file_of_authorities_that_is_not_there_is_named(settings: TransitSettings, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="ca_file cannot be read") as refused:
        opened(replace(settings, ca_file=tmp_path / "missing.pem"))
    assert refused.value.reason == "vault.refused"


def sealed(transit: TransitServer) -> None:
    transit.sealed = True


def forbidden(transit: TransitServer) -> None:
    transit.allowed = {"keys"}


def misbehaving(behaviour: Misbehaviour) -> Callable[[TransitServer], None]:
    def applied(transit: TransitServer) -> None:
        transit.misbehaves = behaviour

    return applied


def truncated(handler: Handler) -> None:
    handler.send_raw(200, b'{"data": {"plaintext": "AAAA', claimed=4000)


def half_json(handler: Handler) -> None:
    handler.send_raw(200, b'{"data": {"plaintext": "AAAA')


def nothing(handler: Handler) -> None:
    handler.send_raw(200, b"")


def web_page(handler: Handler) -> None:
    handler.send_raw(200, b"<!doctype html><title>Please sign in</title>", Content_Type="text/html")


def elsewhere(handler: Handler) -> None:
    handler.send_raw(307, b"", Location="https://127.0.0.1:1/v1/transit/decrypt/cloister")


def too_large(handler: Handler) -> None:
    handler.send_raw(200, b" " * (MOST_ANSWER_BYTES + 1))


def too_many(handler: Handler) -> None:
    handler.send(429, {"errors": ["request path: rate limit quota exceeded"]})


def broken(handler: Handler) -> None:
    handler.send(500, {"errors": ["internal error"]})


def no_members(handler: Handler) -> None:
    handler.send(200, {"data": {}})


def no_data(handler: Handler) -> None:
    handler.send(200, {"data": None})


def no_base64(handler: Handler) -> None:
    handler.send(200, {"data": {"plaintext": "*", "ciphertext": "vault:v1:*"}})


def zero_bytes(handler: Handler) -> None:
    handler.send(200, {"data": {"plaintext": "", "ciphertext": ""}})


def half_a_key(handler: Handler) -> None:
    handler.send(200, {"data": {"plaintext": "AAAAAAAAAAAAAAAAAAAAAA==", "ciphertext": "vault:v1:AAAA"}})


def other_version(handler: Handler) -> None:
    handler.send(200, {"data": {"plaintext": "A" * 43 + "=", "ciphertext": "vault:v2:AAAA"}})


MAY_PASS = (truncated, half_json, nothing, web_page, too_large, too_many, broken, elsewhere)
STAYS = (no_members, no_data, no_base64, zero_bytes, half_a_key, other_version)
RETRYABLE = {"sealed": sealed, **{each.__name__: misbehaving(each) for each in MAY_PASS}}
FINAL = {"forbidden": forbidden, **{each.__name__: misbehaving(each) for each in STAYS}}


@pytest.mark.attack("F11")
@pytest.mark.parametrize("trouble", RETRYABLE)
def test_what_may_pass_is_told_as_such_and_passes(
    transit: TransitServer, settings: TransitSettings, clock: Clock, trouble: str
) -> None:
    vault = opened(settings, clock)[0]
    wrapped = vault.wrap(RECORD, KEY)
    RETRYABLE[trouble](transit)
    for call in (lambda: vault.unwrap(RECORD, wrapped), lambda: vault.wrap(RECORD, KEY)):
        with pytest.raises(Unavailable) as refused:
            call()
        assert (refused.value.reason, refused.value.retryable) == ("vault.unavailable", True)
        clock.pass_s(PAUSE_S)
    transit.sealed, transit.misbehaves = False, None
    assert vault.unwrap(RECORD, wrapped) == KEY


@pytest.mark.attack("F11")
@pytest.mark.parametrize("trouble", FINAL)
def test_what_does_not_pass_by_itself_is_told_as_such(
    transit: TransitServer, settings: TransitSettings, clock: Clock, trouble: str
) -> None:
    vault = opened(settings, clock)[0]
    wrapped = vault.wrap(RECORD, KEY)
    clock.pass_s(LOGIN_PAUSE_S)
    FINAL[trouble](transit)
    for call in (lambda: vault.unwrap(RECORD, wrapped), lambda: vault.wrap(RECORD, KEY)):
        with pytest.raises((NotReady, SealBroken)) as refused:
            call()
        assert not refused.value.retryable
    transit.allowed, transit.misbehaves = {"keys", "encrypt", "decrypt"}, None
    clock.pass_s(LOGIN_PAUSE_S)
    assert vault.unwrap(RECORD, wrapped) == KEY


@pytest.mark.attack("F11")
def test_one_that_drips_its_answer_is_not_waited_for(transit: TransitServer, settings: TransitSettings) -> None:
    wrapped = opened(settings)[0].wrap(RECORD, KEY)
    impatient = opened(replace(settings, deadline_s=1.0))[0]

    def drip(handler: Handler) -> None:
        handler.send_raw(200, b"", claimed=100_000)
        for _ in range(1000):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(DRIP_S)

    transit.misbehaves = drip
    began = time.monotonic()
    with pytest.raises(Unavailable):
        impatient.unwrap(RECORD, wrapped)
    assert time.monotonic() - began < 10, "of twenty seconds that the whole takes"


@pytest.mark.attack("F11")
def test_one_that_was_down_is_found_again_when_it_is_back(pki: MeshPki, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "ca.pem").write_bytes(pki.roots_pem)
    server = TransitServer()
    with serving(server, pki, tmp_path) as running:
        port = int(running.url.rpartition(":")[2])
        vault = opened(
            TransitSettings(
                address=running.url,
                ca_file=tmp_path / "ca.pem",
                key="cloister",
                token_file=private_file(tmp_path / "token", PLAIN_TOKEN.encode()),
                deadline_s=20.0,
            ),
            clock,
        )[0]
        wrapped = vault.wrap(RECORD, KEY)
    with pytest.raises(Unavailable, match="cannot be reached"):
        vault.unwrap(RECORD, wrapped)
    clock.pass_s(PAUSE_S)
    with serving(server, pki, tmp_path, port=port):
        assert vault.unwrap(RECORD, wrapped) == KEY


@pytest.mark.attack("F11")
def test_no_error_holds_what_was_sent_or_how_we_log_in(
    transit: TransitServer, settings: TransitSettings, tmp_path: Path, clock: Clock
) -> None:
    vault = opened(replace(settings, token_file=None, **LOGINS["app role"](tmp_path)), clock)[0]
    wrapped = vault.wrap(RECORD, KEY)
    token = next(each for each in transit.tokens if each != PLAIN_TOKEN)
    for trouble in (RETRYABLE | FINAL).values():
        clock.pass_s(LOGIN_PAUSE_S)
        trouble(transit)
        with pytest.raises((NotReady, Unavailable, SealBroken)) as refused:
            vault.unwrap(RECORD, wrapped)
        assert not any(word in str(refused.value) for word in (token, SECRET_ID, "127.0.0.1", "AAAA"))
