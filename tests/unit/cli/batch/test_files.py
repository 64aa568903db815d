"""Files in and files out: each kind there and back, and nothing that changes on the way without a word."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cloister.cli.batch.columns import read_options
from cloister.cli.batch.reading import Reading, spans
from cloister.cli.batch.sources import open_source
from cloister.cli.batch.spans import Loaded
from cloister.cli.failures import Stop
from cloister.contract import ModelContract, TensorSpec
from cloister.oip.contents import Array
from cloister.oip.datatypes import DATATYPES
from fakes.folder_jobs import FolderJobs, negative, values

from .conftest import Run

PAIR = TensorSpec("x", "FP32", (-1, 2))
ONE = TensorSpec("n", "INT64", (-1,))
OUT = (TensorSpec("y", "FP32", (-1, 2)),)


def read(path: Path, *inputs: TensorSpec, size: int = 4, columns: tuple[str, ...] = (), **more: Any) -> list[Loaded]:
    contract = ModelContract(inputs or (PAIR,), OUT)
    source = open_source(path, Reading(contract=contract, columns=read_options(columns), **more))
    loaded = [span.load() for span in spans(source, size)]
    assert sum(each.rows for each in loaded) == source.rows
    return loaded


def whole(loaded: list[Loaded], name: str = "x") -> Array:
    return np.concatenate([each.inputs[name] for each in loaded if each.inputs])


def reasons(loaded: list[Loaded]) -> dict[int, str]:
    return {failed.row: failed.reason for each in loaded for failed in each.failed}


def write_parquet(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path


def as_npy(path: Path, x: Array) -> Path:
    np.save(path / "in.npy", x)
    return path / "in.npy"


def as_npz(path: Path, x: Array) -> Path:
    np.savez(path / "in.npz", x=x)
    return path / "in.npz"


def as_packed_npz(path: Path, x: Array) -> Path:
    np.savez_compressed(path / "in.npz", other=x[:3], x=x)
    return path / "in.npz"


def as_parquet(path: Path, x: Array) -> Path:
    return write_parquet(path / "in.parquet", {"x": list(x)}, row_group_size=7)


def as_fixed_parquet(path: Path, x: Array) -> Path:
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 2)
    return write_parquet(path / "in.parquet", {"x": column}, row_group_size=5)


def as_jsonl(path: Path, x: Array) -> Path:
    (path / "in.jsonl").write_text("".join(json.dumps({"x": row}) + "\n\n" for row in x.tolist()))
    return path / "in.jsonl"


FORMS = [as_npy, as_npz, as_packed_npz, as_parquet, as_fixed_parquet, as_jsonl]


@pytest.mark.parametrize("write", FORMS)
def test_rows_are_the_files(tmp_path: Path, write: Callable[[Path, Array], Path]) -> None:
    x = np.random.default_rng(1).standard_normal((23, 2)).astype(np.float32)
    loaded = read(write(tmp_path, x))
    assert [each.rows for each in loaded] == [4, 4, 4, 4, 4, 3]
    assert [each.first for each in loaded] == [0, 4, 8, 12, 16, 20]
    assert whole(loaded).dtype == np.float32
    assert whole(loaded).tobytes() == x.tobytes()


def test_csv_has_columns_for_a_vector(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,a,b,n\np1,1.5,2,3\n\np2, -2e3 ,NaN,4\n", encoding="utf-8-sig")
    loaded = read(path, PAIR, ONE, columns=("x=a,b",))
    np.testing.assert_array_equal(whole(loaded), np.array([[1.5, 2], [-2000, np.nan]], np.float32))
    assert whole(loaded, "n").tolist() == [3, 4]


def test_a_star_is_all_columns_that_no_other_input_names(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", {"a": [1, 2], "count": [3, 4], "b": [5, 6]})
    loaded = read(path, PAIR, ONE, columns=("x=*", "n=count"))
    assert whole(loaded).tolist() == [[1, 5], [2, 6]]
    assert whole(loaded, "n").tolist() == [3, 4]


@pytest.mark.parametrize("name", [name for name in DATATYPES if name not in ("BF16", "BYTES")])
def test_every_datatype_comes_from_parquet_and_npy_as_it_is(tmp_path: Path, name: str) -> None:
    x = np.array([0, 1, 1, 0, 1]).astype(DATATYPES[name].dtype)
    spec = TensorSpec("x", name, (-1,))
    np.save(tmp_path / "x.npy", x)
    for path in (tmp_path / "x.npy", write_parquet(tmp_path / "x.parquet", {"x": x})):
        found = whole(read(path, spec))
        assert (found.dtype, found.tobytes()) == (x.dtype, x.tobytes())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())])
def test_texts_are_bytes(tmp_path: Path, kind: Any) -> None:
    spec = TensorSpec("x", "BYTES", (-1,))
    path = write_parquet(tmp_path / "in.parquet", {"x": pa.array(["a", None, "ü"]).cast(kind)})
    loaded = read(path, spec)
    assert whole(loaded).tolist() == [b"a", "ü".encode()]
    assert reasons(loaded) == {1: "row.missing"}


def test_a_null_is_not_a_number(tmp_path: Path) -> None:
    """Arrow hands nulls of floats over as NaN."""
    columns = {"a": pa.array([1.0, None, 3.0], pa.float32()), "b": pa.array([1.0, 2.0, float("nan")], pa.float32())}
    loaded = read(write_parquet(tmp_path / "in.parquet", columns), columns=("x=a,b",))
    assert reasons(loaded) == {1: "row.missing"}
    np.testing.assert_array_equal(whole(loaded), np.array([[1, 1], [3, np.nan]], np.float32))
    inner = pa.array([[1.0, None], [1.0, 2.0], None], pa.list_(pa.float32()))
    assert reasons(read(write_parquet(tmp_path / "lists.parquet", {"x": inner}))) == {
        0: "row.missing",
        2: "row.missing",
    }


def test_lists_of_the_wrong_length_are_failed_rows(tmp_path: Path) -> None:
    x = pa.array([[1.0, 2.0], [1.0], [3.0, 4.0], [1.0, 2.0, 3.0]], pa.list_(pa.float32()))
    loaded = read(write_parquet(tmp_path / "in.parquet", {"x": x}))
    assert whole(loaded).tolist() == [[1, 2], [3, 4]]
    assert reasons(loaded) == {1: "row.shape", 3: "row.shape"}


def test_nested_lists_and_flat_ones_are_images(tmp_path: Path) -> None:
    spec = TensorSpec("x", "FP32", (-1, 2, 3))
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    nested = pa.array(x.tolist(), pa.list_(pa.list_(pa.float32())))
    flat = pa.array(x.reshape(4, 6).tolist(), pa.list_(pa.float32()))
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(x)
    for number, column in enumerate((nested, flat, tensors)):
        path = write_parquet(tmp_path / f"{number}.parquet", {"x": column})
        assert np.array_equal(whole(read(path, spec)), x)


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("form", ["npy", "npz", "parquet"])
def test_doubles_are_rounded_only_where_that_is_asked_for(tmp_path: Path, form: str, rounding: bool) -> None:
    x = np.array([[0.1, 2.0]])
    path = {"npy": as_npy, "npz": as_npz, "parquet": as_parquet}[form](tmp_path, x)
    if rounding:
        assert np.array_equal(whole(read(path, rounding=True)), x.astype(np.float32))
        return
    with pytest.raises(Stop, match=r"holds float64.*takes FP32.*rounded.*--round"):
        read(path)


@pytest.mark.parametrize(
    ("datatype", "given", "bad"),
    [
        ("FP32", np.array([1, 2**24, 2**24 + 1]), [2]),
        ("FP32", np.array([2**63, 2**64 - 1, 1], np.uint64), [1]),
        ("INT32", np.array([2**31 - 1, 2**31, -(2**31)]), [1]),
        ("UINT8", np.array([255, 256, -1]), [1, 2]),
        ("INT64", np.array([2**63 - 1, 2**63, 0], np.uint64), [1]),
        ("UINT64", np.array([-1, 0, 1]), [0]),
        ("INT64", np.array([1.0, 1.5, np.nan, np.inf, 2.0**63, -(2.0**63)]), [1, 2, 3, 4]),
        ("BOOL", np.array([0, 1, 2]), [2]),
        ("FP16", np.array([1.0, 65504.0], np.float16).astype(np.int32), []),
    ],
)
def test_a_number_that_would_be_another_one_fails_its_row(
    tmp_path: Path, datatype: str, given: Array, bad: list[int]
) -> None:
    np.save(tmp_path / "x.npy", given)
    loaded = read(tmp_path / "x.npy", TensorSpec("x", datatype, (-1,)), size=10)
    assert reasons(loaded) == dict.fromkeys(bad, "value.changed")
    good = np.delete(given, bad)
    assert whole(loaded).tolist() == good.tolist()


def test_a_double_too_large_for_rounding_fails(tmp_path: Path) -> None:
    loaded = read(as_npy(tmp_path, np.array([[1e300, 1], [np.inf, np.nan]])), rounding=True)
    assert reasons(loaded) == {0: "value.changed"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "row.malformed"),
        ("[1, 2]", "row.malformed"),
        ('{"x": [1, 2], "x": [3, 4]}', "row.malformed"),
        ('{"y": [1, 2]}', "row.missing"),
        ('{"x": null}', "row.missing"),
        ('{"x": [1, null]}', "row.missing"),
        ('{"x": [1]}', "row.shape"),
        ('{"x": [[1], [1, 2]]}', "row.malformed"),
        ('{"x": ["1", 2]}', "row.malformed"),
        ('{"x": "text"}', "row.malformed"),
        ('{"x": {"a": 1}}', "row.malformed"),
        ('{"x": [1e400, 1]}', "value.changed"),
        ('{"x": [1e300, 1]}', "value.changed"),
        ('{"x": ' + "[" * 5000 + "]" * 5000 + "}", "row.malformed"),
        ("\xff", "row.malformed"),
    ],
    ids=lambda value: str(value)[:24].replace(" ", "") if value else "none",
)
def test_a_line_that_is_no_row_fails_alone(tmp_path: Path, line: str, reason: str) -> None:
    """2 of Cluster Serving: one corrupt record stopped the job."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"x": [1, 2]}\n' + line.encode("latin-1") + b'\n{"x": [NaN, "-Infinity"]}\n')
    loaded = read(path)
    assert reasons(loaded) == {1: reason}
    np.testing.assert_array_equal(whole(loaded), np.array([[1, 2], [np.nan, -np.inf]], np.float32))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1", "row.malformed"),
        ("1,2,3", "row.malformed"),
        ("1,", "row.missing"),
        ("1,x", "row.malformed"),
        ("1,1_0", "row.malformed"),
        ("1,inf", "row.malformed"),
        ("\u0663,1", "row.malformed"),
        ("1,1e400", "value.changed"),
        ("1," + "9" * 5000, "value.changed"),
    ],
    ids=["short", "long", "empty", "word", "underscore", "inf", "digit", "huge", "many"],
)
def test_a_record_that_is_no_row_fails_alone(tmp_path: Path, row: str, reason: str) -> None:
    (tmp_path / "in.csv").write_text(f"a,b\n1,2\n{row}\n3,4\n", encoding="utf-8")
    loaded = read(tmp_path / "in.csv", columns=("x=a,b",))
    assert reasons(loaded) == {1: reason}
    assert whole(loaded).tolist() == [[1, 2], [3, 4]]


def test_rows_of_several_sizes_are_asked_one_by_one(tmp_path: Path) -> None:
    spec = TensorSpec("x", "INT64", (-1, -1))
    path = tmp_path / "in.jsonl"
    path.write_text('{"x": [1]}\n{"x": [1, 2]}\n{"x": [3]}\n')
    assert reasons(read(path, spec)) == {1: "row.shape"}
    assert [each.inputs["x"].shape for each in read(path, spec, size=1)] == [(1, 1), (1, 2), (1, 1)]
    parquet = write_parquet(tmp_path / "in.parquet", {"x": [[1], [1, 2], [3]]})
    assert [each.inputs["x"].shape for each in read(parquet, spec, size=1)] == [(1, 1), (1, 2), (1, 1)]


def bad_npy(path: Path) -> Path:
    (path / "in.npy").write_bytes(b"\x93NUMPY nothing")
    return path / "in.npy"


def cut_npy(path: Path) -> Path:
    found = as_npy(path, values(range(100)))
    found.write_bytes(found.read_bytes()[:-8])
    return found


def objects(path: Path) -> Path:
    np.save(path / "in.npy", np.array([{}], object), allow_pickle=True)
    return path / "in.npy"


def packed_objects(path: Path) -> Path:
    np.savez(path / "in.npz", x=np.array([[{}, {}]], object))
    return path / "in.npz"


def bad_parquet(path: Path) -> Path:
    (path / "in.parquet").write_bytes(b"PAR1PAR1")
    return path / "in.parquet"


def bad_csv(path: Path) -> Path:
    (path / "in.csv").write_bytes(b'x\n"1\n')
    return path / "in.csv"


def empty_csv(path: Path) -> Path:
    (path / "in.csv").write_bytes(b"\n")
    return path / "in.csv"


def text(path: Path) -> Path:
    (path / "in.npy").write_text("hello")
    return path / "in.npy"


REFUSED: list[tuple[Callable[[Path], Path], str]] = [
    (bad_npy, r"is no \.npy file"),
    (cut_npy, r"is no \.npy file"),
    (objects, r"is no \.npy file"),
    (packed_objects, "holds Python objects"),
    (bad_parquet, "is no Parquet file"),
    (bad_csv, "cannot be read as CSV"),
    (empty_csv, "is empty; its first line has the names"),
    (text, r"is no \.npy file that can be read: (?!.*pickle)"),
    (lambda path: path / "none.npy", "there is no file"),
    (lambda path: as_npy(path, np.float32(1)), "is a single value"),
    (lambda path: as_npy(path, np.zeros((2, 3), np.float32)), "takes rows of 2, this one is of 3"),
    (lambda path: as_npy(path, np.array([["a", "b"]])), "holds text.*takes FP32"),
    (lambda path: as_npy(path, np.zeros((2, 2), np.complex64)), "holds complex64"),
    (lambda path: write_parquet(path / "in.parquet", {"y": [1]}), "has no column 'x'.*it has y.*--column x=COLUMN"),
    (lambda path: write_parquet(path / "in.parquet", {"x": [1]}), "is int64.*takes rows of 2"),
    (lambda path: write_parquet(path / "in.parquet", {"x": [["a", "b"]]}), "holds text"),
    (
        lambda path: write_parquet(path / "in.parquet", {"x": pa.array([[1, 2]], pa.list_(pa.timestamp("s")))}),
        r"holds timestamp\[ms\]",
    ),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_a_file_that_does_not_fit_is_refused_in_words(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(Stop, match=words):
        read(make(tmp_path))


@pytest.mark.parametrize("option", ["x", "x=", "=a", "x=a,,b"])
def test_a_column_option_that_says_nothing_is_refused(option: str) -> None:
    with pytest.raises(Stop, match="INPUT=COLUMN"):
        read_options([option])


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", {"a": [1], "b": [2]})
    for option, words in (
        ("x=a,c", "has no column 'c'"),
        ("y=a", "no input 'y'; it has x"),
        ("x=a,b,a", "takes rows of 2, and 3 columns"),
    ):
        with pytest.raises(Stop, match=words):
            read(path, columns=(option,))


def test_rows_of_a_model_that_takes_so_many_at_once(tmp_path: Path) -> None:
    contract = ModelContract((TensorSpec("x", "FP32", (4, 2)),), (TensorSpec("y", "FP32", (4, 2)),))
    source = open_source(as_npy(tmp_path, values(range(10))), Reading(contract=contract))
    loaded = [span.load() for span in spans(source, 4, 4)]
    assert reasons(loaded) == dict.fromkeys((8, 9), "rows.incomplete")


# --- and out again


def test_each_output_has_every_row(run_batch: Run, tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((50, 2)).astype(np.float32)
    x[3] = [np.nan, np.inf]
    source = as_npy(tmp_path, x)
    for name in ("out.npy", "out.npz", "out.parquet", "out.jsonl"):
        run_batch(source, name, rows=8)
    y = x + x
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), y)
    with np.load(tmp_path / "out.npz") as archive:
        np.testing.assert_array_equal(archive["y"], y)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.types == [pa.int64(), pa.list_(pa.float32(), 2)]
    np.testing.assert_array_equal(np.array(table["y"].to_pylist(), np.float32), y)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(50))
    assert lines[3]["outputs"]["y"] == ["NaN", "Infinity"]
    np.testing.assert_array_equal(np.array([line["outputs"]["y"] for line in lines]).astype(np.float32), y)


def test_failed_rows_leave_the_numbers_of_the_others_as_they_are(
    run_batch: Run, tmp_path: Path, jobs: FolderJobs
) -> None:
    x = values(range(20))
    x[5] *= -1
    jobs.refuse = negative
    for name in ("out.parquet", "out.jsonl"):
        run_batch(as_npy(tmp_path, x), name, rows=1)
    numbers = [row for row in range(20) if row != 5]
    assert pq.read_table(tmp_path / "out.parquet")["row"].to_pylist() == numbers
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == numbers


DTYPES = [name for name in DATATYPES if name != "BYTES"]


@pytest.mark.parametrize("name", DTYPES)
def test_every_datatype_goes_out_as_it_is(run_batch: Run, tmp_path: Path, jobs: FolderJobs, name: str) -> None:
    row = np.array([[0, 1, 1]]).astype(DATATYPES[name].dtype)
    jobs.answer = lambda inputs: {"row": np.repeat(row, len(inputs["x"]), axis=0)}
    contract = ModelContract((PAIR,), (TensorSpec("row", name, (-1, 3)),))
    source = as_npy(tmp_path, values(range(2)))
    for output in ("out.npz", "out.parquet"):
        run_batch(source, output, contract=contract)
    expected = row if name != "BF16" else np.zeros((1, 3), np.float32) + (row.astype(np.uint32) << 16).view(np.float32)
    with np.load(tmp_path / "out.npz") as archive:
        assert archive["row_number"].tolist() == [0, 1]
        assert archive["row"].dtype == expected.dtype
        assert np.array_equal(archive["row"], np.repeat(expected, 2, axis=0))
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("row").type == pa.list_(pa.from_numpy_dtype(expected.dtype), 3)
    assert table["row"].to_pylist()[0] == expected[0].tolist()


def test_bytes_go_out_as_bytes(run_batch: Run, tmp_path: Path, jobs: FolderJobs) -> None:
    words = np.empty(2, object)
    words[:] = [b"\xff\0", "ü".encode()]
    jobs.answer = lambda _inputs: {"y": words}
    contract = ModelContract((PAIR,), (TensorSpec("y", "BYTES", (-1,)),))
    source = as_npy(tmp_path, values(range(2)))
    for output in ("out.parquet", "out.jsonl"):
        run_batch(source, output, contract=contract)
    assert pq.read_table(tmp_path / "out.parquet")["y"].to_pylist() == words.tolist()
    lines = [json.loads(line)["outputs"]["y"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == [{"base64": "/wA="}, "ü"]
    with pytest.raises(Stop, match=r"is text, which \.npz does not hold"):
        run_batch(source, "out.npz", contract=contract)


def test_rows_that_differ_in_shape_go_where_they_can(run_batch: Run, tmp_path: Path, jobs: FolderJobs) -> None:
    jobs.answer = lambda inputs: {"y": np.zeros((1, int(inputs["x"][0, 0])), np.float32)}
    contract = ModelContract((PAIR,), (TensorSpec("y", "FP32", (-1, -1)),))
    source = as_npy(tmp_path, values(range(4)))
    run_batch(source, "out.parquet", contract=contract, rows=1)
    assert [len(row) for row in pq.read_table(tmp_path / "out.parquet")["y"].to_pylist()] == [0, 1, 2, 3]
    with pytest.raises(Stop, match=r"differ in shape.*NAME\.parquet"):
        run_batch(source, "out.npz", contract=contract, rows=1)


@pytest.mark.parametrize("name", ["out.csv", "out", "out.txt"])
def test_an_output_of_another_kind_is_refused_before_anything_is_asked(
    run_batch: Run, tmp_path: Path, jobs: FolderJobs, name: str
) -> None:
    with pytest.raises(Stop, match="ends with none of"):
        run_batch(as_npy(tmp_path, values(range(2))), name)
    assert jobs.events("accepted") == []
