"""What a client gets for a request."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.seal_pb2 import ReceiptBundle
from cloister.client.timing import Timing
from cloister.client.trust import VerifiedWorker
from cloister.oip.contents import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A model's answer.

    Attributes:
        outputs: Arrays by name, read-only.
        model_name: Which model answered.
        model_version: And which version of it.
        worker: The enclave that answered a sealed request; None for a plain one, which nobody vouches for.
        envelope: All that gateway and network saw of the request.
        receipt: Proof of a sealed answer, already checked; keep it with `save_receipt`. None for a plain one.
        timing: Where the time went, as the gateway says, if that was asked for.
    """

    outputs: dict[str, Array] = field(repr=False)
    model_name: str
    model_version: str
    envelope: ModelInferRequest = field(repr=False)
    worker: VerifiedWorker | None = None
    receipt: ReceiptBundle | None = field(default=None, repr=False)
    timing: Timing | None = None
