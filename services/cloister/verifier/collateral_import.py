"""A file of collateral put where a verifier reads it, if that verifier, by its settings and memory, would take it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cloister.appraisal import collateral_bundle, freshness
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral_bundle import MAX_FILE_BYTES
from cloister.errors import InvalidRequest, NotReady
from cloister.rpc.files import read_public, replace_public
from cloister.verifier.collateral import BUNDLE
from cloister.verifier.collateral_adoption import adopt, rolled_back
from cloister.verifier.collateral_memory import FILE_NAME, FileMemory
from cloister.verifier.settings import Settings


def import_collateral(raw: bytes, settings: Settings, anchor: TrustAnchor, now: datetime) -> list[str]:
    """Check a file by the verifier's own rules, and put it in the place of what is there.

    Args:
        raw: A bundle, or where the settings name no signers, QuoteCollateralV3 JSON.
        settings: The verifier's.
        anchor: What they say that all must lead back to.
        now: Aware.

    Returns:
        The platform families in it, in words.

    Raises:
        InvalidRequest: It is not collateral, or not signed as it must be.
        EvidenceRejected: Some of it is not genuine, or is older than what the verifier has seen.
        NotReady: The settings name no file to put it in, or the verifier's memory cannot be read.
        OSError: The file cannot be written.
    """
    if settings.collateral is None:
        raise NotReady("the verifier's settings name no collateral file", reason="collateral.no_file")
    found = collateral_bundle.read(raw, settings.collateral_signers, settings.collateral_threshold)
    remembered = FileMemory(settings.state_dir / FILE_NAME).newest()
    seen = freshness.newest(remembered, _in_force(settings.collateral, anchor, now))
    version = {BUNDLE: [found.bundle.version]} if found.bundle else {}
    if older := freshness.older(version, seen):
        raise rolled_back(older)
    adoption = adopt(found.collaterals, {}, seen, anchor, now)
    for error in (*adoption.unreadable, *adoption.objections.values()):
        raise error
    replace_public(settings.collateral, raw)
    return [str(family) for family in sorted(adoption.adopted)]


def _in_force(path: Path, anchor: TrustAnchor, now: datetime) -> dict[str, list[int]]:
    """How new what lies there is, as far as it is genuine: a verifier that has not started yet remembers nothing."""
    try:
        found = collateral_bundle.read(read_public(path, most_bytes=MAX_FILE_BYTES))
    except (NotReady, InvalidRequest):
        return {}
    version = {BUNDLE: [found.bundle.version]} if found.bundle else {}
    return adopt(found.collaterals, {}, {}, anchor, now).ages | version
