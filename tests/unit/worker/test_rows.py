"""Which models may have the rows of several requests in one evaluation: read off the graph, refused where in doubt."""

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cloister.worker.ports import contract_of
from cloister.worker.rows import most_rows
from fakes import networks


def parameter(shape, dtype=np.float32, name="x"):
    made = ops.parameter(shape, dtype, name=name)
    made.output(0).set_names({name})
    return made


def model(build, shape=(-1, 4, 6), dtype=np.float32):
    x = parameter(list(shape), dtype)
    y = build(x)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "model")


def rows_of(made, limit=32):
    return most_rows(made, contract_of(made), limit)


def fixed(*shape):
    return ops.constant(np.ones(shape, np.float32))


def batch_size(x):
    return ops.gather(ops.shape_of(x), ops.constant([0]), ops.constant(0))


APART = {
    "elementwise": lambda x: ops.relu(ops.add(ops.multiply(x, fixed(6)), fixed(1, 4, 1))),
    "product": lambda x: ops.matmul(x, fixed(6, 3), transpose_a=False, transpose_b=False),
    "product of a weight": lambda x: ops.matmul(fixed(5, 4), x, transpose_a=False, transpose_b=False),
    "attention": lambda x: ops.matmul(
        ops.softmax(ops.matmul(x, x, transpose_a=False, transpose_b=True), 2), x, transpose_a=False, transpose_b=False
    ),
    "reduction": lambda x: ops.reduce_mean(x, ops.constant([1, -1]), keep_dims=False),
    "flattened": lambda x: ops.reshape(x, ops.constant([0, -1]), special_zero=True),
    "reshaped": lambda x: ops.reshape(x, ops.constant([-1, 2, 12]), special_zero=False),
    "reshaped by its size": lambda x: ops.reshape(
        x, ops.concat([batch_size(x), ops.constant(np.array([24], np.int64))], 0), special_zero=False
    ),
    "broadcast": lambda x: ops.add(
        x, ops.broadcast(fixed(6), ops.concat([batch_size(x), ops.constant(np.array([4, 6], np.int64))], 0))
    ),
    "transposed": lambda x: ops.transpose(x, ops.constant([0, 2, 1])),
    "joined": lambda x: ops.concat([x, x], 2),
    "first of each": lambda x: ops.gather(x, ops.constant(0), ops.constant(1)),
    "split": lambda x: ops.split(x, ops.constant(1), 2).output(1).get_node(),
    "sliced": lambda x: ops.slice(x, ops.constant([1]), ops.constant([3]), ops.constant([1]), ops.constant([1])),
    "best": lambda x: ops.topk(x, ops.constant(2), 2, "max", "value"),
    "squeezed": lambda x: ops.squeeze(ops.unsqueeze(x, ops.constant([1])), ops.constant([1])),
}
TOGETHER = {
    "softmax over requests": lambda x: ops.softmax(x, 0),
    "softmax over requests from the end": lambda x: ops.softmax(x, -3),
    "mean of requests": lambda x: ops.subtract(x, ops.reduce_mean(x, ops.constant([0]), keep_dims=True)),
    "mean of all": lambda x: ops.subtract(x, ops.reduce_max(x, ops.constant([0, 1, 2]), keep_dims=True)),
    "running sum": lambda x: ops.cum_sum(x, ops.constant(0)),
    "requests against requests": lambda x: ops.matmul(
        ops.reshape(x, ops.constant([0, -1]), special_zero=True),
        ops.reshape(x, ops.constant([0, -1]), special_zero=True),
        transpose_a=False,
        transpose_b=True,
    ),
    "first request for all": lambda x: ops.add(x, ops.gather(x, ops.constant([0]), ops.constant(0))),
    "other order": lambda x: ops.softmax(ops.transpose(x, ops.constant([1, 0, 2])), 1),
    "folded": lambda x: ops.reshape(
        ops.softmax(ops.reshape(x, ops.constant([4, -1]), special_zero=False), 1),
        ops.constant([-1, 4, 6]),
        special_zero=False,
    ),
    "divided by how many": lambda x: ops.divide(x, ops.convert(batch_size(x), "f32")),
    "wrong axis": lambda x: ops.add(ops.gather(x, ops.constant(0), ops.constant(1)), x),
    "unknown operation": lambda x: ops.roll(x, ops.constant([1]), ops.constant([0])),
    "turned around": lambda x: ops.reverse_sequence(x, ops.constant([1, 1, 1, 1]), 1, 0),
    "through a summary": lambda x: ops.multiply(ops.reduce_sum(x, ops.constant([0, 1, 2]), keep_dims=False), x),
}


@pytest.mark.parametrize("name", APART)
def test_rows_that_keep_apart(name):
    assert rows_of(model(APART[name])) == 32


@pytest.mark.attack("I07")
@pytest.mark.parametrize("name", TOGETHER)
def test_a_model_in_which_one_request_reaches_another_never_shares_an_evaluation(name):
    assert rows_of(model(TOGETHER[name])) == 1


@pytest.mark.parametrize("seen", [5, 7])
def test_a_size_written_into_the_graph_is_not_taken_for_the_number_of_rows(seen):
    def folded(x):
        across = ops.softmax(ops.reshape(x, ops.constant([seen, -1]), special_zero=False), 1)
        return ops.reshape(across, ops.constant([-1, 4, 6]), special_zero=False)

    assert rows_of(model(folded)) == 1


def test_words_of_each_request_looked_up_in_a_table():
    made = model(lambda x: ops.gather(fixed(9, 3), x, ops.constant(0)), (-1, 4), np.int64)
    assert rows_of(made) == 32


@pytest.mark.parametrize("shape", [(3, 4, 6), (-1, -1, 6), (2, -1, 6)])
def test_only_the_first_axis_may_be_open(shape):
    assert rows_of(model(lambda x: ops.relu(x), shape)) == 1


def test_models_of_the_tests():
    assert rows_of(networks.tiny()) == rows_of(networks.slow()) == 32
    assert rows_of(networks.tiny(), 8) == 8
    assert rows_of(networks.tiny(), 1) == 1
    for other in (networks.product(), networks.picker(), networks.counted(), networks.rounds(), networks.breakable()):
        assert rows_of(other) == 1


def test_a_batch_is_no_larger_than_its_tensors_may_be():
    assert rows_of(model(lambda x: ops.relu(x), (-1, 1 << 20))) == 16


def test_the_model_is_left_as_it_is():
    made = networks.tiny()
    rows_of(made)
    assert contract_of(made).inputs[0].shape == (-1, networks.FEATURES)
