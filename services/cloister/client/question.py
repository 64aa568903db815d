"""What is asked of a model: one request before it is sealed, and the options that every way of asking takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.oip.contents import Array
from cloister.oip.tensors import Parameter, encode_request

Inputs = Mapping[str, Array]
"""Array by input name."""


class Options(TypedDict, total=False):
    """Options of a request; what each means, `Client.infer` says.

    Attributes:
        version: The only version that may answer, a label of the operator's, or empty for the operator's default.
        outputs: Names of the outputs that are wanted; none asks for all.
        parameters: Of the request.
        datatypes: Datatype by input name, where the array's dtype does not say it.
        digest: The only model that may answer, 32 bytes.
        sealed: Whether only a verified enclave may read it.
        timeout_s: Deadline, new attempts included; None for the client's own.
        timing: Whether to ask where the time goes.
        traceparent: The trace that it belongs to.
    """

    version: str
    outputs: Sequence[str]
    parameters: Mapping[str, Parameter] | None
    datatypes: Mapping[str, str] | None
    digest: bytes | None
    sealed: bool
    timeout_s: float | None
    timing: bool
    traceparent: str


@dataclass(slots=True, kw_only=True)
class Question:
    """One inference, as it was asked for; the attributes are those of `Options`."""

    model: str
    version: str
    inputs: Inputs = field(repr=False)
    outputs: Sequence[str]
    parameters: Mapping[str, Parameter] | None
    datatypes: Mapping[str, str] | None
    digest: bytes | None
    sealed: bool
    timing: bool = False
    traceparent: str = ""

    def request(self, version: str) -> ModelInferRequest:
        """The request to one version of the model."""
        return encode_request(
            self.model,
            self.inputs,
            version=version,
            outputs=self.outputs,
            parameters=self.parameters,
            datatypes=self.datatypes,
        )


def named(model: str, version: str) -> str:
    """A model, or one version of it, in a message."""
    return f"'{model}' in version '{version}'" if version else f"'{model}'"
