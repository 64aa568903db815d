"""Evidence that the two verifiers do not agree about, kept to be looked into: a fault in one of them, or an attack.

Each is a file with an evidence bundle, as `cloister evidence verify` reads it: quote, claims and the collateral it was
judged by, which are what the worker would show to any client. No key, token or challenge id is in it; the nonce in the
claims has been used up. Evidence that a judging process does not survive, or comes to no end with, is kept as well. The
folder is bounded in files and bytes, the oldest makes room.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Final

from cloister.api.v1.evidence_pb2 import Evidence, EvidenceBundle
from cloister.kit.log import get_logger
from cloister.rpc.files import create_private
from cloister.verifier.judges import Case

MAX_FILES: Final = 64
MAX_BYTES: Final = 8 << 20
DISAGREEMENT: Final = "verifiers.disagree"
REASONS: Final = frozenset({DISAGREEMENT, "appraisal.lost", "appraisal.timed_out", "appraisal.failed"})
_SUFFIX: Final = ".bundle"

_log = get_logger()


class Disagreements:
    """The folder; made with mode 0700 when there is something to keep. Blocking."""

    def __init__(self, folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def keep(self, case: Case, reason: str) -> None:
        """Keep what was judged; where it cannot be kept, the log says so and the caller's rejection stands."""
        quote = case.evidence.raw_quote
        bundle = EvidenceBundle(
            evidence=Evidence(claims=case.evidence.claims_bytes, quote=quote), collateral=case.endorsements.raw
        )
        digest = hashlib.sha256(quote).hexdigest()[:16]
        path = self._folder / f"{case.now:%Y%m%dT%H%M%S%fZ}-{reason}-{digest}{_SUFFIX}"
        try:
            with self._lock:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                create_private(path, bundle.SerializeToString())
                self._make_room()
        except OSError as error:
            _log.error("evidence.not_kept", reason=reason, error=error)
        else:
            _log.warning("evidence.kept", reason=reason, path=str(path))

    def _make_room(self) -> None:
        newest_first = sorted(self._folder.glob(f"*{_SUFFIX}"), reverse=True)
        size_bytes = 0
        for number, path in enumerate(newest_first):
            size_bytes += path.stat().st_size
            if number >= self._max_files or size_bytes > self._max_bytes:
                path.unlink()
