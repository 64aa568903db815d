"""Root keys in memory: from a file, from a passphrase, from an enclave's sealing key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import NotReady, SealBroken
from cloister.provisioner.vaults import gramine, passphrase
from cloister.provisioner.vaults.key_file import open_key_file
from cloister.provisioner.vaults.opening import open_vault
from cloister.provisioner.vaults.root_key import RootKeyVault
from cloister.provisioner.vaults.settings import GramineSettings, PassphraseSettings, VaultSettings
from cloister.provisioner.vaults.vault import Vault
from cloister.seal.keys import Secret
from fakes.running_services import private_file
from fakes.vault_contract import KEY, RECORD, VaultContract

PASSPHRASE = b"correct horse battery staple\n"


def root_file(folder: Path, raw: bytes = b"r" * 32, mode: int = 0o600) -> Path:
    return private_file(folder / "root.key", raw, mode=mode)


def cheap(folder: Path, content: bytes = PASSPHRASE, *, name: str = "passphrase") -> PassphraseSettings:
    return PassphraseSettings(passphrase_file=private_file(folder / name, content), memory_mib=8, passes=1, lanes=1)


def sealing_keys(folder: Path) -> Path:
    (folder / "keys").mkdir()
    (folder / "keys" / "_sgx_mrsigner").write_bytes(b"s" * 16)
    (folder / "keys" / "_sgx_mrenclave").write_bytes(b"e" * 16)
    return folder / "keys"


class TestKeyFile(VaultContract):
    @pytest.fixture
    def vault(self, tmp_path: Path) -> Vault:
        return open_key_file(root_file(tmp_path))


class TestPassphrase(VaultContract):
    @pytest.fixture
    def vault(self, tmp_path: Path) -> Vault:
        return passphrase.open_passphrase(cheap(tmp_path), tmp_path, begin=True)


class TestGramine(VaultContract):
    @pytest.fixture
    def vault(self, tmp_path: Path) -> Vault:
        return gramine.open_sealing_key(GramineSettings(bound_to="mrsigner"), sealing_keys(tmp_path))


@given(st.binary(max_size=80))
def test_any_bytes_do_not_unwrap(raw: bytes) -> None:
    with pytest.raises(SealBroken):
        RootKeyVault(Secret(b"r" * 32)).unwrap(RECORD, raw)


def test_another_root_key_has_another_name_and_opens_nothing() -> None:
    vault, other = RootKeyVault(Secret(b"r" * 32)), RootKeyVault(Secret(b"x" * 32))
    assert other.key_id() != vault.key_id()
    with pytest.raises(SealBroken):
        other.unwrap(RECORD, vault.wrap(RECORD, KEY))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o610])
def test_a_root_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(NotReady, match="open to other users") as refused:
        open_key_file(root_file(tmp_path, mode=mode))
    assert refused.value.reason == "root_key.unusable"


@pytest.mark.parametrize("raw", [b"", b"r" * 31, b"r" * 33])
def test_a_root_key_of_another_length_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(NotReady, match="not 32 bytes"):
        open_key_file(root_file(tmp_path, raw))


def test_a_root_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="cannot be read"):
        open_key_file(tmp_path / "root.key")


def test_a_link_to_somewhere_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "link").symlink_to(root_file(tmp_path))
    with pytest.raises(NotReady, match="link"):
        open_key_file(tmp_path / "state" / "link")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReady):
        open_key_file(tmp_path)


def test_a_passphrase_gives_the_same_root_key_again(tmp_path: Path) -> None:
    first = passphrase.open_passphrase(cheap(tmp_path), tmp_path, begin=True)
    without_newline = cheap(tmp_path, PASSPHRASE.strip())
    again = passphrase.open_passphrase(without_newline, tmp_path, begin=False)
    assert again.unwrap(RECORD, first.wrap(RECORD, KEY)) == KEY
    assert (tmp_path / passphrase.KEPT).stat().st_mode & 0o777 == 0o600


def test_two_states_have_two_salts(tmp_path: Path) -> None:
    states = [tmp_path / "one", tmp_path / "two"]
    for state in states:
        state.mkdir()
    one, two = (passphrase.open_passphrase(cheap(tmp_path), state, begin=True) for state in states)
    assert one.key_id() != two.key_id()


def test_a_wrong_passphrase_is_said_to_be_one(tmp_path: Path) -> None:
    passphrase.open_passphrase(cheap(tmp_path), tmp_path, begin=True)
    kept = (tmp_path / passphrase.KEPT).read_bytes()
    with pytest.raises(NotReady, match="not the one that this state was begun with") as refused:
        passphrase.open_passphrase(cheap(tmp_path, b"incorrect horse battery\n"), tmp_path, begin=False)
    assert refused.value.reason == "passphrase.wrong"
    assert (tmp_path / passphrase.KEPT).read_bytes() == kept


def test_a_wrong_passphrase_never_begins_a_new_root_key_where_one_was_begun(tmp_path: Path) -> None:
    settings = VaultSettings(passphrase=cheap(tmp_path))
    open_vault(settings, tmp_path, begin=not passphrase.begun(tmp_path))
    private_file(tmp_path / "passphrase", b"incorrect horse battery\n")
    with pytest.raises(NotReady, match="not the one"):
        open_vault(settings, tmp_path, begin=not passphrase.begun(tmp_path))


def test_a_new_passphrase_leaves_what_the_old_one_opens(tmp_path: Path) -> None:
    old = passphrase.open_passphrase(cheap(tmp_path), tmp_path, begin=True)
    upcoming = cheap(tmp_path, b"another horse, another staple\n", name="next")
    new = passphrase.open_passphrase(upcoming, tmp_path, begin=True)
    assert old.key_id() != new.key_id()
    assert passphrase.open_passphrase(cheap(tmp_path), tmp_path, begin=False).key_id() == old.key_id()
    assert passphrase.open_passphrase(upcoming, tmp_path, begin=False).key_id() == new.key_id()


@pytest.mark.parametrize("content", [b"", b"\n", b"eleven byte\n"])
def test_a_short_passphrase_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotReady, match="shorter than 12 bytes") as refused:
        passphrase.open_passphrase(cheap(tmp_path, content), tmp_path, begin=True)
    assert refused.value.reason == "passphrase.unusable"
    assert not (tmp_path / passphrase.KEPT).exists()


def test_a_passphrase_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = cheap(tmp_path)
    settings.passphrase_file.chmod(0o644)
    with pytest.raises(NotReady, match="open to other users"):
        passphrase.open_passphrase(settings, tmp_path, begin=True)


@pytest.mark.parametrize(
    "change",
    [{"memory_mib": 4097}, {"memory_mib": 0}, {"passes": 1000}, {"lanes": 0}, {"salt": "00"}, {"salt": "no hex"}],
    ids=lambda change: "-".join(f"{name}={value}" for name, value in change.items()),
)
def test_what_is_kept_beside_the_state_is_checked_before_it_costs_anything(
    tmp_path: Path, change: dict[str, object]
) -> None:
    passphrase.open_passphrase(cheap(tmp_path), tmp_path, begin=True)
    kept = json.loads((tmp_path / passphrase.KEPT).read_text())
    private_file(tmp_path / passphrase.KEPT, json.dumps([{**kept[0], **change}]).encode())
    with pytest.raises(NotReady, match="damaged") as refused:
        passphrase.open_passphrase(cheap(tmp_path), tmp_path, begin=False)
    assert refused.value.reason == "passphrase.unkept"


def test_a_passphrase_costs_what_rfc_9106_recommends_unless_settings_say_otherwise(tmp_path: Path) -> None:
    by_default = PassphraseSettings(passphrase_file=tmp_path / "passphrase")
    assert (by_default.memory_mib, by_default.passes, by_default.lanes) == (64, 3, 4)


def test_outside_an_enclave_there_is_no_sealing_key(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="only an enclave under SGX has one") as refused:
        gramine.open_sealing_key(GramineSettings(bound_to="mrsigner"), tmp_path / "keys")
    assert refused.value.reason == "sealing_key.unusable"


@pytest.mark.parametrize("content", [b"", b"s" * 15, b"s" * 17, b"\0" * 16], ids=["none", "short", "long", "zero"])
def test_a_sealing_key_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    keys = sealing_keys(tmp_path)
    (keys / "_sgx_mrsigner").write_bytes(content)
    with pytest.raises(NotReady, match="16 random bytes"):
        gramine.open_sealing_key(GramineSettings(bound_to="mrsigner"), keys)


def test_what_a_sealing_key_is_bound_to_makes_another_root_key(tmp_path: Path) -> None:
    keys = sealing_keys(tmp_path)
    (keys / "_sgx_mrenclave").write_bytes((keys / "_sgx_mrsigner").read_bytes())
    signer, enclave = (
        gramine.open_sealing_key(GramineSettings(bound_to=bound_to), keys) for bound_to in ("mrsigner", "mrenclave")
    )
    assert signer.key_id() != enclave.key_id()
