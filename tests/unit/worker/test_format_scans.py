"""What the worker refuses before OpenVINO's parsers of TensorFlow, TFLite and Paddle see it (attacks F08)."""

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.worker import flatbuffer
from cloister.worker.paddle_scan import scan_paddle
from cloister.worker.protobuf import fields
from cloister.worker.refusals import ModelRefused
from cloister.worker.tensorflow_scan import scan_frozen_graph, scan_saved_model
from cloister.worker.tensorflow_variables import INDEX, scan_variables
from cloister.worker.tflite_scan import scan_tflite
from fakes.networks import field
from fakes.refusals import because
from fakes.vector_models import files_of

SAVED = bytes(files_of("keras_cnn")["saved_model.pb"])
VARIABLES = {name: content for name, content in files_of("saved_ids").items() if name.startswith("variables/")}
FROZEN = bytes(files_of("frozen_cnn")["model.pb"])
TFLITE = bytes(files_of("tflite_cnn")["model.tflite"])
PROGRAM, WEIGHTS = (bytes(files_of("paddle_cnn")[f"model.{kind}"]) for kind in ("pdmodel", "pdiparams"))


def refusal(scan, *raws):
    with pytest.raises(ModelRefused) as caught:
        scan(*[memoryview(raw) for raw in raws])
    assert caught.value.reason == "model.refused"
    return caught.value.why


def node(operation, attributes=b"", name=b"n"):
    return field(1, field(1, name) + field(2, operation) + attributes)


def attribute(value):
    return field(5, field(1, b"value") + field(2, value))


def saved_with(extra=b"", *, without=()):
    """The SavedModel with more in its graph's meta message, or less."""
    whole = dict(fields(memoryview(SAVED)))
    kept = b"".join(
        field(number, value if isinstance(value, int) else bytes(value))
        for number, value in fields(whole[2])
        if number not in without
    )
    return field(1, whole[1]) + field(2, kept + extra)


def test_ordinary_models_pass():
    scan_saved_model(memoryview(SAVED))
    scan_saved_model(memoryview(saved_with()))
    scan_frozen_graph(memoryview(FROZEN))
    scan_paddle(memoryview(PROGRAM), memoryview(WEIGHTS))
    assert scan_tflite(memoryview(TFLITE)) == {
        "serving_default_image:0": "image",
        "StatefulPartitionedCall_1:0": "output_0",
    }


@pytest.mark.parametrize("operation", [b"ReadFile", b"TFRecordReaderV2", b"PyFunc", b"EagerPyFunc", b"Mine>Do"])
@pytest.mark.attack("F08")
def test_an_operation_that_reaches_outside(operation):
    assert "outside" in refusal(scan_frozen_graph, FROZEN + node(operation))
    assert "outside" in refusal(scan_saved_model, saved_with(field(2, node(operation)), without=(2,)))
    function = field(1, field(1, b"") + field(3, field(1, b"n") + field(2, operation)))
    graph = field(2, field(2, function))
    assert "outside" in refusal(scan_saved_model, saved_with(graph, without=(2,)))


@pytest.mark.parametrize("operation", [b"VarHandleOp", b"RestoreV2", b"SaveV2"])
def test_a_frozen_graph_that_keeps_its_weights_elsewhere(operation):
    assert "SavedModel in its place" in refusal(scan_frozen_graph, FROZEN + node(operation))


@pytest.mark.attack("F08")
def test_a_constant_that_claims_more_than_there_is():
    shape = field(2, b"".join(field(2, field(1, 1 << 20)) for _ in range(2)))
    tensor = field(1, 1) + shape + field(5, 0)
    for value in (field(8, tensor), field(1, field(8, tensor))):
        assert "too large" in refusal(scan_frozen_graph, FROZEN + node(b"Const", attribute(value)))
    half = field(8, field(1, 1) + field(2, field(2, field(1, 3 << 27))))  # each alone is not too large
    assert "too large" in refusal(scan_frozen_graph, FROZEN + node(b"Const", attribute(half)) * 2)
    negative = field(8, field(1, 1) + field(2, field(2, field(1, (1 << 64) - 1))))
    assert "fixed shape" in refusal(scan_frozen_graph, FROZEN + node(b"Const", attribute(negative)))


@pytest.mark.attack("F08")
def test_a_shape_of_a_million_dimensions():
    shape = field(2, field(2, field(1, b"\xff" * 9 + b"\x01") * 100_000))
    tensor = field(8, field(1, 1) + shape)
    assert "too long" in refusal(scan_frozen_graph, FROZEN + node(b"Const", attribute(tensor)))
    shape = field(2, field(2, field(1, (1 << 63) - 1)) * 100_000)
    assert "too large" in refusal(scan_frozen_graph, FROZEN + node(b"Const", attribute(field(8, field(1, 1) + shape))))


@pytest.mark.attack("F08")
@pytest.mark.parametrize("number", [1, 2])
def test_a_part_of_a_graph_that_a_tag_of_33_bits_hides(number):
    assert "protobuf" in refusal(scan_frozen_graph, FROZEN + field((1 << 29) + number, node(b"ReadFile")))


@pytest.mark.attack("F08")
def test_a_constant_that_claims_it_in_two_halves():
    half = field(8, field(1, 1) + field(2, field(2, field(1, 1 << 20))))
    assert "twice" in refusal(scan_frozen_graph, FROZEN + node(b"Const", attribute(half + half)))


@pytest.mark.attack("F08")
def test_a_function_that_does_not_give_what_it_says():
    function = field(1, field(1, field(1, b"f") + field(3, field(1, b"out"))))
    assert "give what it says" in refusal(scan_saved_model, saved_with(field(2, field(2, function)), without=(2,)))
    gives = field(1, field(1, field(1, b"f") + field(3, field(1, b"out"))) + field(4, field(1, b"out")))
    scan_saved_model(memoryview(saved_with(field(2, field(2, gives)), without=(2,))))


@pytest.mark.attack("F08")
def test_an_object_that_refers_to_one_that_is_not_there():
    lost = field(7, field(1, field(1, field(1, 1))))
    assert "not there" in refusal(scan_saved_model, saved_with(lost, without=(7,)))


@pytest.mark.attack("F08")
def test_weights_of_a_saved_model_lie_where_they_are_said_to():
    scan_variables(VARIABLES)
    (shard,) = (name for name in VARIABLES if "data" in name)
    for changed in (
        {INDEX: VARIABLES[INDEX][:-1]},
        {INDEX: VARIABLES[INDEX][:20]},
        {shard: VARIABLES[shard][:-1]},
        {shard: memoryview(b"")},
    ):
        assert refusal(lambda _, files=changed: scan_variables({**VARIABLES, **files}), b"")
    assert "missing" in refusal(lambda _: scan_variables({INDEX: VARIABLES[INDEX]}), b"")
    scan_variables({})


@pytest.mark.attack("F08")
def test_no_offset_of_the_index_leads_outside():
    index = bytes(VARIABLES[INDEX])
    for at in range(len(index)):
        for value in (0xFF, 0x7F, 0):
            raw = index[:at] + bytes([value]) + index[at + 1 :]
            passes_or_is_refused(lambda: scan_variables({**VARIABLES, INDEX: memoryview(raw)}))  # noqa: B023


def test_text():
    assert "'text' is text" in refusal(scan_saved_model, files_of("refused_text")["saved_model.pb"])
    placeholder = node(b"Placeholder", field(5, field(1, b"dtype") + field(2, field(6, 7))), name=b"words")
    assert "'words' is text" in refusal(scan_frozen_graph, FROZEN + placeholder)


@pytest.mark.attack("F08")
def test_a_table_in_a_file():
    assert "asset" in refusal(scan_saved_model, files_of("refused_terms")["saved_model.pb"])


def test_a_saved_model_of_no_graph_or_two_or_without_a_signature():
    assert "one graph" in refusal(scan_saved_model, b"\x08\x01")
    assert "one graph" in refusal(scan_saved_model, SAVED + SAVED)
    assert "serving_default" in refusal(scan_saved_model, saved_with(without=(5,)))


@pytest.mark.attack("F08")
def test_a_program_that_reaches_outside():
    for operation in (b"load", b"load_combine", b"py_func"):
        block = field(1, field(1, 1) + field(2, 0) + field(4, field(3, operation)))
        assert "outside" in refusal(scan_paddle, PROGRAM + block, WEIGHTS)


@pytest.mark.attack("F08")
def test_weights_that_are_not_the_programs():
    for weights in (b"", WEIGHTS[:-1], WEIGHTS + b"\0", WEIGHTS + WEIGHTS):
        assert refusal(scan_paddle, PROGRAM, weights)
    head = struct.pack("<IQIi", 0, 0, 0, -1)
    assert "plain tensor" in refusal(scan_paddle, PROGRAM, head + WEIGHTS)
    assert "plain tensor" in refusal(scan_paddle, PROGRAM, struct.pack("<IQIi", 0, 1, 0, 4) + WEIGHTS)
    huge = field(1, 5) + field(2, 1 << 39)
    assert "cut short" in refusal(scan_paddle, PROGRAM, struct.pack("<IQIi", 0, 0, 0, len(huge)) + huge)


@pytest.mark.attack("F08")
def test_a_custom_operation():
    assert "'FlexMatrixDeterminant'" in refusal(scan_tflite, files_of("refused_flex")["model.tflite"])


def test_a_file_of_another_format():
    assert "format" in refusal(scan_tflite, SAVED)
    assert refusal(scan_frozen_graph, TFLITE)
    assert refusal(scan_paddle, b"", b"")


@pytest.mark.attack("F08")
def test_tables_that_overlap_are_not_looked_at_without_end(monkeypatch):
    """A thousand graphs that are one, which has a thousand tensors that are one."""
    monkeypatch.setattr(flatbuffer, "MAX_STEPS", 5000)
    graphs, tensors = 36, 36 + 4 * 1001 + 24  # lists, each behind the table that has it; offsets lead forward only
    model, graph, tensor = graphs - 8, tensors - 8, tensors + 4 * 1001 + 16
    raw = bytearray(tensor + 4)
    raw[:8] = struct.pack("<I4s", model, b"TFL3")
    for at, shape in ((model, (10, 8, 0, 0, 4)), (graph, (6, 8, 4)), (tensor, (4, 4))):
        struct.pack_into(f"<{len(shape)}H", raw, at - 16, *shape)  # which fields a table has, and where
        struct.pack_into("<i", raw, at, 16)
    for begin, count, to in ((graphs, 1000, graph), (tensors, 1000, tensor)):
        pointers = (to - (begin + 4 + 4 * at) for at in range(count))
        struct.pack_into(f"<I{count + 1}I", raw, begin - 4, 4, count, *pointers)
    graphs = list(flatbuffer.root(memoryview(raw), b"TFL3").tables(2))
    assert [len(list(each.tables(0))) for each in graphs[:4]] == [1000] * 4
    with pytest.raises(ModelRefused, check=because("too many parts")):
        list(graphs[4].tables(0))


@pytest.mark.attack("F08")
def test_no_offset_of_a_tflite_model_leads_outside():
    for at in range(0, len(TFLITE) - 4, 4):
        for value in (0xFFFFFFFF, len(TFLITE)):
            raw = TFLITE[:at] + struct.pack("<I", value) + TFLITE[at + 4 :]
            passes_or_is_refused(lambda: scan_tflite(memoryview(raw)))  # noqa: B023


@pytest.mark.parametrize("cut", [1, 100, -1])
def test_a_cut_model(cut):
    assert refusal(scan_saved_model, SAVED[:cut])
    assert refusal(scan_frozen_graph, FROZEN[:cut])
    assert refusal(scan_tflite, TFLITE[:cut])
    assert refusal(scan_paddle, PROGRAM[:cut], WEIGHTS)


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_pass_or_are_refused(junk):
    for scan in (
        lambda: scan_saved_model(memoryview(junk)),
        lambda: scan_frozen_graph(memoryview(junk)),
        lambda: scan_paddle(memoryview(junk), memoryview(junk)),
        lambda: scan_tflite(memoryview(junk[:4] + b"TFL3" + junk[4:])),
    ):
        passes_or_is_refused(scan)


def passes_or_is_refused(scan):
    with contextlib.suppress(InvalidRequest):
        scan()
