"""From inputs to sealed jobs: to which key, of which model, and what the gateway is told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from cloister.api.v1 import jobs_pb2 as pb
from cloister.client.exchange import target
from cloister.client.job_epochs import choose_epoch
from cloister.client.job_records import PreparedJob, priority_of
from cloister.client.question import Inputs, Question
from cloister.client.roster import Roster
from cloister.errors import EvidenceRejected, InvalidRequest, NotReady, Unavailable
from cloister.oip.tensors import Parameter
from cloister.seal import envelope
from cloister.seal.job import MAX_KNOWN, JobKey, JobSealer
from cloister.seal.session_keys import milliseconds

LIFE_S: Final = 82_800.0
"""Of a job that says none: a gateway keeps one for a day unless it is set otherwise, and clocks differ."""
_TURN: Final = 32
"""Jobs that are sealed before others get their turn on the event loop."""


class JobOptions(TypedDict, total=False):
    """Options of jobs.

    Attributes:
        version: The only version that may answer, or a label of the operator's; empty for what the operator's default
            is when the job is answered.
        outputs: Names of the outputs that are wanted; none asks for all.
        parameters: Of the request.
        datatypes: Datatype by input name, where the array's dtype does not say it.
        digest: The only model that may answer, 32 bytes.
        priority: `high`, `normal` or `low`.
        order_key: Jobs of one model with the same one are answered one after the other; empty for no order.
        life_s: How long anybody is interested in the answer, in seconds; 23 hours unless you say otherwise.
        result_ttl_s: How many seconds the gateway keeps what became of it; 0 for the gateway's own.
        timeout_s: Deadline of the calls that are made now, in seconds; None for the client's own.
    """

    version: str
    outputs: Sequence[str]
    parameters: Mapping[str, Parameter] | None
    datatypes: Mapping[str, str] | None
    digest: bytes | None
    priority: str
    order_key: str
    life_s: float
    result_ttl_s: int
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Aim:
    """What jobs are sealed to.

    Attributes:
        epoch: The key.
        version: As in the header: a number, a label or empty.
        digest: As in the header; empty where any model may answer that the owner lets have the key.
        known: Attestation Results of workers that may answer, by `jti`: they need not come with each answer.
    """

    epoch: JobKey
    version: str
    digest: bytes
    known: Mapping[str, str] = field(default_factory=dict, repr=False)


class Preparer:
    """Seals jobs for one client.

    Args:
        roster: Says who serves a model, and who of them is believed.
        padded: Whether to hide the lengths of requests and answers.
    """

    def __init__(self, roster: Roster, *, padded: bool) -> None:
        self._roster = roster
        self._padded = padded
        self._sealer = JobSealer(roster.trust.cluster)

    async def aim(self, model: str, version: str, digest: bytes | None, left_s: float) -> Aim:
        """Find out what to seal to; raises what `Jobs.prepare` says."""
        began_s = time.monotonic()
        serving = await self._roster.serving(model, version, left_s)
        try:
            epoch = choose_epoch(serving.believed, self._roster.trust, datetime.now(UTC))
        except (EvidenceRejected, NotReady, Unavailable):
            self._roster.forget(model, version)
            if serving.listed_at_s >= began_s:
                raise
            serving = await self._roster.serving(model, version, left_s)  # there may be another epoch by now
            epoch = choose_epoch(serving.believed, self._roster.trust, datetime.now(UTC))
        takers = [worker for worker in serving.believed if worker.job_epoch is not None]
        known = {worker.result.ear_id: worker.token for worker in takers[:MAX_KNOWN]}
        if digest is None and not version.isdecimal():
            return Aim(epoch, version, b"", known)
        meant = target(model, serving.believed, version=version, digest=digest)
        return Aim(epoch, meant.model_version, meant.model_digest, known)

    async def prepare(
        self, aim: Aim, many: Iterable[Inputs], keys: Sequence[str], options: JobOptions
    ) -> list[PreparedJob]:
        """Seal jobs; raises InvalidRequest for inputs that are none, more or fewer keys than jobs, or a key twice."""
        if twice := [key for key, times in Counter(keys).items() if key and times > 1]:
            raise InvalidRequest(
                f"the key '{twice[0]}' is there more than once: what is submitted under one key is one job",
                reason="job.key_repeated",
            )
        prepared: list[PreparedJob] = []
        for number, inputs in enumerate(many):
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            key = keys[number] if number < len(keys) else ""
            prepared.append(self._sealed(aim, inputs, key, options))
        if keys and len(prepared) != len(keys):
            raise InvalidRequest(f"there are {len(keys)} keys for {len(prepared)} jobs")
        return prepared

    def _sealed(self, aim: Aim, inputs: Inputs, key: str, options: JobOptions) -> PreparedJob:
        model = aim.epoch.model_name
        question = Question(
            model=model,
            version=aim.version,
            inputs=inputs,
            outputs=options.get("outputs", ()),
            parameters=options.get("parameters"),
            datatypes=options.get("datatypes"),
            digest=None,
            sealed=True,
        )
        sealed, ticket = self._sealer.seal(
            question.request(aim.version).SerializeToString(),
            epoch=aim.epoch,
            not_after=datetime.now(UTC) + timedelta(seconds=options.get("life_s", LIFE_S)),
            model_version=aim.version,
            model_digest=aim.digest,
            padded=self._padded,
            known=aim.known,
        )
        carried = envelope.build_job(sealed, model_name=model, model_version=aim.version)
        submission = pb.Submission(
            job_id=ticket.job_id,
            request=carried.SerializeToString(),
            not_after_ms=milliseconds(ticket.not_after),
            key=key,
            priority=priority_of(options.get("priority", "normal")),
            order_key=options.get("order_key", ""),
            result_ttl_s=options.get("result_ttl_s", 0),
        )
        return PreparedJob(ticket, submission)
