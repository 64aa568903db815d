"""What a client keeps of an answer, and what anybody can check of it later without asking anyone.

A kept receipt proves: an enclave whose evidence this verifier accepted, for whom `result` says what it measured as,
answered exactly this request with exactly this response, by exactly this model. It proves it for as long as the
verifier's key was not stolen; that the Attestation Result has expired since does not matter, since the receipt says
when the answer was given, and it must have been within the Result's life.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from cloister import ear
from cloister.api.v1.seal_pb2 import Receipt, ReceiptBody, ReceiptBundle
from cloister.client.bundle import TrustBundle
from cloister.client.trust import MESH_AUDIENCE, MESH_LIFE, check_believable
from cloister.ear import AttestationResult
from cloister.errors import EvidenceRejected, NotFound
from cloister.oip.contents import Array
from cloister.oip.tensors import decode_request, decode_response, parse_request, parse_response
from cloister.rpc.files import replace_private
from cloister.seal import receipt

MAX_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReceipt:
    """What a receipt was found to prove.

    Attributes:
        body: As the enclave signed it.
        result: The Attestation Result of the enclave.
        inputs: What was asked.
        outputs: What was answered.
    """

    body: ReceiptBody
    result: AttestationResult
    issued_at: datetime
    inputs: dict[str, Array]
    outputs: dict[str, Array]

    @property
    def simulated(self) -> bool:
        """Whether what it ran in was simulated: then whoever owned the machine could have made this receipt."""
        return self.result.simulated


def save_receipt(bundle: ReceiptBundle, path: Path) -> None:
    """Write a receipt with request, response and Attestation Result, in place of what is at `path`.

    The file holds the data itself, in clear: it is its owner's alone to read, from its first byte.
    """
    replace_private(path, bundle.SerializeToString(deterministic=True))


def load_receipt(path: Path) -> ReceiptBundle:
    """Read what `save_receipt` wrote; raises NotFound, or EvidenceRejected for what is no receipt."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        return ReceiptBundle.FromString(raw[:MAX_BYTES])
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"there is no receipt at {path}") from error
    except DecodeError as error:
        raise EvidenceRejected(f"{path} is not a receipt, or not all of one", reason="receipt.malformed") from error


def verify_receipt(bundle: ReceiptBundle, trust: TrustBundle) -> VerifiedReceipt:
    """Check a kept receipt against a trust bundle alone.

    Raises:
        EvidenceRejected: The Attestation Result is not one that this trust bundle believes.
        SealBroken: The receipt is not for this request, this response or this enclave, or anything was altered.
    """
    issued_at = _issued_at(bundle.receipt)
    result = ear.check(
        bundle.attestation_result,
        trust.keys(),
        issuer=trust.verifier_id,
        audience=MESH_AUDIENCE,
        now=issued_at,
        max_life=MESH_LIFE,
    )
    check_believable(result, trust)
    body = receipt.verify_bundle(bundle, receipt_key=result.receipt_key, instance=result.instance, ear_id=result.ear_id)
    return VerifiedReceipt(
        body=body,
        result=result,
        issued_at=issued_at,
        inputs=decode_request(parse_request(bundle.request)),
        outputs=decode_response(parse_response(bundle.response)),
    )


def check_issued(body: ReceiptBody, result: AttestationResult) -> None:
    """Check that a receipt is of a time at which its Attestation Result held; else nobody would believe it later.

    Raises:
        EvidenceRejected: Of another time (`receipt.untimely`).
    """
    if body.issued_at_ms not in believed_ms(result):
        raise untimely()


def believed_ms(result: AttestationResult) -> range:
    """When receipts may be issued that name an Attestation Result, in milliseconds of Unix time."""
    first, last = result.issued_at - ear.LEEWAY, result.expires_at + ear.LEEWAY
    return range(int(first.timestamp() * 1000), int(last.timestamp() * 1000))


def untimely() -> EvidenceRejected:
    """The error of a receipt that is of another time."""
    return EvidenceRejected("the receipt is of a time at which nothing vouched for its key", reason="receipt.untimely")


def _issued_at(signed: Receipt) -> datetime:
    """When the enclave says it answered: believed only once the signature over it has been checked."""
    try:
        body = ReceiptBody.FromString(signed.body)
        return datetime.fromtimestamp(body.issued_at_ms / 1000, UTC)
    except (DecodeError, ValueError, OverflowError, OSError) as error:
        raise EvidenceRejected("the receipt says no time", reason="receipt.malformed") from error
