"""Which quotes this platform makes: decided once, when a process starts, by what is there.

No setting and no variable chooses, so nobody can talk a worker out of the technology that it runs in. A wrong choice
could not make anybody believed, since a quote is genuine or it is not; it would only keep a worker out of the mesh.

Gramine comes first: in its enclaves `/dev/attestation` is Gramine's own, and `/sys` is emulated, so that no host can
put a folder of the kernel's there; in a trust domain there is no such thing but what the measured guest made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from cloister.errors import NotReady
from cloister.evidence.gramine import NO_ENCLAVE, GramineQuoter
from cloister.evidence.quoter import Quoter
from cloister.evidence.tsm import REPORTS, TsmQuoter

GRAMINE: Final = Path("/dev/attestation")


class Chosen(NamedTuple):
    """The quoter of this platform, and whose quotes it makes: `sgx` or `tdx`."""

    tee: str
    quoter: Quoter


def platform_quoter(
    gramine: Path = GRAMINE, reports: Path = REPORTS, *, hung: Callable[[NotReady], object] | None = None
) -> Chosen:
    """Choose; the folders are arguments for tests alone.

    Args:
        gramine: Where Gramine has its files.
        reports: Where the kernel has its own.
        hung: As `GramineQuoter` has it. A kernel that waits for a quote holds nothing else.

    Raises:
        NotReady: Neither is there (`enclave.absent`).
    """
    if gramine.is_dir():
        return Chosen("sgx", GramineQuoter(gramine, hung=hung))
    if reports.is_dir():
        return Chosen("tdx", TsmQuoter(reports))
    raise NotReady(
        f"this process runs neither in an SGX enclave under Gramine (there is no {gramine}) nor in a TDX trust domain "
        f"with Linux 6.7 or newer (there is no {reports}): nobody could believe it",
        reason=NO_ENCLAVE,
    )
