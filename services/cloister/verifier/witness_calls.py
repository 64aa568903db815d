"""The witness's messages to values and back."""

from __future__ import annotations

from cloister.api.v1 import verifier_pb2 as pb
from cloister.errors import InvalidRequest
from cloister.tlog.checkpoint import MAX_SIZE
from cloister.tlog.note import Ed25519Key, SignedNote
from cloister.verifier.witness import MAX_PROOF, Newest, Resumed, Shown


def shown(request: pb.WitnessRequest) -> Shown:
    """What a provisioner shows; raises InvalidRequest for what does not parse."""
    if max(len(request.proof), len(request.resumed_proof)) > MAX_PROOF:
        raise InvalidRequest(f"a proof has at most {MAX_PROOF} hashes", reason="proof.too_long")
    if max(request.old_size, request.resumed_sequence) > MAX_SIZE:
        raise InvalidRequest("no log has so many lines", reason="request.invalid")
    resumed = Resumed(request.resumed, request.resumed_sequence, tuple(request.resumed_proof))
    return Shown(
        writer=request.writer,
        log_key=Ed25519Key.from_vkey(request.log_key),
        note=SignedNote.parse(request.checkpoint),
        old_size=request.old_size,
        proof=tuple(request.proof),
        resumed=resumed if request.resumed else None,
        leaving=request.leaving,
    )


def told(newest: Newest) -> pb.GetWitnessedResponse:
    """The newest head, for whoever asks."""
    if newest.known is None:
        return pb.GetWitnessedResponse(witness=newest.witness)
    return pb.GetWitnessedResponse(
        checkpoint=str(newest.known.note), witness=newest.witness, log_key=newest.known.log_key.vkey
    )
