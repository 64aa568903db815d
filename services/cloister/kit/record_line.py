"""A line of a record: what happened, when, and as which number, in canonical JSON (RFC 8785, for what occurs here)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from cloister.kit.calls import request_id

MAX_LINE_BYTES: Final = 64 << 10

Field = str | int | float | bool | None | list[str] | dict[str, str | None]


def about(event: str, fields: Mapping[str, Field]) -> dict[str, Field]:
    """What a line tells, apart from number and time: it names the call that it came of, as the service's log does.

    Asked for in the task or thread of that call.

    Raises:
        ValueError: It is longer than facts are.
        TypeError: A value is not plain.
    """
    request = request_id()
    told = {**fields, "event": event, **({"request": request} if request else {})}
    if len(canonical(told)) > MAX_LINE_BYTES:
        raise ValueError("a record holds facts, not documents")
    return told


def line(told: Mapping[str, Field], *, sequence: int, now: datetime) -> bytes:
    """The line itself.

    Args:
        told: Made by `about`.
        sequence: Its number, from 1.
        now: Aware.
    """
    return canonical({**told, "sequence": sequence, "time": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")})


def canonical(fields: Mapping[str, Field]) -> bytes:
    """Sorted keys, no spaces, UTF-8."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def time_of(record: bytes) -> datetime:
    """When a line was written; aware."""
    return datetime.fromisoformat(json.loads(record)["time"])
