"""What quotes a process makes is decided by what is there, and by nothing that anybody could set."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.errors import NotReady
from cloister.evidence.gramine import GramineQuoter
from cloister.evidence.platform_quoter import platform_quoter
from cloister.evidence.tsm import TsmQuoter


@pytest.fixture
def gramine(tmp_path: Path) -> Path:
    return tmp_path / "attestation"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "report"


def test_an_enclave_has_gramines_files(gramine: Path, reports: Path) -> None:
    gramine.mkdir()
    tee, quoter = platform_quoter(gramine, reports)
    assert (tee, type(quoter)) == ("sgx", GramineQuoter)


def test_a_trust_domain_has_the_kernels_folder(gramine: Path, reports: Path) -> None:
    reports.mkdir()
    tee, quoter = platform_quoter(gramine, reports)
    assert (tee, type(quoter)) == ("tdx", TsmQuoter)


@pytest.mark.attack("I12")
def test_a_folder_that_a_host_puts_beside_an_enclave_changes_nothing(gramine: Path, reports: Path) -> None:
    gramine.mkdir()
    reports.mkdir()
    assert platform_quoter(gramine, reports).tee == "sgx"


async def test_under_gramine_direct_it_is_gramine_that_says_why_there_are_none(gramine: Path, reports: Path) -> None:
    (gramine / "keys").mkdir(parents=True)
    with pytest.raises(NotReady, match="gramine-direct makes no quotes"):
        await platform_quoter(gramine, reports).quoter.quote(bytes(64))


def test_with_neither_the_reason_names_both(gramine: Path, reports: Path) -> None:
    with pytest.raises(NotReady, match=rf"{gramine}.*{reports}") as refused:
        platform_quoter(gramine, reports)
    assert refused.value.reason == "enclave.absent"
