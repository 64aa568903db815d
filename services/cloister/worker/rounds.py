"""How often a loop goes round, where its graph shows it: TensorFlow's loops say only when to stop.

A `while` of TensorFlow, and so a recurrent layer of Keras, becomes a `Loop` without a number of rounds, whose body
counts and compares. Where the counter is seen to begin at a constant, to grow by a constant, and to end the loop at a
constant or at the size of a tensor, the largest number of rounds follows, and is written into the `Loop`. It then stops
where it stopped before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.worker.bounds import UNFIT
from cloister.worker.graph import picked_from_sizes
from cloister.worker.refusals import unsafe

MAX_ROUNDS: Final = 1 << 20
_MAX_COUNTER: Final = 1 << 29


def bound_rounds(loop: ov.Node) -> None:
    """See to it that a `Loop` has a largest number of rounds: a constant, or the size of something.

    Raises:
        InvalidRequest: It has none, and its body shows none.
    """
    rounds = loop.input_value(0).get_node()
    if isinstance(rounds, ov.op.Constant):
        if (rounds.data >= 0).all():
            return
        found = _shown(loop)
    elif _is_size(rounds) and not any(True for _ in _slices(loop)):
        return
    else:
        found = None
    if found is None:
        raise unsafe("Loop without a number of rounds: let it count to a constant, or to the length of an input")
    shape, kind = list(rounds.get_output_shape(0)), rounds.get_element_type()
    if isinstance(found, ov.op.Constant):
        most = ops.constant(np.full(shape, _scalar(found), kind.to_dtype()))
    else:
        most = ops.reshape(ops.convert(found, kind), ops.constant(np.array(shape, np.int64)), special_zero=False)
    loop.input(0).replace_source_output(most.output(0))


def check_rounds(loop: ov.Node) -> None:
    """Look whether all that a loop takes slice by slice lasts as long, now that the inputs have shapes.

    Args:
        loop: A `Loop`, which says how many rounds there are, or a `TensorIterator`, whose slices do.

    Raises:
        InvalidRequest: Something does not.
    """
    lasting = {_slices_of(loop, description) for description in _slices(loop) if _is_whole(description)}
    rounds = max(lasting, default=0)
    if loop.get_type_name() == "Loop":
        goes_on = loop.get_function().get_results()[loop.get_special_body_ports()[1]].input_value(0).get_node()
        rounds = _scalar(loop.input_value(0).get_node()) or 0
        if not isinstance(goes_on, ov.op.Constant):
            return  # it may end before
    if lasting and min(lasting) < rounds:
        raise InvalidRequest("the model takes more of an input than there is", reason=UNFIT)


def _slices_of(loop: ov.Node, description: Any) -> int:
    shape = loop.input_value(description.input_index).get_partial_shape()
    fewest: int = shape[description.axis % shape.rank.get_length()].get_min_length() // abs(description.stride)
    return fewest


def _is_whole(description: Any) -> bool:
    """Whether its slices go from one end of the axis to the other."""
    ends = (description.start, description.end)
    return ends == ((0, -1) if description.stride > 0 else (-1, 0))


def _slices(loop: ov.Node) -> Iterator[Any]:
    return (description for description in loop.get_input_descriptions() if hasattr(description, "stride"))


def _shown(loop: ov.Node) -> ov.Node | None:
    """The most rounds that a comparison in the body lets through, all of which must hold for another."""
    body = loop.get_function()
    stop = loop.get_special_body_ports()[1]
    if not 0 <= stop < len(body.get_results()):
        return None
    conditions = _conjuncts(body.get_results()[stop].input_value(0).get_node())
    found = [rounds for condition in conditions if (rounds := _compared(loop, condition)) is not None]
    return min(found, key=lambda rounds: not isinstance(rounds, ov.op.Constant), default=None)


def _conjuncts(condition: ov.Node) -> Iterator[ov.Node]:
    if condition.get_type_name() == "LogicalAnd":
        for value in condition.input_values():
            yield from _conjuncts(value.get_node())
    else:
        yield condition


def _compared(loop: ov.Node, condition: ov.Node) -> ov.Node | None:
    """Rounds until `counter + ahead < end` no longer holds; it is asked at the end of each."""
    if condition.get_type_name() != "Less":
        return None
    counted, end = (value.get_node() for value in condition.input_values())
    counter, ahead = _sum(loop, counted)
    if counter is None or ahead is None or counter.get_type_name() != "Parameter":
        return None
    start, step = _counting(loop, counter)
    if start is None or step is None or step < 1 or max(abs(start), abs(ahead)) + step > _MAX_COUNTER:
        return None
    last = _constant(loop, end)
    if last is not None:
        rounds = max(1, -((start + ahead - last) // step) + 1)
        return ops.constant(np.int64(rounds)) if abs(last) <= _MAX_COUNTER and rounds <= MAX_ROUNDS else None
    size = _given(loop, end)
    if size is None or step != 1 or end.get_type_name() != "Parameter" or not _is_size(size):
        return None
    further = ops.add(ops.convert(size, "i64"), ops.constant(np.int64(1 - start - ahead)))
    return ops.maximum(further, ops.constant(np.int64(1)))


def _counting(loop: ov.Node, counter: ov.Node) -> tuple[int | None, int | None]:
    """Where a counter begins, and by how much each round takes it further."""
    body = loop.get_function()
    index = _position(body, counter)
    for description in loop.get_input_descriptions():
        if description.body_parameter_index == index and hasattr(description, "body_value_index"):
            start = _scalar(loop.input_value(description.input_index).get_node())
            further = body.get_results()[description.body_value_index].input_value(0).get_node()
            before, step = _sum(loop, further)
            same = before is not None and before.get_name() == counter.get_name()
            return start, step if same else None
    return None, None


def _sum(loop: ov.Node, node: ov.Node) -> tuple[ov.Node | None, int | None]:
    """What a node adds to what."""
    if node.get_type_name() != "Add":
        return node, 0
    left, right = (value.get_node() for value in node.input_values())
    added = _constant(loop, right)
    return (left, added) if added is not None else (right, _constant(loop, left))


def _constant(loop: ov.Node, node: ov.Node) -> int | None:
    given = _given(loop, node)
    return None if given is None else _scalar(given)


def _given(loop: ov.Node, node: ov.Node) -> ov.Node | None:
    """What a node of the body always is: itself, or what was handed in for it from outside and never changes."""
    if node.get_type_name() != "Parameter":
        return node
    body = loop.get_function()
    index = _position(body, node)
    for description in loop.get_input_descriptions():
        if description.body_parameter_index != index:
            continue
        if hasattr(description, "body_value_index"):
            kept = body.get_results()[description.body_value_index].input_value(0).get_node()
            if kept.get_name() != node.get_name():
                return None
        elif hasattr(description, "stride"):
            return None
        given: ov.Node = loop.input_value(description.input_index).get_node()
        return given
    return None


def _is_size(node: ov.Node) -> bool:
    """Whether this one number is picked from constants and the sizes of tensors, and not computed from them."""
    shape = node.get_output_partial_shape(0)
    if shape.is_dynamic or int(np.prod(list(shape.to_shape()))) != 1 or not node.get_element_type().is_integral():
        return False
    return picked_from_sizes(node)


def _scalar(node: ov.Node) -> int | None:
    known = isinstance(node, ov.op.Constant) and node.data.size == 1 and node.data.dtype.kind == "i"
    return int(node.data.item()) if known else None


def _position(body: ov.Model, parameter: ov.Node) -> int:
    return [each.get_name() for each in body.get_parameters()].index(parameter.get_name())
