"""A folder of quotes, judged one by one: to compare this verifier with others, and with what is known of the quotes.

`manifest.json` holds `entries`, each with `id`, the names of its `quote`, `collateral` and `root` files, and
`evaluations`, each with a `label`, the time `now` in seconds since 1970, and where it is to be judged under another
root, `root_override`. All else in it, expectations first, is passed over. Whatever is wrong with an entry is its
finding, and the next one is judged all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cloister.appraisal.collateral import MAX_COLLATERAL_BYTES
from cloister.appraisal.policy import Policy
from cloister.appraisal.quote import MAX_QUOTE_BYTES
from cloister.client.bundle import anchor_of
from cloister.client.judging import Judgement, judge, step_of
from cloister.errors import CloisterError, InternalError, InvalidRequest, NotFound, NotReady

MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 64 << 20
MAX_ROOT_BYTES: Final = 8 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEntry:
    """One evaluation of one entry, with the names and in the order in which it is printed.

    Attributes:
        tcb_status: None, as `advisory_ids`, where the quote is not genuine.
        step: Number of the check that objected, as `reason`; None where none did, 0 where it never came to an
            appraisal because a file is broken.
        reason: Stable; `internal` where the verifier itself broke, which is a defect of ours.
    """

    id: str | None
    label: str | None
    crypto: Literal["verified", "reject"]
    tcb_status: str | None
    advisory_ids: tuple[str, ...] | None
    default_policy: Literal["accept", "reject"]
    step: int | None
    reason: str | None

    @property
    def defect(self) -> bool:
        """Whether the verifier itself broke."""
        return self.reason == InternalError.default_reason


def judge_corpus(folder: Path) -> Iterator[JudgedEntry]:
    """Judge every evaluation of every entry, in the manifest's order, under the root it names and the default policy.

    Raises:
        NotFound: There is no manifest.
        InvalidRequest: It is not one.
    """
    entries = _entries(folder)
    return (judged for entry in entries for judged in _judge_entry(folder, entry))


def _entries(folder: Path) -> list[object]:
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
        manifest = json.loads(raw)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no {path}; name the folder that holds it") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is not JSON, or longer than 64 MiB", reason="manifest.malformed") from error
    entries = manifest.get("entries") if isinstance(manifest, dict) else None
    if not isinstance(entries, list):
        raise InvalidRequest(f"{path} has no list of entries", reason="manifest.malformed")
    return entries


def _judge_entry(folder: Path, entry: object) -> Iterator[JudgedEntry]:
    members: Mapping[str, object] = entry if isinstance(entry, dict) else {}
    evaluations = members.get("evaluations")
    # Without evaluations there is still one line to say so.
    for one in evaluations if isinstance(evaluations, list) else [None]:
        evaluation: Mapping[str, object] = one if isinstance(one, dict) else {}
        names = _string(members.get("id")), _string(evaluation.get("label"))
        try:
            yield _line(*names, _judge(folder, members, evaluation))
        except CloisterError as error:
            yield _refused(*names, error)
        except Exception as error:  # a defect of ours with one entry must not hide what is found of the others
            yield _refused(*names, InternalError(type(error).__name__))


def _judge(folder: Path, entry: Mapping[str, object], evaluation: Mapping[str, object]) -> Judgement:
    now = _time(evaluation)
    root = evaluation.get("root_override") or entry.get("root")
    anchor = anchor_of(_read(folder, root, "root", MAX_ROOT_BYTES))
    quote = _read(folder, entry.get("quote"), "quote", MAX_QUOTE_BYTES)
    collateral = _read(folder, entry.get("collateral"), "collateral", MAX_COLLATERAL_BYTES)
    return judge(quote, collateral, anchor, Policy.default(), now)


def _time(evaluation: Mapping[str, object]) -> datetime:
    now = evaluation.get("now")
    try:
        if isinstance(now, int) and not isinstance(now, bool):
            return datetime.fromtimestamp(now, UTC)
    except (ValueError, OverflowError, OSError):
        pass  # a number, but of no time
    raise InvalidRequest("an evaluation has no time 'now'", reason="manifest.malformed")


def _read(folder: Path, name: object, what: str, most: int) -> bytes:
    """What is in a file, as far as its reader looks: one byte too many says as much as all of them."""
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"an entry names no {what} file", reason="manifest.malformed")
    path = folder / name
    try:
        if path.is_file():  # opening a pipe would wait for somebody to write into it
            with path.open("rb") as file:
                return file.read(most + 1)
    except (OSError, ValueError):
        pass  # a name that no file can have, or a file that is not ours to read
    raise NotReady(f"there is no {what} file of that name that can be read", reason="file.unreadable")


def _line(entry_id: str | None, label: str | None, found: Judgement) -> JudgedEntry:
    verified = found.verified
    return JudgedEntry(
        id=entry_id,
        label=label,
        crypto="verified" if verified else "reject",
        tcb_status=verified.tcb.status.value if verified else None,
        advisory_ids=verified.tcb.advisory_ids if verified else None,
        default_policy="accept" if found.believed else "reject",
        step=found.step,
        reason=found.refusal.reason if found.refusal else None,
    )


def _refused(entry_id: str | None, label: str | None, error: CloisterError) -> JudgedEntry:
    return JudgedEntry(
        id=entry_id,
        label=label,
        crypto="reject",
        tcb_status=None,
        advisory_ids=None,
        default_policy="reject",
        step=step_of(error),
        reason=error.reason,
    )


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
