"""What a model takes and gives: names, datatypes and shapes, and the check of a request against them.

Gateway and worker hold requests against the same values by the same code, each with headers that it has read for
itself: the worker from parsed messages, the gateway, which has neither parser nor NumPy for tensors, from the bytes of
the wire (docs/decisions/0020-tensor-contract.md). Only headers and lengths are looked at, so a tensor that does not fit
is refused before anything is allocated for it (attacks I09). The metadata that clients and gateways read
(`ModelMetadataResponse`) is made from the same values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from cloister.api.oip.inference_pb2 import InferParameter, ModelInferRequest, ModelMetadataResponse
from cloister.errors import InvalidRequest

ANY_SIZE: Final = -1
MAX_RANK: Final = 32
MAX_DIMENSION: Final = 1 << 31
MAX_ELEMENTS: Final = 1 << 31
MAX_PARAMETERS: Final = 4096
ELEMENT_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("BOOL", "INT8", "UINT8"), 1),
        **dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2),
        **dict.fromkeys(("INT32", "UINT32", "FP32"), 4),
        **dict.fromkeys(("INT64", "UINT64", "FP64"), 8),
        "BYTES": 0,
    }
)
"""The protocol's datatypes, with the bytes of one element in raw contents; each of BYTES carries its own length."""
LENGTH_BYTES: Final = 4
"""Of what stands before each BYTES element in raw contents."""
_SHARED_MEMORY: Final = "shared_memory_"


class InputHeader(NamedTuple):
    """What a request says of one of its inputs, without the contents.

    Attributes:
        typed: Whether it brings typed contents.
        parameters: Their names.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    typed: bool = False
    parameters: tuple[str, ...] = ()


class OutputHeader(NamedTuple):
    """What a request says of one output that it asks for; `parametrised` if with parameters."""

    name: str
    parametrised: bool = False


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a model.

    Attributes:
        name: As clients call it.
        datatype: As the protocol spells it.
        shape: -1 where any size will do; None where even the number of dimensions is open, as only outputs have it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None

    def check(self, datatype: str, shape: tuple[int, ...]) -> None:
        """Raise `InvalidRequest` unless a tensor of this datatype and shape fits."""
        if datatype != self.datatype:
            raise InvalidRequest(f"tensor '{self.name}': datatype '{datatype[:32]}', the model takes {self.datatype}")
        if self.shape is None:
            return
        if len(shape) == len(self.shape):
            for want, have in zip(self.shape, shape):  # noqa: B905 - they are; `strict` would cost half of the check
                if want != have and want != ANY_SIZE:
                    break
            else:
                return
        raise InvalidRequest(f"tensor '{self.name}': shape {list(shape[:32])}, the model takes {list(self.shape)}")


@dataclass(frozen=True, slots=True)
class ModelContract:
    """All tensors of a model, in its own order.

    Attributes:
        output_datatypes: Datatype by output name.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    output_datatypes: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _inputs: Mapping[str, TensorSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_inputs", {spec.name: spec for spec in self.inputs})
        object.__setattr__(self, "output_datatypes", {spec.name: spec.datatype for spec in self.outputs})

    def check(self, inputs: Iterable[InputHeader], outputs: Iterable[OutputHeader], raw_contents: int) -> None:
        """Hold the headers of a request against the model.

        Args:
            inputs: Of the request, in its order.
            outputs: Those that it asks for; none for all.
            raw_contents: How many it brings.

        Raises:
            InvalidRequest: An input is missing, unknown, comes twice, does not fit, has a size that no memory holds, or
                lies elsewhere; an output is unknown, asked for twice, or asked for with a parameter, since each one
                that the protocol's dialects know would change the answer; contents are not raw for all inputs or typed
                for all. The message names the tensor.
        """
        seen: dict[str, InputHeader] = {}
        for header in inputs:
            spec = self._inputs.get(header.name)
            if spec is None:
                raise InvalidRequest(f"the model has no input '{header.name[:64]}'")
            if header.name in seen:
                raise InvalidRequest(f"tensor '{header.name}' comes twice")
            spec.check(header.datatype, header.shape)
            check_shape(header.shape, header.name)
            if header.parameters and any(name.startswith(_SHARED_MEMORY) for name in header.parameters):
                raise InvalidRequest(f"tensor '{header.name}': shared memory is not supported; send the contents")
            seen[header.name] = header
        if len(seen) != len(self.inputs):
            missing = next(spec.name for spec in self.inputs if spec.name not in seen)
            raise InvalidRequest(f"tensor '{missing}' is missing")
        self._check_outputs(outputs)
        check_raw_count(raw_contents, len(seen))
        if raw_contents:
            for name, header in seen.items():
                refuse_both(header.typed, name)

    def check_request(self, request: ModelInferRequest) -> None:
        """Hold the headers of a parsed request against the model, as `check` does, and allocate nothing."""
        inputs = (  # one by one: there may be a million of them, and the first that is wrong ends it
            InputHeader(
                tensor.name,
                tensor.datatype,
                tuple(tensor.shape),
                tensor.HasField("contents"),
                tuple(tensor.parameters) if tensor.parameters else (),
            )
            for tensor in request.inputs
        )
        outputs = (OutputHeader(output.name, bool(output.parameters)) for output in request.outputs)
        self.check(inputs, outputs, len(request.raw_input_contents))
        if request.parameters:
            _check_parameters(request.parameters)

    def metadata(
        self, name: str, version: str, platform: str, properties: Mapping[str, str] = MappingProxyType({})
    ) -> ModelMetadataResponse:
        """What the protocol's ModelMetadata call answers. An open number of dimensions is written as [-1]."""
        response = ModelMetadataResponse(name=name, versions=[version], platform=platform, properties=properties)
        for target, specs in ((response.inputs, self.inputs), (response.outputs, self.outputs)):
            for spec in specs:
                shape = (ANY_SIZE,) if spec.shape is None else spec.shape
                target.add(name=spec.name, datatype=spec.datatype, shape=shape)
        return response

    @classmethod
    def from_metadata(cls, response: ModelMetadataResponse) -> ModelContract:
        """The contract that a server's metadata states."""
        return cls(_specs(response.inputs), _specs(response.outputs))

    def _check_outputs(self, outputs: Iterable[OutputHeader]) -> None:
        wanted: set[str] = set()
        for name, parametrised in outputs:
            if name not in self.output_datatypes:
                raise InvalidRequest(f"the model has no output '{name[:64]}'")
            if name in wanted:
                raise InvalidRequest(f"output '{name}' is asked for twice")
            if parametrised:
                raise InvalidRequest(f"output '{name}': parameters of outputs are not supported")
            wanted.add(name)


def _check_parameters(parameters: Mapping[str, InferParameter]) -> None:
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidRequest(f"more than {MAX_PARAMETERS} parameters")
    for name, parameter in parameters.items():
        if parameter.WhichOneof("parameter_choice") is None:
            raise InvalidRequest(f"parameter '{name[:64]}' has no value")


def check_shape(shape: tuple[int, ...], tensor: str) -> None:
    """Raise unless memory may hold a tensor of this shape.

    Raises:
        InvalidRequest: Too many dimensions, one of them negative or absurd, or a product that no memory holds. An
            empty tensor does not excuse its other dimensions.
    """
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"tensor '{tensor}': more than {MAX_RANK} dimensions")
    product = 1
    for dim in shape:
        if not 0 <= dim <= MAX_DIMENSION:
            raise InvalidRequest(f"tensor '{tensor}': dimension {dim} is out of range")
        product *= dim or 1
    if product > MAX_ELEMENTS:
        raise InvalidRequest(f"tensor '{tensor}': the shape holds too many elements")


def check_raw_count(raw_contents: int, tensors: int) -> None:
    """Raise `InvalidRequest` unless there are as many raw contents as tensors, or none."""
    if raw_contents not in (0, tensors):
        raise InvalidRequest(f"{raw_contents} raw contents for {tensors} tensors")


def refuse_both(typed: bool, tensor: str) -> None:
    """Raise `InvalidRequest` if a tensor has typed contents beside its raw ones."""
    if typed:
        raise InvalidRequest(f"tensor '{tensor}': contents are both raw and typed")


def check_raw_size(size_bytes: int, datatype: str, shape: tuple[int, ...], tensor: str) -> None:
    """Raise `InvalidRequest` unless so many bytes hold the elements; of BYTES, unless they might."""
    element_bytes = ELEMENT_BYTES[datatype]
    count = math.prod(shape)
    if element_bytes and size_bytes != count * element_bytes:
        raise InvalidRequest(
            f"tensor '{tensor}': {size_bytes} bytes of contents, the shape takes {count * element_bytes}"
        )
    if not element_bytes and size_bytes < count * LENGTH_BYTES:
        raise InvalidRequest(f"tensor '{tensor}': {size_bytes} bytes cannot hold {count} elements")


def _specs(tensors: Iterable[ModelMetadataResponse.TensorMetadata]) -> tuple[TensorSpec, ...]:
    for tensor in tensors:
        if tensor.datatype not in ELEMENT_BYTES:
            raise InvalidRequest(f"tensor '{tensor.name[:64]}': unknown datatype '{tensor.datatype[:32]}'")
    return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)
