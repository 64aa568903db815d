"""Nobody outside an enclave chooses what it quotes: it composes claims, and quotes their hash."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from cloister.api.v1 import gateway_pb2, provisioner_pb2, verifier_pb2, worker_pb2

SERVICES = Path(__file__).resolve().parents[2] / "services" / "cloister"


def quoted() -> Iterator[ast.expr]:
    """The argument of every call of a quoter in the product."""
    for path in SERVICES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "quote":
                yield from node.args


def fields_of(message: Descriptor, seen: set[str]) -> Iterator[str]:
    """Names of all fields of a message, and of the messages inside."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field.name
        if field.message_type is not None:
            yield from fields_of(field.message_type, seen)


@pytest.mark.attack("I12")
def test_every_quote_is_over_the_hash_of_claims() -> None:
    arguments = list(quoted())
    assert arguments
    for argument in arguments:
        assert isinstance(argument, ast.Call), ast.unparse(argument)
        assert ast.unparse(argument.func).endswith("report_data"), ast.unparse(argument)


@pytest.mark.attack("I12")
def test_no_request_carries_report_data() -> None:
    modules = (gateway_pb2, provisioner_pb2, verifier_pb2, worker_pb2)
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    assert len(services) == len(modules)
    for service in services:
        for method in service.methods:
            assert not {"report_data", "user_report_data"} & set(fields_of(method.input_type, set())), method.full_name
