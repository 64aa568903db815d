"""What an Attestation Result says, for an operator to look at. Nothing is verified here, and nothing decided by it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

from cloister.ear import MAX_TOKEN_BYTES


def displayed(attestation_result: str) -> tuple[str, str]:
    """Return MRENCLAVE and TCB status as the token says; empty strings where it says nothing readable."""
    if len(attestation_result) > MAX_TOKEN_BYTES:
        return "", ""
    parts = attestation_result.split(".")
    try:
        payload: Any = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        claims = payload["cloister"]
        mrenclave, tcb_status = claims["mrenclave"], claims["tcb_status"]
    except (IndexError, ValueError, KeyError, TypeError, RecursionError):
        return "", ""
    return (str(mrenclave)[:64], str(tcb_status)[:64]) if isinstance(mrenclave, str) else ("", "")
