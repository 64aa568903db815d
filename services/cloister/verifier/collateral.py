"""The collateral in force: a JSON file that is read again when it changes, and never goes back.

New content counts only if it parses, leads back to the trust anchor, and no part of it is older than what was in force
before: evaluation numbers, issue dates, and the dates of revocation lists, which are remembered on disk past a restart.
Otherwise the collateral in force stays, and the log says why. When that has expired, no evidence is appraised: the
fault is ours, so members hear that we are not ready and stay until their results end. Blocking and thread safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import MAX_COLLATERAL_BYTES, Collateral, VerifiedCollateral
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest, NotReady, Unavailable
from cloister.kit.log import get_logger

# Intel's collateral lives 30 days: warn while there is time to fetch another.
WARN_BEFORE = timedelta(days=10)

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Endorsements:
    """Verified collateral, and the exact bytes that clients get in order to judge for themselves."""

    verified: VerifiedCollateral
    raw: bytes = field(repr=False)


class CollateralFile:
    """The collateral in a file.

    Args:
        path: JSON with the QuoteCollateralV3 names.
        anchor: What it must lead back to.
        memory: File that remembers how new the newest collateral was.

    Raises:
        NotReady: There is no such file, or it is not collateral.
    """

    def __init__(self, path: Path, anchor: TrustAnchor, *, memory: Path) -> None:
        self._path = path
        self._anchor = anchor
        self._memory = memory
        self._lock = threading.Lock()
        self._newest = _remembered(memory)
        self._held: Endorsements | None = None
        try:
            self._stamp = _stamp(path)
            self._raw = _read(path)
            self._parsed = Collateral.parse(self._raw)
        except (OSError, InvalidRequest) as error:
            raise NotReady(f"collateral {path} is not usable: {error}", reason="collateral.unusable") from error

    def current(self, now: datetime) -> Endorsements:
        """The collateral in force at `now`.

        Raises:
            NotReady: It has expired, or never led back to the anchor, or is older than what was seen.
            Unavailable: What was seen cannot be remembered.
        """
        with self._lock:
            self._reload(now)
            try:
                if self._held is None:
                    self._held = self._adopted(self._parsed, self._raw, now)
                self._held.verified.verified(self._anchor, now)
            except EvidenceRejected as error:
                raise NotReady("the verifier has no collateral to appraise with", reason=error.reason) from error
            return self._held

    def report(self, now: datetime) -> datetime | None:
        """Say in the log when the collateral cannot be used, or soon cannot; returns when it ends, if it is usable."""
        try:
            until = self.current(now).verified.valid_until
        except NotReady as error:
            _log.error("collateral.unusable", reason=error.reason, consequence="every new appraisal is refused")
            return None
        if until - now < WARN_BEFORE:
            _log.warning("collateral.expiring", valid_until=until)
        return until

    def _reload(self, now: datetime) -> None:
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            raw = _read(self._path)
            self._held = self._adopted(Collateral.parse(raw), raw, now)
            _log.info("collateral.reloaded", valid_until=self._held.verified.valid_until)
        except (OSError, CloisterError) as error:
            _log.error("collateral.refused", path=str(self._path), error=error, kept=self._held is not None)

    def _adopted(self, collateral: Collateral, raw: bytes, now: datetime) -> Endorsements:
        verified = collateral.verified(self._anchor, now)
        age = _age(verified)
        older = sorted(part for part, seen in self._newest.items() if part in age and age[part] < seen)
        if older:
            raise EvidenceRejected(
                f"the collateral is older than what was seen before: {', '.join(older)}",
                step=2,
                reason="collateral.rolled_back",
            )
        self._newest = {**self._newest, **age}
        _remember(self._memory, self._newest)
        return Endorsements(verified, raw)


def _age(verified: VerifiedCollateral) -> dict[str, list[int]]:
    """How new each part is, under a name that says what it is about: what must not decrease."""
    root = hashlib.sha256(verified.anchor.root_der).hexdigest()[:16]
    tcb, identity = verified.tcb_info, verified.qe_identity
    lists = {f"{root} crl {crl.issuer.rfc4514_string()}": crl for crl in (verified.root_crl, verified.pck_crl)}
    return {
        f"{root} tcb_info {tcb.tee} {tcb.fmspc.hex()}": [tcb.evaluation, _seconds(tcb.issue_date)],
        f"{root} qe_identity {identity.tee}": [identity.evaluation, _seconds(identity.issue_date)],
        **{name: [_seconds(crl.this_update)] for name, crl in lists.items()},
    }


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())


def _stamp(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_COLLATERAL_BYTES + 1)


def _remembered(memory: Path) -> dict[str, list[int]]:
    try:
        return {str(part): [int(number) for number in seen] for part, seen in json.loads(memory.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise NotReady(
            f"{memory} cannot be read, so nothing says how new collateral must be; remove it to begin again",
            reason="collateral.memory_lost",
        ) from error


def _remember(memory: Path, newest: Mapping[str, list[int]]) -> None:
    staged = memory.with_suffix(".new")
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump(newest, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(memory)
    except OSError as error:
        raise Unavailable("the verifier's state cannot be written", reason="state.unavailable") from error
