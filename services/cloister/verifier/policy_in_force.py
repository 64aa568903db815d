"""The appraisal policy in force: signed by enough of the right people, never older than one that was in force before.

At start it is the policy in the settings' file or the one that was applied last, whichever is newer; from then on
`put` replaces it. What was in force is kept on disk, in one file that is replaced whole, so neither an older policy nor
another one under the same version comes back. Where no signers are configured (development), any policy counts, and the
settings' file may say again what it likes.

`current` is for any thread; the rest blocks, and one caller at a time puts.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.appraisal.policy_document import PolicyDocument, check_signed
from cloister.errors import AlreadyExists, InvalidRequest, NotReady, Unavailable
from cloister.kit.log import get_logger
from cloister.rpc.files import read_private, read_public, replace_private

MEMORY: Final = "policy-in-force.json"

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Who decides about the policy: `threshold` of `keys` (Ed25519, in hex). Without keys nobody need sign."""

    keys: Collection[str] = ()
    threshold: int = 1

    def read(self, raw: bytes) -> PolicyDocument:
        """Read a policy that they have signed; raises InvalidRequest."""
        if self.keys:
            check_signed(raw, self.keys, self.threshold)
        document = PolicyDocument.read(raw)
        if self.keys:
            document.check_versioned()
        return document


class PolicyInForce:
    """What evidence is appraised under, now.

    Args:
        document: In force at start; None for the built-in default.
        anchor: What results are about: under Intel's root, a policy names code and people who sign.
        memory: File that remembers.
        seen: What that file holds: in force when it was last put so.
    """

    def __init__(
        self,
        document: PolicyDocument | None,
        *,
        signers: Signers,
        anchor: TrustAnchor,
        memory: Path,
        seen: PolicyDocument | None = None,
    ) -> None:
        self._held = document
        self._default = Policy.default()
        self._signers = signers
        self._anchor = anchor
        self._memory = memory
        self._seen = seen

    @classmethod
    def opened(cls, file: Path | None, *, signers: Signers, anchor: TrustAnchor, folder: Path) -> PolicyInForce:
        """The newest of the policy in `file` and the one applied last; only reads.

        Args:
            file: TOML or an envelope; None for the built-in default, where nobody must sign.
            signers: Who decides.
            anchor: What evidence leads back to.
            folder: Where what was in force is remembered.

        Raises:
            NotReady: There is no policy that may be in force; nothing stands in for it.
        """
        memory = folder / MEMORY
        # What an operator alone applied to a simulated mesh is not taken over by one whose results are worth something.
        seen = _remembered(memory) if signers.keys or anchor.simulated else None
        document = _newest(file, seen, signers)
        check_pinned(document.policy if document else Policy.default(), anchor)
        if signers.keys and seen is not None and document is not None:
            try:
                _check_not_older(document.policy, seen.policy)
            except (InvalidRequest, AlreadyExists) as error:
                raise NotReady(f"policy {file}: {error}", reason=error.reason) from error
        return cls(document, signers=signers, anchor=anchor, memory=memory, seen=seen)

    def current(self) -> Policy:
        """The policy; ask once for each appraisal, so that it is under exactly one."""
        held = self._held
        return self._default if held is None else held.policy

    @property
    def document(self) -> PolicyDocument | None:
        """The exact bytes of it, with their signatures; None for the built-in default."""
        return self._held

    def check(self, raw: bytes) -> PolicyDocument:
        """Check that a policy may take the place of the one in force.

        Raises:
            InvalidRequest: It does not load, is not signed by enough, has no version, or an older one
                (`policy.rolled_back`).
            AlreadyExists: It has the version of the one in force and says something else.
            NotReady: It names no code, or nobody is named who must sign, and the results would be worth something.
        """
        document = self._signers.read(raw)
        document.check_versioned()
        if not self._signers.keys and not self._anchor.simulated:
            raise NotReady(
                "nobody is named who must sign policies, so none is applied from afar: set policy_signers, or change "
                "the verifier's policy file and start it anew",
                reason="policy.unsigned",
            )
        check_pinned(document.policy, self._anchor)
        _check_not_older(document.policy, self.current())
        return document

    def signed_by(self, document: PolicyDocument) -> list[str]:
        """Those who have signed it and may decide."""
        return sorted(document.signers.intersection(self._signers.keys))

    def put(self, document: PolicyDocument) -> None:
        """Put a policy that was checked in force, once it is on disk.

        Raises:
            Unavailable: It cannot be kept; the old one stays.
        """
        self._remember(document)
        self._held = document

    def remember(self) -> None:
        """Keep what is in force at start, where people must sign, so that what is older stays refused.

        Raises:
            Unavailable: It cannot be kept.
        """
        if self._signers.keys and self._held is not None and (self._seen is None or self._seen.raw != self._held.raw):
            self._remember(self._held)

    def _remember(self, document: PolicyDocument) -> None:
        members = {
            "version": document.policy.version,
            "digest": document.policy.digest.hex(),
            "document": b64encode(document.raw).decode(),
        }
        try:
            replace_private(self._memory, json.dumps(members).encode())
        except OSError as error:
            raise Unavailable("the verifier's state cannot be written", reason="state.unavailable") from error


def check_pinned(policy: Policy, anchor: TrustAnchor) -> None:
    """Check that results which are worth something are about code that somebody named.

    A result under a simulated anchor is contraindicated whatever the code, and a release policy names that again.

    Raises:
        NotReady: Intel's anchor, and no reference values.
    """
    if not anchor.simulated and not policy.pins_code:
        raise NotReady(
            f"policy '{policy.policy_id}' has no reference_values, and an empty field is never match-all: name the "
            "measurement of the workers' build, as 'cloister init --mrenclave' does, in the file that policy names",
            reason="policy.unpinned",
        )


def _check_not_older(policy: Policy, seen: Policy) -> None:
    if policy.version < seen.version:
        raise InvalidRequest(
            f"the policy has version {policy.version}, and version {seen.version} was in force already; to go back, "
            "give the old content a new version and have it signed",
            reason="policy.rolled_back",
        )
    if policy.version == seen.version and policy.digest != seen.digest:
        raise AlreadyExists(
            f"another policy of version {seen.version} was in force already; give this one a higher version",
            reason="policy.version_taken",
        )


def _newest(file: Path | None, seen: PolicyDocument | None, signers: Signers) -> PolicyDocument | None:
    """The newest policy that may be in force; the file's where both are of one version. None: the built-in default.

    Who may sign can change, so one of the two may not count any more. What does not even load is an error all the same.
    """
    candidates = [("settings", _read(file))] if file is not None else []
    candidates += [("applied", seen.raw)] if seen is not None else []
    found, objection = [], None
    for source, raw in candidates:
        try:
            found.append(signers.read(raw))
        except InvalidRequest as error:
            if error.reason != "signature.insufficient":
                raise NotReady(
                    f"policy {file if source == 'settings' else MEMORY}: {error}", reason=error.reason
                ) from error
            _log.warning("policy.passed_over", source=source, error=error)
            objection = objection or error
    if not found and objection is not None:
        raise NotReady(f"policy {file}: {objection}", reason=objection.reason) from objection
    return max(found, key=lambda document: document.policy.version, default=None)


def _read(file: Path) -> bytes:
    try:
        return read_public(file)
    except NotReady as error:
        raise NotReady(f"policy {error}", reason="policy.malformed") from error


def _remembered(memory: Path) -> PolicyDocument | None:
    if not memory.exists():
        return None
    try:
        members = json.loads(read_private(memory))
        document = PolicyDocument.read(b64decode(members["document"], validate=True))
        if document.policy.version != members["version"]:
            raise ValueError("another version")
        return document
    except (NotReady, InvalidRequest, ValueError, TypeError, KeyError) as error:
        raise NotReady(
            f"{memory} cannot be read, so nothing says which policy was in force; remove it to begin again",
            reason="policy.memory_lost",
        ) from error
