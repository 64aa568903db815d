"""The witness's messages to values and back."""

from __future__ import annotations

from typing import Final

from cloister.api.v1 import verifier_pb2 as pb
from cloister.errors import InvalidRequest
from cloister.tlog.checkpoint import MAX_SIZE
from cloister.tlog.note import Ed25519Key, SignedNote
from cloister.verifier.witness import MAX_PROOF, Newest, Resumed, Shown

MAX_NAME: Final = 128
"""Characters of what a writer calls itself."""


def shown(request: pb.WitnessRequest) -> Shown:
    """What a provisioner shows; raises InvalidRequest for what does not parse."""
    if max(len(request.proof), len(request.resumed_proof)) > MAX_PROOF:
        raise InvalidRequest(f"a proof has at most {MAX_PROOF} hashes", reason="proof.too_long")
    if max(request.old_size, request.resumed_sequence) > MAX_SIZE:
        raise InvalidRequest("no log has so many lines", reason="request.invalid")
    if len(request.writer_name) > MAX_NAME or not request.writer_name.isprintable():
        raise InvalidRequest(f"a writer's name is at most {MAX_NAME} printable characters", reason="writer.invalid")
    resumed = Resumed(request.resumed, request.resumed_sequence, tuple(request.resumed_proof))
    return Shown(
        writer=request.writer,
        log_key=Ed25519Key.from_vkey(request.log_key),
        note=SignedNote.parse(request.checkpoint),
        old_size=request.old_size,
        proof=tuple(request.proof),
        resumed=resumed if request.resumed else None,
        leaving=request.leaving,
        writer_name=request.writer_name,
    )


def told(newest: Newest) -> pb.GetWitnessedResponse:
    """The newest head, and the writer's lease, for whoever asks."""
    answer = pb.GetWitnessedResponse(
        witness=newest.witness, lease_left_ms=int(newest.lease_left_s * 1000), writer_name=newest.writer_name
    )
    if newest.known is not None:
        answer.checkpoint, answer.log_key = str(newest.known.note), newest.known.log_key.vkey
    return answer
