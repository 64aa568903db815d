"""Measurements of enclaves, and what changed between two, in words for a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from cloister.cli.output import alarm, facts, say
from cloister.enclave.comparison import ChangedFile, ChangedValue, Comparison
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import FileDigest, Measurement

_OPEN: Final = {
    EnclaveSet.DEBUG: "This enclave is open to a debugger: whoever runs it can read all that is in it.",
    EnclaveSet.SIMULATED: "This enclave is simulated: it protects nothing, and is never signed.",
}
_SHOWN_DIGITS: Final = 16


def print_measurement(measured: Measurement, folder: object) -> None:
    """Say what an enclave is."""
    say(f"{folder} is a {measured.kind.name}, {measured.enclave_set}", "bold")
    size_bytes = sum(file.size_bytes for file in measured.files.values())
    facts(
        {
            "MRENCLAVE": measured.mrenclave,
            "MRSIGNER": measured.mrsigner or "none: nobody has signed it",
            "ISVPRODID": measured.isvprodid,
            "ISVSVN": measured.isvsvn,
            "debug": "yes" if measured.debug else "no",
            "measured by": f"Gramine {measured.gramine}",
            "holds": f"{len(measured.files)} files, {size_bytes / 2**20:.1f} MiB",
        },
        indent="  ",
    )
    if measured.enclave_set in _OPEN:
        alarm(_OPEN[measured.enclave_set])


def print_comparison(found: Comparison) -> None:
    """Say what changed, from what matters to whoever judges down to single files."""
    if found.same:
        say("nothing changed: the same enclave, of the same files", "bold")
        return
    _print_values("identity", found.identity)
    _print_values("manifest", found.options)
    for part, files in found.by_part().items():
        _print_files(part, files)


def _print_files(part: str, files: Sequence[ChangedFile]) -> None:
    say(f"{part}: {_counted(files)}", "bold")
    for file in files:
        sides = " -> ".join(_file(side) for side in (file.before, file.after) if side is not None)
        say(f"  {file.happened.value:<9}{file.path}  {sides}")


def _print_values(head: str, values: Sequence[ChangedValue]) -> None:
    if values:
        say(head, "bold")
        facts({each.key: f"{_value(each.before)} -> {_value(each.after)}" for each in values}, indent="  ")


def _counted(files: Sequence[ChangedFile]) -> str:
    kinds = [file.happened.value for file in files]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


def _file(file: FileDigest) -> str:
    return f"{file.sha256[:_SHOWN_DIGITS]} ({file.size_bytes} bytes)"


def _value(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
