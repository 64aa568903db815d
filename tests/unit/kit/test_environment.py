"""What an enclave lets its host say, and how a process knows that it is in one. Whole processes: tests/wire/kit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest
from cloister.kit.environment import (
    FIXED,
    LABEL,
    SETTINGS_FILE,
    check_environment,
    check_interpreter,
    check_settings_file,
    inside_enclave,
)

PREFIX = "CLOISTER_WORKER_"


def test_gramines_own_folder_or_the_label_says_that_this_is_an_enclave(tmp_path: Path) -> None:
    assert not inside_enclave({}, tmp_path / "attestation")
    assert inside_enclave({LABEL: ""}, tmp_path / "attestation")
    assert inside_enclave({}, tmp_path)


def test_what_the_manifest_fixes_and_the_services_own_may_be_there() -> None:
    check_environment({**dict.fromkeys(FIXED, "x"), "CLOISTER_WORKER_LISTEN": "x"}, prefix=PREFIX)


@pytest.mark.attack("I02")
@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONHOME", "CLOISTER_GATEWAY_LISTEN", "home", " HOME", "", "é"])
def test_any_other_is_named_and_its_value_is_not(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_environment({"HOME": "/", name: "s3cret"}, prefix=PREFIX)
    assert ascii(name) in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert refused.value.reason == "settings.invalid"


@pytest.mark.attack("I02")
def test_a_name_is_cut() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_environment({"X" * 100_000: ""}, prefix=PREFIX)
    assert len(str(refused.value)) < 200


def test_only_the_measured_settings_will_do() -> None:
    check_settings_file(SETTINGS_FILE)
    for other in (None, Path("settings.toml"), Path("/cloister/mesh/../host/settings.toml")):
        with pytest.raises(InvalidRequest, match="nothing else"):
            check_settings_file(other)


@pytest.mark.attack("I05")
def test_nothing_traces_or_profiles_an_enclave(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="-I"):
        check_interpreter()
    monkeypatch.setattr(sys, "flags", type("Flags", (), {"isolated": 1}))
    for name in ("gettrace", "getprofile"):
        monkeypatch.setattr(sys, "gettrace", lambda: None)
        monkeypatch.setattr(sys, "getprofile", lambda: None)
        check_interpreter()
        monkeypatch.setattr(sys, name, lambda: print)
        with pytest.raises(InvalidRequest, match="traces or profiles"):
            check_interpreter()
