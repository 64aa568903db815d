"""Which version answers a call: the highest, the one that the operator says, the one it is sealed for."""

from __future__ import annotations

import pytest

from cloister.errors import NotFound, Unavailable
from cloister.gateway.routing import Routing
from fakes.gateway_parts import A, B, infer_request, make_call, model_state
from fakes.linked_workers import mesh


async def test_no_version_means_the_highest() -> None:
    async with mesh() as made:
        await made.add(A, 9, model_state(version="9"))
        await made.add(B, 1, model_state(version="10"))
        made.dispatcher.submit(default := make_call())
        made.dispatcher.submit(named := make_call(infer_request(version="9")))
        assert (default.instance, named.instance) == (B, A)


async def test_a_sealed_call_without_a_version_goes_where_it_can_be_opened() -> None:
    async with mesh() as made:
        await made.add(A, 1, model_state(version="1"))
        await made.add(B, 1, model_state(version="2"))
        made.dispatcher.submit(call := make_call(infer_request(workers=[A])))
        assert call.instance == A


def routed(text: str) -> Routing:
    return Routing.parse(text.encode())


async def test_the_operator_says_which_version_is_the_default_and_what_labels_stand_for() -> None:
    async with mesh() as made:
        worker = await made.add(A, 9, model_state(version="1"), model_state(version="2"))
        made.dispatcher.route(routed("[models.tiny]\ndefault = 1\nlabels = { canary = 2 }"))
        for asked in ("", "canary", "2"):
            made.dispatcher.submit(make_call(infer_request(version=asked)))
        made.dispatcher.route(Routing())
        made.dispatcher.submit(make_call())
        assert [call.model_version for call in (await worker.frame()).calls] == ["1", "2", "", "2"]
        with pytest.raises(NotFound):
            made.dispatcher.submit(make_call(infer_request(version="canary")))


async def test_a_default_that_nobody_serves_is_answered_by_no_other_version() -> None:
    async with mesh() as made:
        await made.add(A, 1, model_state(version="1"))
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call())
        made.dispatcher.route(routed("[models.tiny]\ndefault = 2"))
        with pytest.raises(Unavailable):
            await waiting.answer
        with pytest.raises(NotFound):  # `unknown` of this test
            made.dispatcher.submit(make_call())
        made.dispatcher.submit(make_call(infer_request(version="1")))


async def test_a_waiting_call_goes_where_the_default_is_now() -> None:
    async with mesh() as made:
        old = await made.add(A, 1, model_state(version="1"))
        new = await made.add(B, 1, model_state(version="1"), model_state(version="2"))
        made.dispatcher.route(routed("[models.tiny]\ndefault = 1"))
        for _ in range(2):
            made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call())
        for end in (old, new):
            await end.frame()
        made.dispatcher.route(routed("[models.tiny]\ndefault = 2"))
        assert waiting.instance == ""
        old.answer(1)
        await old.heard()
        assert waiting.instance == ""
        new.answer(1)
        assert [call.model_version for call in (await new.frame()).calls] == ["2"]


@pytest.mark.attack("G15")
async def test_no_label_or_default_moves_a_sealed_call() -> None:
    async with mesh() as made:
        worker = await made.add(A, 9, model_state(version="1"), model_state(version="2"))
        made.dispatcher.route(routed("[models.tiny]\ndefault = 2\nlabels = { stable = 2 }"))
        for asked in ("1", ""):
            made.dispatcher.submit(make_call(infer_request(version=asked, workers=[A])))
        assert [call.model_version for call in (await worker.frame()).calls] == ["", ""]
        with pytest.raises(NotFound):
            made.dispatcher.submit(make_call(infer_request(version="stable", workers=[A])))
