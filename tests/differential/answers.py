"""Answers in words that two servers' answers can be compared by, and short enough to keep a thousand of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Self

import grpc
import numpy as np

from cloister.api.oip.inference_pb2 import ModelInferResponse
from differential.forms import NUMPY, TYPED

OK = "OK"


@dataclass(frozen=True, slots=True)
class Told:
    """What a server answered.

    Attributes:
        status: `OK`, or the name of a gRPC status, or the number of an HTTP status.
        id: Of the answer.
        version: Of the model, as the answer has it.
        outputs: Name, datatype, shape and a digest of the values of each.
    """

    status: str
    id: str = ""
    version: str = ""
    outputs: str = ""

    def text(self) -> str:
        """As it is kept."""
        return "|".join((self.status, self.id, self.version, self.outputs)).rstrip("|")

    @classmethod
    def read(cls, text: str) -> Self:
        """What `text` wrote."""
        return cls(*text.split("|"))


def of_grpc(answer: ModelInferResponse) -> Told:
    """An answer over gRPC, its contents raw or typed."""
    outputs = []
    for number, output in enumerate(answer.outputs):
        if answer.raw_output_contents:
            values = np.frombuffer(answer.raw_output_contents[number], NUMPY[output.datatype]).tolist()
        else:
            values = list(getattr(output.contents, TYPED[output.datatype]))
        outputs.append(_output(output.name, output.datatype, list(output.shape), values))
    return Told(OK, _short(answer.id), answer.model_version, " ".join(outputs))


def of_rest(status: int, body: bytes) -> Told:
    """An answer over HTTP."""
    if status != 200:
        return Told(str(status))
    content: dict[str, Any] = json.loads(body)
    outputs = [
        _output(each["name"], each["datatype"], each["shape"], np.ravel(each["data"]).tolist())
        for each in content["outputs"]
    ]
    generated = len(content.get("id") or "") == 36  # made by the server, and another one each time
    identifier = "generated" if generated else content.get("id") or ""
    return Told(OK, _short(identifier), content.get("model_version") or "", " ".join(outputs))


def of_refusal(error: grpc.aio.AioRpcError) -> Told:
    """A status other than OK."""
    return Told(error.code().name)


def _short(identifier: str) -> str:
    if len(identifier) == 36 and identifier.count("-") == 4:
        return "generated"
    return identifier if len(identifier) < 40 else hashlib.sha256(identifier.encode()).hexdigest()[:8]


def _output(name: str, datatype: str, shape: list[int], values: list[Any]) -> str:
    exact = json.dumps([float(each) if isinstance(each, (int, float)) else repr(each) for each in values]).encode()
    return f"{name}:{datatype}{shape}:{hashlib.sha256(exact).hexdigest()[:8]}".replace(" ", "")
