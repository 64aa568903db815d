"""A root key in a PKCS#11 token: SoftHSM2, the real library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType

from cloister.errors import NotReady, SealBroken, Unavailable
from cloister.provisioner.vaults.pkcs11 import open_pkcs11
from cloister.provisioner.vaults.settings import Pkcs11Settings
from cloister.provisioner.vaults.vault import Vault
from fakes.soft_token import PIN, soft_token
from fakes.vault_contract import KEY, RECORD, VaultContract

CLOSED = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}


@dataclass(frozen=True)
class Token:
    """A token with keys in it, and the settings of one."""

    settings: Pkcs11Settings

    def make(self, label: str, number: bytes, *, bits: int = 256, **changes: bool) -> None:
        """Have the token make an AES key."""
        template = {**CLOSED, **{Attribute[name.upper()]: value for name, value in changes.items()}}
        with self._opened(rw=True) as session:
            session.generate_key(KeyType.AES, bits, label=label, id=number, store=True, template=template)

    def drop(self, label: str) -> None:
        """Have it destroy one."""
        with self._opened(rw=True) as session:
            session.get_key(label=label).destroy()

    def lose_sessions(self) -> None:
        """End every session of this process, as a token does that was unplugged."""
        pkcs11.lib(str(self.settings.module)).finalize()

    def _opened(self, *, rw: bool) -> pkcs11.Session:
        token = pkcs11.lib(str(self.settings.module)).get_token(token_label=self.settings.token)
        return token.open(rw=rw, user_pin=PIN)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("token")
        soft = soft_token(folder, monkeypatch)
        made = Token(Pkcs11Settings(module=Path(soft.module), token="cloister", key="root", pin_file=soft.pin_file))
        made.lose_sessions()
        made.make("root", b"\x01")
        yield made
        made.lose_sessions()


@pytest.fixture(autouse=True)
def fresh(token: Token) -> None:
    """No session of the test before."""
    token.lose_sessions()


@pytest.fixture
def vault(token: Token) -> Vault:
    return open_pkcs11(token.settings)


class TestPkcs11(VaultContract):
    """The contract, over the fixture above."""


def test_a_session_that_is_lost_is_opened_anew(token: Token, vault: Vault) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    token.lose_sessions()
    assert vault.unwrap(RECORD, wrapped) == KEY
    token.lose_sessions()
    assert open_pkcs11(token.settings).unwrap(RECORD, vault.wrap(RECORD, KEY)) == KEY


def test_the_same_key_has_the_same_name_again(token: Token, vault: Vault) -> None:
    assert open_pkcs11(token.settings).key_id() == vault.key_id()
    assert vault.key_id().startswith("pkcs11:")


def test_another_key_of_the_token_has_another_name_and_opens_nothing(token: Token, vault: Vault) -> None:
    token.lose_sessions()
    token.make("another", b"\x02")
    another = open_pkcs11(replace(token.settings, key="another"))
    assert another.key_id() != vault.key_id()
    with pytest.raises(SealBroken):
        another.unwrap(RECORD, vault.wrap(RECORD, KEY))


@pytest.mark.attack("F11")
def test_a_key_that_took_the_place_of_the_other_is_not_used(token: Token) -> None:
    token.make("replaced", b"\x03")
    vault = open_pkcs11(replace(token.settings, key="replaced"))
    wrapped = vault.wrap(RECORD, KEY)
    token.lose_sessions()
    token.drop("replaced")
    token.make("replaced", b"\x04")
    token.lose_sessions()
    for call in (lambda: vault.unwrap(RECORD, wrapped), lambda: vault.wrap(RECORD, KEY)):
        with pytest.raises(NotReady, match="another key, than at the start") as refused:
            call()
        assert refused.value.reason == "vault.refused"


@pytest.mark.parametrize(
    ("label", "changes", "said"),
    [
        ("open", {"extractable": True}, "can be taken out"),
        ("plain", {"sensitive": False}, "can be taken out"),
        ("short", {"bits": 128}, "not of 256 bits"),
        ("nameless", {"number": b""}, "has no id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_that_is_not_fit_for_it_is_refused(
    token: Token, label: str, changes: dict[str, object], said: str
) -> None:
    token.make(label, **{"number": b"\x05", **changes})  # type: ignore[arg-type]  # of several kinds
    token.lose_sessions()
    with pytest.raises(NotReady, match=said) as refused:
        open_pkcs11(replace(token.settings, key=label))
    assert refused.value.reason == "vault.refused"


@pytest.mark.attack("F11")
def test_a_pin_that_was_refused_is_not_tried_until_the_token_locks(token: Token, tmp_path: Path) -> None:
    pin_file = tmp_path / "pin"
    pin_file.write_text(PIN)
    pin_file.chmod(0o600)
    vault = open_pkcs11(replace(token.settings, pin_file=pin_file))
    wrapped = vault.wrap(RECORD, KEY)
    token.lose_sessions()
    pin_file.write_text("000000")
    with pytest.raises(NotReady, match="does not take the PIN"):
        vault.unwrap(RECORD, wrapped)
    for _ in range(20):
        with pytest.raises(NotReady, match="is not asked again"):
            vault.unwrap(RECORD, wrapped)
    pin_file.write_text(PIN)
    assert vault.unwrap(RECORD, wrapped) == KEY


def test_a_pin_that_others_can_read_is_refused(token: Token, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "pin").chmod(0o644)
    with pytest.raises(NotReady, match="open to other users"):
        open_pkcs11(replace(token.settings, pin_file=tmp_path / "pin"))


@pytest.mark.attack("F11")
def test_a_token_that_is_not_there_may_come_back(token: Token) -> None:
    with pytest.raises(Unavailable, match="is not there") as refused:
        open_pkcs11(replace(token.settings, token="unplugged"))
    assert refused.value.reason == "vault.unavailable"


def test_a_library_that_is_none_is_refused(token: Token, tmp_path: Path) -> None:
    (tmp_path / "hsm.so").write_bytes(b"no library")
    with pytest.raises(NotReady, match="no PKCS#11 library"):
        open_pkcs11(replace(token.settings, module=tmp_path / "hsm.so"))


def test_a_key_that_is_not_in_the_token_is_refused(token: Token) -> None:
    with pytest.raises(NotReady, match="0 AES keys of the token are called 'missing'"):
        open_pkcs11(replace(token.settings, key="missing"))
