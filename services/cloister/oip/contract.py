"""What a model takes and gives: names, datatypes and shapes, and the check of a request against them.

`check_request` looks at the headers of a request only, so a tensor that does not fit is refused before anything is
allocated for it (attacks I09). The metadata that clients read (`ModelMetadataResponse`) is made from the same values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelMetadataResponse
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.oip.datatypes import DATATYPES, datatype_of

ANY_SIZE = -1


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a model.

    Attributes:
        name: As clients call it.
        datatype: As the protocol spells it.
        shape: -1 where any size will do; None where even the number of dimensions is open.
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
            for want, have in zip(self.shape, shape, strict=True):
                if want not in (ANY_SIZE, have):
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

    def check(self, arrays: Mapping[str, Array]) -> None:
        """Hold named input arrays against the model; a uint16 array fits where it takes BF16.

        Raises:
            InvalidRequest: A tensor is missing, unknown, or does not fit; the message names it.
        """
        seen: set[str] = set()
        for name, array in arrays.items():
            spec = self._input(name, seen)
            natural = datatype_of(array, name).name
            spec.check("BF16" if (natural, spec.datatype) == ("UINT16", "BF16") else natural, array.shape)
        self._check_complete(seen)

    def check_request(self, request: ModelInferRequest) -> None:
        """Hold the headers of a request against the model, and allocate nothing.

        Raises:
            InvalidRequest: As `check`; or an output that the model does not have, or asked for twice, or with a
                parameter, since every one that the protocol's dialects know would change the answer.
        """
        seen: set[str] = set()
        for tensor in request.inputs:
            self._input(tensor.name, seen).check(tensor.datatype, tuple(tensor.shape))
        self._check_complete(seen)
        wanted: set[str] = set()
        for output in request.outputs:
            name = output.name
            if name not in self.output_datatypes:
                raise InvalidRequest(f"the model has no output '{name[:64]}'")
            if name in wanted:
                raise InvalidRequest(f"output '{name}' is asked for twice")
            if output.parameters:
                raise InvalidRequest(f"output '{name}': parameters of outputs are not supported")
            wanted.add(name)

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

    def _input(self, name: str, seen: set[str]) -> TensorSpec:
        spec = self._inputs.get(name)
        if spec is None:
            raise InvalidRequest(f"the model has no input '{name[:64]}'")
        if name in seen:
            raise InvalidRequest(f"tensor '{name}' comes twice")
        seen.add(name)
        return spec

    def _check_complete(self, seen: set[str]) -> None:
        if len(seen) != len(self.inputs):
            missing = next(spec.name for spec in self.inputs if spec.name not in seen)
            raise InvalidRequest(f"tensor '{missing}' is missing")


def _specs(tensors: Iterable[ModelMetadataResponse.TensorMetadata]) -> tuple[TensorSpec, ...]:
    for tensor in tensors:
        if tensor.datatype not in DATATYPES:
            raise InvalidRequest(f"tensor '{tensor.name[:64]}': unknown datatype '{tensor.datatype[:32]}'")
    return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)
