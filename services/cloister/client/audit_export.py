"""The record in a file, for an audit on a machine that reaches no mesh: what was shown of it, and all lines.

JSON, one object on each line: first the heads and keys, then every line with its exact text. Nothing in it is believed
because it is there; it is checked as if it had come over the wire.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.client.audit_memory import AuditMemory, Remembered
from cloister.client.log_audit import LogAudit, Shown, believed, concluded, sizes_of
from cloister.client.log_checks import LinePass
from cloister.client.operator import AuditLine, audit_line
from cloister.errors import InvalidRequest, LogBroken, NotFound, NotReady
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.merkle import leaf_hash

FORMAT: Final = "cloister audit export v1"
_MAX_LINE: Final = 1 << 20


class AuditExport:
    """What an audit was shown, to be written to a file, whatever came of the audit.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []

    def begin(self, shown: Shown) -> None:
        """Heads and keys come first."""
        head = {
            "format": FORMAT,
            "log_key": shown.log_key.hex(),
            "witness": shown.witness.vkey,
            "countersigned": shown.countersigned,
            "newest": shown.newest,
        }
        self._lines = [json.dumps(head)]

    def add(self, line: AuditLine) -> None:
        """One more line; raises LogBroken where it is no text."""
        try:
            text = line.record.decode()
        except UnicodeDecodeError:
            raise LogBroken(f"line {line.sequence} is no text", reason="line.altered") from None
        self._lines.append(json.dumps({"sequence": line.sequence, "record": text}))

    def write(self) -> None:
        """Write what there is, if anything was shown; raises NotReady where it cannot be."""
        if not self._lines:
            return
        try:
            self._path.write_text("\n".join((*self._lines, "")), encoding="utf-8")
        except OSError as error:
            raise NotReady(f"{self._path} cannot be written: {error.strerror}", reason="file.unwritable") from error


def verify_export(path: Path, memory: AuditMemory) -> LogAudit:
    """Audit an exported record.

    Args:
        path: Of the file.
        memory: What was found good before. A file can vouch for no keys: where nothing is remembered, nothing is then.

    Raises:
        NotFound: There is no such file.
        InvalidRequest: It is no exported record.
        LogBroken: It does not hold together, or is not what it was.
    """
    known = memory.read()
    try:
        with path.open(encoding="utf-8") as file:
            shown = _shown(_object(file.readline(_MAX_LINE)))
            keys, head, newest = believed(shown, known, may_be_older=True)
            lines = LinePass(sizes_of(head, newest, known))
            for line in _lines(file):
                lines.add(line)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as an exported record", reason="export.malformed") from error
    audit = concluded(lines, keys, head, newest, known)
    if known is not None and head.head.size >= known.head.size:
        memory.write(Remembered(keys, head.note))
    return audit


def _shown(found: dict[str, Any]) -> Shown:
    try:
        if found["format"] != FORMAT:
            raise ValueError("another format")
        log_key = bytes.fromhex(found["log_key"])
        heads = found["countersigned"], found["newest"]
        if not all(isinstance(head, str) for head in heads):
            raise TypeError("a head is no text")
        return Shown(WitnessKey.from_vkey(found["witness"]), heads[0], log_key, heads[1])
    except (ValueError, TypeError, KeyError, AttributeError, InvalidRequest) as error:
        raise _malformed() from error


def _lines(file: Iterator[str]) -> Iterator[AuditLine]:
    for text in file:
        found = _object(text)
        try:
            record = found["record"].encode()
            yield audit_line(AuditRecord(sequence=found["sequence"], record=record, leaf_hash=leaf_hash(record)))
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise _malformed() from error


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed() from error
    if not isinstance(found, dict):
        raise _malformed()
    return found


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "the file is no exported record: 'cloister audit verify --export FILE' writes one", reason="export.malformed"
    )
