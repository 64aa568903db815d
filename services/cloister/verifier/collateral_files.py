"""Files that collateral lies in: the operator's, read again when it changes, and what was fetched, for a restart."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

from cloister.appraisal import collateral_bundle
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.collateral_bundle import MAX_FAMILIES, MAX_FILE_BYTES, CollateralBundle, CollateralFile
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.log import get_logger
from cloister.kit.watched_file import WatchedFile
from cloister.rpc.files import read_public, replace_private

_log = get_logger()


class CollateralInFile:
    """A file that an operator changes whenever they like. Blocking.

    Args:
        path: A signed bundle, or where there are no signers, also QuoteCollateralV3 JSON.
        signers: Public keys in hex, enough of which must have signed the bundle.
        threshold: How many are enough.

    Raises:
        NotReady: There is no such file, it is not collateral, or it is not signed as it must be.
    """

    def __init__(self, path: Path, *, signers: frozenset[str] = frozenset(), threshold: int = 1) -> None:
        self.path = path
        self._signers = signers
        self._threshold = threshold
        self._file = WatchedFile(partial(read_public, path, most_bytes=MAX_FILE_BYTES))
        self._unreadable = False
        try:
            for raw in collateral_bundle.read(self._file.changed() or b"", signers, threshold).collaterals:
                Collateral.parse(raw)
        except (NotReady, InvalidRequest) as error:
            advice = "'cloister collateral fetch' and 'import' put it there"
            raise NotReady(
                f"collateral {path} is not usable: {error}; {advice}", reason="collateral.unusable"
            ) from error
        self._file.unread()

    def changed(self) -> CollateralFile | None:
        """What the file holds now, the first time and whenever it is another; None while it is the same.

        Raises:
            NotReady: It is gone, or cannot be read; told once.
            InvalidRequest: It is not collateral that may be used; told once.
        """
        try:
            raw = self._file.changed()
        except NotReady:
            if self._unreadable:
                return None
            self._unreadable = True
            raise
        self._unreadable = False
        return None if raw is None else collateral_bundle.read(raw, self._signers, self._threshold)

    def unread(self) -> None:
        """What was last read could not be used for a reason of ours: take it for new once more."""
        self._file.unread()


class FetchedFile:
    """What a source was asked for, so that a restart does not have to ask again. Blocking.

    Its content is believed as that of any other file: not before it leads back to the anchor, and never if it is older.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[bytes, ...]:
        """What was kept; nothing where there is none, or where it is spoilt, which the log says."""
        try:
            if not self._path.exists():
                return ()
            return CollateralBundle.parse(read_public(self._path, most_bytes=MAX_FILE_BYTES)).collaterals
        except (OSError, NotReady, InvalidRequest) as error:
            _log.error("collateral.spoilt", error=error, consequence="collateral is fetched anew")
            return ()

    def write(self, collaterals: list[bytes], now: datetime) -> None:
        """Keep this, in place of what was kept; a failure is in the log and costs a restart its memory."""
        if not collaterals:
            return
        kept = CollateralBundle(version=0, issued_at=now, collaterals=tuple(collaterals[:MAX_FAMILIES]))
        try:
            replace_private(self._path, kept.payload())
        except OSError as error:
            _log.error("collateral.not_kept", error=error, consequence="a restart has to fetch it again")
