"""The PCK certificate says what the recipe says, read by dcap-qvl and by its object identifiers."""

from __future__ import annotations

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloister_simulator.certificates import ORGANISATION, certificate, chain
from cloister_simulator.extension import SGX_EXTENSIONS, sgx_extensions
from cloister_simulator.platform import Platform
from fakes.sim import simulated_platform

SGX = SGX_EXTENSIONS.dotted_string


@pytest.fixture
def sim() -> Platform:
    return simulated_platform()


def test_dcap_qvl_reads_back_the_processor(sim: Platform) -> None:
    sim.fmspc, sim.pceid, sim.pcesvn, sim.sgx_type = b"\x90\x6e\xd5\0\0\xff", b"\1\2", 200, 2
    read = dcap_qvl.parse_pck_extension_from_pem(chain(sim, sim.keys, "pck"))
    assert (read.ppid, read.platform_instance_id) == (sim.ppid, sim.platform_instance_id)
    assert (read.fmspc, read.pce_id, read.pce_svn, read.sgx_type) == (sim.fmspc, b"\1\2", 200, 2)
    assert read.cpu_svn == bytes(sim.tcb_components)


@pytest.mark.parametrize("svn", [0, 1, 127, 128, 255, 256, 32767])
def test_integers_of_every_size_survive(sim: Platform, svn: int) -> None:
    sim.pcesvn = svn
    assert dcap_qvl.parse_pck_extension_from_pem(chain(sim, sim.keys, "pck")).pce_svn == svn


def test_the_configuration_flags_are_booleans_in_the_order_of_the_profile(sim: Platform) -> None:
    sim.dynamic_platform, sim.cached_keys, sim.smt_enabled = True, False, True
    read = dcap_qvl.parse_pck_extension_from_pem(chain(sim, sim.keys, "pck"))
    flags = [read.get_value(f"{SGX}.7.{index}") for index in (1, 2, 3)]
    assert flags == [b"\xff", b"\x00", b"\xff"]


def test_each_tcb_component_has_its_own_number(sim: Platform) -> None:
    sim.tcb_components = list(range(100, 116))
    read = dcap_qvl.parse_pck_extension_from_pem(chain(sim, sim.keys, "pck"))
    assert [read.get_value(f"{SGX}.2.{index}") for index in range(1, 17)] == [bytes([svn]) for svn in range(100, 116)]


def test_only_the_pck_carries_the_extension(sim: Platform) -> None:
    for role in ("root", "platform_ca", "tcb_signing"):
        assert SGX_EXTENSIONS not in {each.oid for each in certificate(sim, sim.keys, role).extensions}
    pck = certificate(sim, sim.keys, "pck")
    found = pck.extensions.get_extension_for_oid(SGX_EXTENSIONS)
    assert not found.critical
    assert isinstance(found.value, x509.UnrecognizedExtension)
    assert found.value.value == sgx_extensions(sim)


def test_names_give_the_role_and_deny_the_maker(sim: Platform) -> None:
    expected = {
        "root": "Intel SGX Root CA",
        "platform_ca": "Intel SGX PCK Platform CA",
        "tcb_signing": "Intel SGX TCB Signing",
        "pck": "Intel SGX PCK Certificate",
    }
    for role, common_name in expected.items():
        name = certificate(sim, sim.keys, role).subject  # type: ignore[arg-type]  # the keys are roles
        assert name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == common_name
        assert name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == ORGANISATION
    assert "not Intel" in ORGANISATION


def test_the_same_platform_has_the_same_certificates_every_time(sim: Platform) -> None:
    again = certificate(sim.copy(), sim.keys, "pck").public_bytes(Encoding.DER)
    assert certificate(sim, sim.keys, "pck").public_bytes(Encoding.DER) == again
