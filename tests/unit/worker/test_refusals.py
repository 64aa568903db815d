"""A refusal tells a model's owner which part it was, and everybody else nothing of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import openvino as ov
import pytest
from openvino import opset13 as ops

from cloister.kit.log import trace_of
from cloister.rpc.status import failure_of, to_status
from cloister.worker import models
from cloister.worker.ports import contract_of
from cloister.worker.refusals import ModelRefused
from cloister.worker.safety import make_safe
from fakes import networks
from fakes.networks import field
from fakes.vector_models import files_of

MARK = "s3cret"
"""As long as the name of an operation in a hand-written file."""


def read(files: Mapping[str, bytes]) -> None:
    models.read({name: memoryview(content) for name, content in files.items()})


def of_nobodys_set(folder: Path) -> None:
    files = networks.ir(networks.tiny(), folder)
    xml = bytes(files["model.xml"]).replace(b'"SoftMax"', f'"{MARK}"'.encode())
    read({**files, "model.xml": xml.replace(b'"opset8"', f'"{MARK}"'.encode())})


def unknown_to_openvino(folder: Path) -> None:
    files = networks.ir(networks.tiny(), folder)
    read({**files, "model.xml": bytes(files["model.xml"]).replace(b'"SoftMax"', f'"{MARK}"'.encode())})


def unknown_in_onnx(_: Path) -> None:
    read({"model.onnx": networks.onnx().replace(b"MatMul", MARK.encode())})


def unknown_in_a_graph(_: Path) -> None:
    operation = field(1, field(1, MARK.encode()) + field(2, MARK.encode()))
    read({"model.pb": bytes(files_of("frozen_two")["model.pb"]) + operation})


def without_a_conversion(_: Path) -> None:
    operation = field(1, field(1, MARK.encode()) + field(2, b"StringLength") + field(3, b"a"))
    read({"model.pb": bytes(files_of("frozen_two")["model.pb"]) + operation})


def of_text(_: Path) -> None:
    x = ops.parameter([-1, 7], ov.Type.string, name=MARK)
    contract_of(ov.Model([ops.result(x)], [x], MARK))


def with_a_size_from_a_request(_: Path) -> None:
    x = ops.parameter([7], ov.Type.i64, name=MARK)
    x.output(0).set_names({MARK})
    made = ops.broadcast(ops.constant(1.0), x)
    make_safe(ov.Model([ops.result(made)], [x], MARK))


REFUSALS = [
    of_nobodys_set,
    unknown_to_openvino,
    unknown_in_onnx,
    unknown_in_a_graph,
    without_a_conversion,
    of_text,
    with_a_size_from_a_request,
]
OF_THE_MODEL = (MARK, "StringLength", "Broadcast", "string", "SoftMax", "7")


@pytest.mark.attack("I05")
@pytest.mark.parametrize("refuse", REFUSALS)
def test_what_is_said_of_a_refusal_says_nothing_of_the_model(refuse: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(ModelRefused) as caught:
        refuse(tmp_path)
    refusal = caught.value
    told = (str(refusal), repr(refusal), failure_of(refusal).message, to_status(refusal)[1], trace_of(refusal)[-1])
    assert not [word for word in OF_THE_MODEL for text in told if word in text]
    assert MARK not in "".join([*trace_of(refusal), str(to_status(refusal)), str(failure_of(refusal))])


def test_its_owner_is_told_which_part_it_is(tmp_path: Path) -> None:
    for refuse, part in ((of_nobodys_set, MARK), (without_a_conversion, "StringLength"), (of_text, MARK)):
        with pytest.raises(ModelRefused) as caught:
            refuse(tmp_path)
        assert part in caught.value.why
