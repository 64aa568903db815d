"""Reference values for appraisal policies, of enclaves that were built and measured: TOML as a policy takes it.

One text is about one kind and one set of enclaves. Workers and verifiers are judged by different policies, a simulated
enclave by none that a genuine one is judged by, and a debug enclave by none at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import Measurement
from cloister.errors import InvalidRequest, NotReady

SIMULATED: Final = "a simulated enclave protects nothing"


def reference_values(measured: Sequence[Measurement], *, by_signer: bool = False) -> str:
    """The rows that name these enclaves.

    Args:
        measured: Builds that are to be believed, one or more, all of one kind and set.
        by_signer: Name the signer and the product in place of MRENCLAVE, with the ISVSVN of the build as the least.

    Raises:
        InvalidRequest: Reason `enclave.not_believable` for a debug set, `reference_values.mixed` for several kinds or
            sets.
        NotReady: Reason `sigstruct.unsigned`: `by_signer`, and nobody has signed.
    """
    if any(each.enclave_set is EnclaveSet.DEBUG or each.debug for each in measured):
        raise InvalidRequest(
            "a debug enclave is open to whoever runs it, and no policy believes it: build the hardened set",
            reason="enclave.not_believable",
        )
    if len({(each.kind.name, each.enclave_set) for each in measured}) != 1:
        raise InvalidRequest(
            "reference values are for enclaves of one kind and one set; write each to a file of its own",
            reason="reference_values.mixed",
        )
    rows = ((each, _by_signer(each) if by_signer else {"mrenclave": each.mrenclave}) for each in measured)
    return "\n".join(f"[[reference_values]]\n{_note(each)}{_lines(row)}" for each, row in rows)


def _by_signer(measured: Measurement) -> Mapping[str, object]:
    if measured.mrsigner is None:
        raise NotReady(
            f"nobody has signed this {measured.kind.name}, so no signer can be named: 'cloister enclave sign'",
            reason="sigstruct.unsigned",
        )
    return {"mrsigner": measured.mrsigner, "isvprodid": measured.isvprodid, "minimum_isvsvn": measured.isvsvn}


def _note(measured: Measurement) -> str:
    warning = f": {SIMULATED}" if measured.enclave_set is EnclaveSet.SIMULATED else ""
    return f"# {measured.kind.name}, {measured.enclave_set}{warning}\n"


def _lines(row: Mapping[str, object]) -> str:
    # JSON's strings and numbers are also TOML's.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in row.items())
