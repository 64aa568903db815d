"""Tickets of what was enqueued as jobs, in a folder: another process, or this one later, has the answers by their uris.

One file for each uri, which only its user may read: a ticket opens the answer, and holds the request. Where the mesh's
jobs were in Redis for everybody to find, what finds them here is this folder, `~/.local/state/cloister/zoo` unless
`CLOISTER_ZOO_TICKETS` names another.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.client import JobTicket
from cloister.compat.zoo.fitting import Instance
from cloister.contract import ModelContract, TensorSpec
from cloister.errors import AlreadyExists, InvalidRequest
from cloister.rpc.files import create_private

ENVIRONMENT: Final = "CLOISTER_ZOO_TICKETS"
OLD_S: Final = 7 * 86_400.0
"""After so long there is no answer any more, whatever the gateway's settings, and a ticket is swept away."""
_ENDING: Final = ".ticket"


@dataclass(frozen=True, slots=True)
class Enqueued:
    """One request that was enqueued as a job.

    Attributes:
        uri: What it is called.
        ticket: Opens its answer.
        outputs: The model's, as it stated them then.
        unbatched: Whether it came without a batch axis.
    """

    uri: str
    ticket: JobTicket
    outputs: tuple[TensorSpec, ...]
    unbatched: bool

    @property
    def contract(self) -> ModelContract:
        """As far as a result needs it."""
        return ModelContract((), self.outputs)

    @property
    def instance(self) -> Instance:
        """Likewise."""
        return Instance({}, self.unbatched)


class Tickets:
    """The tickets of one model at one gateway.

    Args:
        address: Of the gateway.
        model: Name.
        root: Of all such folders; by default the environment's, or the user's.
    """

    def __init__(self, address: str, model: str, root: Path | None = None) -> None:
        self.folder = (root or _root()) / hashlib.sha256(f"{address}\n{model}".encode()).hexdigest()[:32]

    def add(self, enqueued: Enqueued) -> None:
        """Keep one, before it is sent.

        Raises:
            AlreadyExists: There is one of this uri (`uri.taken`).
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        outputs = [(spec.name, spec.datatype, spec.shape) for spec in enqueued.outputs]
        head = json.dumps({"uri": enqueued.uri, "unbatched": enqueued.unbatched, "outputs": outputs})
        if self.find(enqueued.uri) is None:
            self.remove(enqueued.uri)  # a part of one, by a process that was killed when it wrote
        try:
            create_private(self._path(enqueued.uri), head.encode() + b"\n" + enqueued.ticket.to_bytes())
        except FileExistsError as error:
            raise AlreadyExists(
                f"'{enqueued.uri[:64]}' is under way or its result is still held; query_and_delete it first",
                reason="uri.taken",
            ) from error

    def find(self, uri: str) -> Enqueued | None:
        """The one of this uri, or None."""
        return _read(self._path(uri))

    def remove(self, uri: str) -> None:
        """Forget one; nothing if there is none."""
        self._path(uri).unlink(missing_ok=True)

    def all(self) -> Iterator[Enqueued]:
        """Every one, oldest first."""
        for path in sorted(self.folder.glob(f"*{_ENDING}"), key=_written_s):
            found = _read(path)
            if found is not None:
                yield found

    def sweep(self) -> None:
        """Remove those that are too old for an answer."""
        oldest_s = time.time() - OLD_S
        for path in self.folder.glob(f"*{_ENDING}"):
            if _written_s(path) < oldest_s:
                path.unlink(missing_ok=True)

    def _path(self, uri: str) -> Path:
        return self.folder / f"{hashlib.sha256(uri.encode()).hexdigest()}{_ENDING}"


def _root() -> Path:
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "cloister" / "zoo"


def _read(path: Path) -> Enqueued | None:
    """What is in a file; None where there is none, or only a part of one, by a process that was killed meanwhile."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError, InvalidRequest):
        head, _, ticket = path.read_bytes().partition(b"\n")
        told = json.loads(head)
        outputs = tuple(
            TensorSpec(name, datatype, None if shape is None else tuple(shape))
            for name, datatype, shape in told["outputs"]
        )
        return Enqueued(str(told["uri"]), JobTicket.from_bytes(ticket), outputs, bool(told["unbatched"]))
    return None


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
