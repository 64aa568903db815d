"""Which root key wraps and which are open: by what is stored, and by what the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.errors import InvalidRequest, NotReady, SealBroken
from cloister.kit.config import load
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.root_key import RootKeyVault
from cloister.provisioner.vaults.roots import Roots
from cloister.provisioner.vaults.settings import VaultSettings
from cloister.provisioner.vaults.vault import Record, Wrapped
from cloister.seal.keys import Secret
from fakes.running_services import key_file_vault, private_file
from fakes.vault_contract import KEY, RECORD

OLD, NEW, THIRD = (RootKeyVault(Secret(letter * 32)) for letter in (b"o", b"n", b"t"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    private_file(tmp_path / "root.key", b"o" * 32)
    private_file(tmp_path / "next.key", b"n" * 32)
    return tmp_path


def opened(folder: Path, *used: RootKeyVault, upcoming: str = "next.key") -> Roots:
    next_vault = key_file_vault(folder / upcoming) if upcoming else None
    ids = {vault.key_id() for vault in used}
    return Roots.opened(key_file_vault(folder / "root.key"), next_vault, folder, ids)


def test_content_and_name_of_what_is_wrapped_are_of_one_root_key() -> None:
    keyring = Keyring([OLD])
    before = keyring.wrap(RECORD, KEY)
    keyring.turn_to([NEW])
    after = keyring.wrap(RECORD, KEY)
    assert (before.root_key_id, after.root_key_id) == (OLD.key_id(), NEW.key_id())
    assert keyring.unwrap(RECORD, before) == keyring.unwrap(RECORD, after) == KEY
    with pytest.raises(SealBroken):
        keyring.unwrap(RECORD, Wrapped(before.content, NEW.key_id()))


def test_what_lies_under_a_root_key_that_is_not_open_is_not_looked_at() -> None:
    wrapped = Keyring([NEW]).wrap(RECORD, KEY)
    with pytest.raises(NotReady) as refused:
        Keyring([OLD]).unwrap(RECORD, wrapped)
    assert refused.value.reason == "root_key.other"


class Refusing:
    """A back end that does not let us in."""

    def key_id(self) -> str:
        return "refusing"

    def wrap(self, _record: Record, _secret: Secret) -> bytes:
        raise NotReady("the PIN in /etc/cloister/pin is not taken", reason="vault.refused")

    def unwrap(self, _record: Record, _wrapped: bytes) -> Secret:
        raise NotReady("the PIN in /etc/cloister/pin is not taken", reason="vault.refused")


@pytest.mark.attack("F11")
def test_why_a_vault_refuses_is_for_the_log_and_not_for_who_asked(capsys: pytest.CaptureFixture[str]) -> None:
    keyring = Keyring([Refusing()])
    for call in (lambda: keyring.wrap(RECORD, KEY), lambda: keyring.unwrap(RECORD, Wrapped(b"", "refusing"))):
        with pytest.raises(NotReady) as refused:
            call()
        assert refused.value.reason == "vault.refused"
        assert "/etc" not in str(refused.value)
        assert "/etc/cloister/pin" in capsys.readouterr().out


def test_a_wrapped_secret_hides_in_repr() -> None:
    assert "content" not in repr(Wrapped(b"content", "root"))


def test_the_next_root_key_need_not_be_there(folder: Path) -> None:
    roots = opened(folder, OLD, upcoming="missing.key")
    assert roots.keyring.ids == {OLD.key_id()}
    with pytest.raises(NotReady, match=r"missing\.key cannot be read"):
        roots.next({OLD.key_id()})
    assert roots.keyring.wrapping_id == OLD.key_id()


def test_the_next_root_key_wraps_once_it_was_gone_over_to(folder: Path) -> None:
    roots = opened(folder, OLD)
    roots.turn_to(roots.next({OLD.key_id()}))
    assert roots.keyring.wrapping_id == NEW.key_id()
    assert roots.keyring.ids == {OLD.key_id(), NEW.key_id()}


def test_a_rotation_that_was_broken_off_goes_on_where_it_was(folder: Path) -> None:
    roots = opened(folder, OLD, NEW)
    assert roots.keyring.wrapping_id == NEW.key_id()
    assert roots.keyring.ids == {OLD.key_id(), NEW.key_id()}


def test_a_next_root_key_that_took_the_place_of_the_old_one_is_all_there_is(folder: Path) -> None:
    (folder / "next.key").rename(folder / "root.key")
    roots = opened(folder, NEW)
    assert roots.keyring.ids == {NEW.key_id()}
    assert roots.keyring.wrapping_id == NEW.key_id()


@pytest.mark.attack("F09")
def test_no_start_without_a_root_key_that_something_lies_under(folder: Path) -> None:
    for used, upcoming in (((THIRD,), "next.key"), ((OLD, THIRD), "next.key"), ((NEW,), "")):
        with pytest.raises(NotReady, match="put the right one back") as refused:
            opened(folder, *used, upcoming=upcoming)
        assert refused.value.reason == "root_key.other"


def test_no_rotation_goes_on_while_the_root_key_in_use_is_in_no_file(folder: Path) -> None:
    roots = opened(folder, OLD)
    roots.turn_to(roots.next({OLD.key_id()}))
    private_file(folder / "next.key", b"t" * 32)  # over the one that keys lie under by now
    with pytest.raises(NotReady, match="would not open") as refused:
        roots.next({OLD.key_id(), NEW.key_id()})
    assert refused.value.reason == "root_key.other"
    assert roots.keyring.wrapping_id == NEW.key_id()


def test_each_root_key_has_its_back_end(folder: Path) -> None:
    roots = opened(folder, OLD)
    assert roots.back_end_of(OLD.key_id()) == "file"
    assert roots.back_end_of(THIRD.key_id()) == ""


ONE_OF_EACH = {
    "file": 'file.key_file = "root.key"',
    "passphrase": 'passphrase.passphrase_file = "passphrase"',
    "transit": 'transit = { address = "https://vault:8200", ca_file = "ca.pem", key = "cloister", token_file = "t" }',
    "pkcs11": 'pkcs11 = { module = "/lib/hsm.so", token = "hsm", key = "cloister", pin_file = "pin" }',
    "gramine": 'gramine.bound_to = "mrsigner"',
}


def loaded(folder: Path, text: str) -> VaultSettings:
    (folder / "settings.toml").write_text(text)
    return load(VaultSettings, folder / "settings.toml", {}, prefix="CLOISTER_VAULT_")


@pytest.mark.parametrize("back_end", ONE_OF_EACH)
def test_settings_name_each_back_end(tmp_path: Path, back_end: str) -> None:
    assert loaded(tmp_path, ONE_OF_EACH[back_end]).back_end == back_end


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one table names where the root key is"),
        ("\n".join((ONE_OF_EACH["file"], ONE_OF_EACH["gramine"])), "there are 2"),
        ('file.key = "root.key"', "unknown key 'file.key'"),
        ('tpm.key = "root.key"', "unknown key 'tpm'"),
        ('gramine.bound_to = "mrsgner"', "mrsigner or mrenclave"),
        (ONE_OF_EACH["transit"].replace(', key = "cloister"', ""), "transit.key is missing"),
        (ONE_OF_EACH["transit"].replace("https", "http"), "https://host:port"),
        (ONE_OF_EACH["transit"].replace(', token_file = "t"', ""), "one way to log in"),
        (ONE_OF_EACH["transit"].replace('token_file = "t"', 'app_role = "id"'), "secret_id_file belong together"),
        (ONE_OF_EACH["transit"].replace('token_file = "t"', 'kubernetes_role = "id"'), "jwt_file belong together"),
        (ONE_OF_EACH["transit"].replace('key = "cloister"', 'key = "../cloister"'), "name of a Transit key"),
        (ONE_OF_EACH["transit"].replace("token_file", 'mount = "a//b", token_file'), "mount must be a path"),
        (ONE_OF_EACH["transit"].replace("token_file", "deadline_s = 0, token_file"), "deadline_s must be"),
        (ONE_OF_EACH["pkcs11"].replace('"hsm"', '""'), "labels of a token"),
        ('passphrase = { passphrase_file = "p", memory_mib = 7 }', "memory_mib must be 8"),
    ],
)
def test_settings_that_cannot_be_meant_are_told_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said.replace("(", r"\(")):
        loaded(tmp_path, text)
