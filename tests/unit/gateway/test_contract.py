"""Which contract a request is held against, and that one which cannot fit takes no slot."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelMetadataResponse
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import InvalidRequest
from cloister.gateway.contract import Contracts, _check_once
from cloister.gateway.wire import read_request
from fakes.gateway_parts import infer_request, model_state


def state(version: str = "1", shape: Sequence[int] = (2,), *, allow_plain: bool = True, **more: str) -> ModelState:
    """A version that takes `x` UINT8 of this shape."""
    metadata = ModelMetadataResponse(name="tiny", versions=[version], platform="openvino", properties=more)
    metadata.inputs.add(name="x", datatype="UINT8", shape=shape)
    metadata.outputs.add(name="y", datatype="UINT8", shape=shape)
    return ModelState(
        name="tiny", version=version, allow_plain=allow_plain, metadata=metadata.SerializeToString(deterministic=True)
    )


def contracts(*states: ModelState) -> Contracts:
    return Contracts(lambda name, version: [each for each in states if (each.name, each.version) == (name, version)])


def check(held: Contracts, size: int, version: str = "1", name: str = "tiny") -> None:
    held.check(name, version, read_request(infer_request(name, tensor=bytes(size)))[1])


def refuses(held: Contracts, size: int, version: str = "1") -> bool:
    try:
        check(held, size, version)
    except InvalidRequest as error:
        return "tensor 'x'" in str(error)
    return False


def test_each_version_has_its_own_contract() -> None:
    held = contracts(state("1", (2,)), state("2", (3,)))
    assert [refuses(held, size, version) for version in ("1", "2") for size in (2, 3)] == [False, True, True, False]


def test_what_nobody_serves_is_not_remembered() -> None:
    held = contracts(state())
    for number in range(10):
        check(held, 5, "1", name=f"made-up-{number}")
        check(held, 5, "9")
    assert not held._agreed


def test_workers_that_agree_may_evaluate_differently() -> None:
    assert refuses(contracts(state(streams="1"), state(streams="4")), 3)


@pytest.mark.parametrize("second", [state("1", (3,)), ModelState(name="tiny", version="1", allow_plain=True)])
def test_where_workers_disagree_nothing_is_refused(second: ModelState, logged: io.StringIO) -> None:
    held = contracts(state(), second)
    assert not refuses(held, 2)
    assert not refuses(held, 3)
    assert logged.getvalue().count("contract.disputed") == 1


@pytest.mark.parametrize("metadata", [b"", b"\xff", ModelMetadataResponse(name="tiny").SerializeToString()])
def test_without_metadata_nothing_is_refused(metadata: bytes) -> None:
    assert not refuses(contracts(ModelState(name="tiny", version="1", allow_plain=True, metadata=metadata)), 99)


def test_a_datatype_that_nobody_knows_states_no_contract() -> None:
    odd = ModelMetadataResponse.FromString(state().metadata)
    odd.outputs[0].datatype = "FP31"
    assert not refuses(
        contracts(ModelState(name="tiny", version="1", allow_plain=True, metadata=odd.SerializeToString())), 99
    )


def test_what_is_for_sealed_requests_only_is_left_to_the_worker() -> None:
    assert not refuses(contracts(state(allow_plain=False)), 3)


def test_a_contract_that_changes_is_looked_at_again() -> None:
    states = [state("1", (2,))]
    held = Contracts(lambda name, version: states)
    assert refuses(held, 3)
    states[:] = [state("1", (3,))]
    held.forget()
    assert not refuses(held, 3)
    assert refuses(held, 2)


def test_good_headers_are_remembered_and_bad_ones_are_not() -> None:
    held = contracts(state())
    check(held, 2)
    before = _check_once.cache_info()
    for _ in range(5):
        check(held, 2)
        assert refuses(held, 3)
    after = _check_once.cache_info()
    assert (after.hits - before.hits, after.currsize - before.currsize) == (5, 0)


def test_contents_are_never_remembered() -> None:
    held = contracts(state())
    request = ModelInferRequest(model_name="tiny")
    request.inputs.add(name="x", datatype="UINT8", shape=[2]).contents.uint_contents.extend([7, 8])
    before = _check_once.cache_info().currsize
    held.check("tiny", "1", read_request(request.SerializeToString())[1])
    assert _check_once.cache_info().currsize == before


def test_the_fakes_fit_their_own_contract() -> None:
    held = Contracts(lambda name, version: [model_state()])
    check(held, 4)
