"""Calibration sets: those that fit the model, and an error that names what does not."""

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.prepare.samples import read_samples


def model(**shapes):
    inputs = []
    for name, shape in shapes.items():
        inputs.append(ops.parameter(shape, np.float32, name=name))
        inputs[-1].output(0).set_names({name})
    total = ops.reduce_sum(
        ops.concat([ops.reshape(one, ops.constant([-1]), False) for one in inputs], 0), ops.constant([0])
    )
    return ov.Model([ops.result(total)], inputs, "sum")


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def refused(path, *arguments):
    with pytest.raises(InvalidRequest) as caught:
        read_samples(path, *arguments)
    assert caught.value.reason == "calibration.unfit"
    return str(caught.value)


def test_rows_are_taken_as_the_model_takes_them(tmp_path):
    ten = np.arange(30, dtype=np.float32).reshape(10, 3)
    one = read_samples(saved(tmp_path, x=ten), model(x=[-1, 3]))
    assert [batch["x"].tolist() for batch in one.batches(2)] == [[[0, 1, 2]], [[3, 4, 5]]]
    four = read_samples(saved(tmp_path, x=ten), model(x=[4, 3]))
    assert [batch["x"].shape for batch in four.batches()] == [(4, 3), (4, 3)]
    whole = read_samples(saved(tmp_path, x=ten), model(x=[3]))
    assert [batch["x"].tolist() for batch in whole.batches(1)] == [[0, 1, 2]]


def test_one_array_is_for_the_one_input(tmp_path):
    np.save(tmp_path / "data.npy", np.zeros((4, 3)))
    found = read_samples(tmp_path / "data.npy", model(x=[-1, 3]))
    assert found.arrays["x"].dtype == np.float32
    assert "an array without a name" in refused(tmp_path / "data.npy", model(a=[-1, 3], b=[-1, 3]))


def test_parts_share_no_example_and_labels_stay_with_theirs(tmp_path):
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    samples = read_samples(saved(tmp_path, x=x, y=np.arange(20)), model(x=[-1, 2]), "y")
    first, second = samples.split(0.25)
    assert (len(first), len(second)) == (15, 5)
    assert {*first.arrays["x"][:, 0]} | {*second.arrays["x"][:, 0]} == {*x[:, 0]}
    for part in (first, second):
        assert part.arrays["x"][:, 0].tolist() == (2 * part.labels).tolist()
    again = samples.split(0.25)[1]
    assert again.labels.tolist() == second.labels.tolist(), "a report can be made again"


@pytest.mark.parametrize(("count", "held_out"), [(1, 0.5), (3, 0.05), (4, 0.9)])
def test_too_few_for_two_parts(tmp_path, count, held_out):
    samples = read_samples(saved(tmp_path, x=np.zeros((count, 2), np.float32)), model(x=[-1, 2]))
    with pytest.raises(InvalidRequest) as caught:
        samples.split(held_out)
    assert caught.value.reason == "calibration.small"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"z": np.zeros((4, 3))}, "has 'z', and the model takes 'x'"),
        ({"x": np.zeros((4, 3)), "z": np.zeros((4, 3))}, "the model takes 'x'"),
        ({}, "has nothing"),
        ({"x": np.zeros((4, 5))}, r"holds examples of \[5\]"),
        ({"x": np.zeros((4, 3, 1, 1))}, "has 4 axes"),
        ({"x": np.zeros(())}, "holds no examples"),
        ({"x": np.zeros((0, 3))}, "holds no examples"),
        ({"x": np.full((4, 3), np.nan)}, "no finite float32"),
        ({"x": np.full((4, 3), 1e300)}, "no finite float32"),
        ({"x": np.zeros((4, 3), complex)}, "complex128 in the file"),
        ({"x": np.array([["a"] * 3])}, "in the file, and float32"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, says):
    with pytest.raises(InvalidRequest, match=says):
        read_samples(saved(tmp_path, **arrays), model(x=[-1, 3]))


def test_labels_that_are_not_there_or_not_as_many(tmp_path):
    assert "no array 'y'" in refused(saved(tmp_path, x=np.zeros((4, 3))), model(x=[-1, 3]), "y")
    both = saved(tmp_path, x=np.zeros((4, 3)), y=np.zeros(3))
    assert "same number" in refused(both, model(x=[-1, 3]), "y")


def test_nothing_in_a_file_is_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was run",))

    np.save(tmp_path / "data.npy", np.array([Bomb()], object), allow_pickle=True)
    assert "pickle" not in refused(tmp_path / "data.npy", model(x=[-1, 3])), "nobody is told to read it unsafely"
    np.savez(tmp_path / "data.npz", x=np.array([None, {}], object))
    refused(tmp_path / "data.npz", model(x=[-1, 3]))
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04")
    refused(tmp_path / "data.npz", model(x=[-1, 3]))
