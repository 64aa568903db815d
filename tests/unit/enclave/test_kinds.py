"""The lists of the kinds, against the services' own settings."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

import pytest

from cloister.enclave.kinds import KINDS, EnclaveSet, Kind, Place, kind_named
from cloister.errors import InvalidRequest
from cloister.kit import config

GUIDE: Final = Path(__file__).resolve().parents[3] / "docs/guides/enclave-manifests.md"
UNUSED: Final = {"otlp_ca", "otlp_certificate", "otlp_private_key"}  # an enclave sends no spans
SERVICES = [kind for kind in KINDS.values() if kind.module]


def settings_class(kind: Kind) -> type:
    found: type = importlib.import_module(f"{kind.module}.settings").Settings
    return found


@pytest.mark.parametrize("kind", SERVICES, ids=lambda kind: kind.name)
def test_every_setting_that_names_a_file_is_in_one_list_and_no_list_names_another(kind: Kind) -> None:
    listed = [*kind.measured, *kind.host, *kind.sealed, *kind.state]
    elsewhere = tuple(f"{table}." for table in (*kind.left_out, *kind.outside))
    named = [name for name in config.path_names(settings_class(kind)) if not name.startswith(elsewhere)]
    assert sorted(listed) == sorted(named)
    assert set(kind.signed) <= set(kind.host)
    assert set(kind.with_folder) <= set(kind.host)


@pytest.mark.parametrize("kind", SERVICES, ids=lambda kind: kind.name)
def test_the_host_chooses_what_the_service_lets_it_choose(kind: Kind) -> None:
    prefix = f"CLOISTER_{kind.name.upper()}_"
    variables = {f"{prefix}{name}".upper() for name in config.host_chosen_names(settings_class(kind))}
    assert set(kind.host_chosen) == variables


def test_every_private_key_of_a_service_that_keeps_one_is_sealed() -> None:
    keys = (
        "tls.private_key",
        "ca_private_key",
        "signing_key",
        "signing_keys",
        "redis.shared_key",
        "vault.file.key_file",
    )
    for kind in SERVICES:
        for name in keys:
            left_out = name.partition(".")[0] in kind.left_out
            if name in config.path_names(settings_class(kind)) and kind.name != "worker" and not left_out:
                assert kind.place_of(name, key_signers=True) is Place.SEALED, (kind.name, name)


def test_a_file_that_no_list_names_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match="cache_dir names a file") as refused:
        kind_named("worker").place_of("cache_dir", key_signers=True)
    assert refused.value.reason == "setting.unplaced"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_guide_says_of_every_file_where_it_lies(kind: Kind) -> None:
    row = next(line for line in GUIDE.read_text().splitlines() if line.startswith(f"| {kind.name} "))
    cells = [set(re.findall(r"`([^`]+)`", cell)) for cell in row.split("|")[2:6]]
    for names, cell in zip((kind.measured, kind.host, kind.sealed, kind.state), cells, strict=True):
        assert set(names) - UNUSED <= cell, kind.name


def test_a_product_id_says_kind_and_set_of_those_that_sgx_runs() -> None:
    pairs = [(kind.product_in(each), kind.name, each) for kind in KINDS.values() for each in EnclaveSet]
    hardened = {product for product, _, each in pairs if each is EnclaveSet.HARDENED}
    others = {product for product, _, each in pairs if each is not EnclaveSet.HARDENED}
    assert len(hardened) == len(KINDS)
    assert not hardened & others
