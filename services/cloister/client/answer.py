"""What a client gets for a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.seal_pb2 import ReceiptBundle
from cloister.client.timing import Timing
from cloister.client.trust import VerifiedWorker
from cloister.ear import AttestationResult
from cloister.oip.contents import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A model's answer.

    Attributes:
        outputs: Arrays by name, read-only.
        model_name: Which model answered.
        model_version: And which version of it.
        carried: What gateway and network saw of the request, serialised or not; see `envelope`.
        worker: The enclave that answered a sealed request, as it was judged before; None for a plain one, which nobody
            vouches for, and for a job, which any may have answered.
        attestation: What the verifier found of the enclave that answered a job.
        proof: Makes the receipt of a sealed answer; see `receipt`.
        timing: Where the time went, as the gateway says, if that was asked for.
    """

    outputs: dict[str, Array] = field(repr=False)
    model_name: str
    model_version: str
    carried: ModelInferRequest | bytes = field(repr=False)
    worker: VerifiedWorker | None = None
    attestation: AttestationResult | None = None
    proof: Callable[[], ReceiptBundle] | None = field(default=None, repr=False)
    timing: Timing | None = None

    @property
    def envelope(self) -> ModelInferRequest:
        """All that gateway and network saw of the request."""
        return ModelInferRequest.FromString(self.carried) if isinstance(self.carried, bytes) else self.carried

    @property
    def receipt(self) -> ReceiptBundle | None:
        """Proof of a sealed answer, already checked; keep it with `save_receipt`. None for a plain one.

        Raises:
            NotReady: The answer came on a stream, and its worker has not signed yet (reason `receipt.pending`): it does
                when the stream is left, after `Client.conclude`, and about once a minute. Or it never will, because it
                was lost before it had (reason `receipt.lost`); the answer itself holds all the same.
        """
        return self.proof() if self.proof is not None else None
