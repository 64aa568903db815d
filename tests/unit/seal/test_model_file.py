from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal.keys import Secret
from cloister.seal.model_file import OpenModel, SealedModel, digest_of, open_model, read_header, seal_model
from cloister.seal.model_header import MAGIC, MIN_CHUNK_BYTES, PREFIX_BYTES, TAG_BYTES, Header
from fakes.sealed import flipped, unhurried

_KEY = Secret(b"k" * 32)
_CHUNK = MIN_CHUNK_BYTES


def _seal(
    files: dict[str, bytes], key: Secret = _KEY, *, name: str = "resnet", version: int = 1
) -> tuple[SealedModel, bytes]:
    out = io.BytesIO()
    streams = {inner: io.BytesIO(content) for inner, content in files.items()}
    sealed = seal_model(streams, out, _KEY, name="resnet", version=1, chunk_bytes=_CHUNK)
    return sealed, out.getvalue()


def _open(raw: bytes, digest: bytes, key: Secret = _KEY, *, name: str = "resnet", version: int = 1) -> OpenModel:
    return open_model(io.BytesIO(raw), key, name=name, version=version, digest=digest)


_SEALED, _RAW = _seal({"model.xml": b"<net/>" * 400, "model.bin": bytes(range(256)) * 40})  # four chunks
_HEAD = len(_SEALED.header.encode())


@unhurried
@given(
    st.dictionaries(
        st.sampled_from(["a", "b.bin", "dir/c", "dir/d.xml"]),
        st.sampled_from([0, 1, _CHUNK - 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK, 10_000]).map(lambda n: b"\xa5" * n),
        min_size=1,
    ).filter(lambda files: any(files.values()))
)
def test_what_is_sealed_opens(files: dict[str, bytes]) -> None:
    sealed, raw = _seal(files)
    assert len(raw) == sealed.size_bytes
    assert digest_of(io.BytesIO(raw)) == sealed.digest
    model = _open(raw, sealed.digest)
    assert {name: bytes(view) for name, view in model.files.items()} == files
    assert all(view.readonly for view in model.files.values())
    assert "a5a5" not in repr(model)


def test_files_are_read_from_paths(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"w" * 9000)
    out, steps = io.BytesIO(), []
    sealed = seal_model(
        {"w": path}, out, _KEY, name="resnet", version=1, chunk_bytes=_CHUNK, progress=lambda *step: steps.append(step)
    )
    assert bytes(_open(out.getvalue(), sealed.digest).files["w"]) == b"w" * 9000
    assert steps == [(4096, 9000), (8192, 9000), (9000, 9000)]


@pytest.mark.attack("F06")
@unhurried
@given(st.integers(0, len(_RAW) * 8 - 1))
@example(0)
@example(len(MAGIC) * 8)
@example(PREFIX_BYTES * 8)
@example(_HEAD * 8)
@example(len(_RAW) * 8 - 1)
def test_no_changed_bit_opens(bit: int) -> None:
    with pytest.raises(SealBroken):
        _open(flipped(_RAW, bit), _SEALED.digest)


@unhurried
@given(st.integers(0, len(_RAW) - 1))
def test_no_part_opens(length: int) -> None:
    with pytest.raises(SealBroken):
        _open(_RAW[:length], _SEALED.digest)
    with pytest.raises(SealBroken):
        digest_of(io.BytesIO(_RAW[:length]))


@pytest.mark.attack("F07")
@unhurried
@given(st.binary(min_size=1, max_size=5000))
def test_nothing_may_follow(tail: bytes) -> None:
    with pytest.raises(SealBroken):
        _open(_RAW + tail, _SEALED.digest)
    with pytest.raises(SealBroken):
        digest_of(io.BytesIO(_RAW + tail))


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw: bytes) -> None:
    for start in (raw, MAGIC + raw, MAGIC + len(raw).to_bytes(4, "big") + raw):
        with pytest.raises(SealBroken):
            _open(start, bytes(32))


def _sealed_chunks(raw: bytes) -> list[bytes]:
    step = _CHUNK + TAG_BYTES
    return [raw[begin : begin + step] for begin in range(_HEAD, len(raw), step)]


@pytest.mark.attack("F06")
@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 0, 2, 3), (0, 1, 2), (0, 1, 2, 3, 3), (3,), (0, 1, 1, 2, 3)])
def test_chunks_stay_in_their_order(order: tuple[int, ...]) -> None:
    chunks = _sealed_chunks(_RAW)
    assert len(chunks) == 4
    with pytest.raises(SealBroken):
        _open(_RAW[:_HEAD] + b"".join(chunks[i] for i in order), _SEALED.digest)


@pytest.mark.attack("F06")
def test_a_chunk_of_another_file_under_the_same_key_does_not_fit() -> None:
    _, other = _seal({"model.xml": b"<net/>" * 400, "model.bin": bytes(range(256)) * 40})
    assert len(other) == len(_RAW)
    for index in range(4):
        chunks = _sealed_chunks(_RAW)
        chunks[index] = _sealed_chunks(other)[index]
        with pytest.raises(SealBroken):
            _open(_RAW[:_HEAD] + b"".join(chunks), _SEALED.digest)


@pytest.mark.attack("F06")
def test_another_key_name_version_or_digest_does_not_open() -> None:
    with pytest.raises(SealBroken):
        _open(_RAW, _SEALED.digest, Secret(b"x" * 32))
    with pytest.raises(SealBroken):
        _open(_RAW, _SEALED.digest, name="bert")
    with pytest.raises(SealBroken):
        _open(_RAW, _SEALED.digest, version=2)
    with pytest.raises(SealBroken):
        _open(_RAW, flipped(_SEALED.digest, 0))
    with pytest.raises(SealBroken):
        open_model(io.BytesIO(_RAW), _KEY, name="resnet", version=1, digest=_SEALED.digest, max_bytes=1000)


@pytest.mark.attack("F06")
def test_a_renamed_header_does_not_open() -> None:
    renamed = _RAW.replace(b'"name":"resnet"', b'"name":"resnot"', 1)
    with pytest.raises(SealBroken):
        _open(renamed, digest_of(io.BytesIO(renamed)), name="resnot")


def test_a_length_is_not_believed_before_a_chunk_has_vouched_for_it() -> None:
    members = json.loads(_RAW[PREFIX_BYTES:_HEAD])
    members["files"] = [["model.xml", 1 << 40]]
    header = json.dumps(members, separators=(",", ":")).encode()
    raw = MAGIC + len(header).to_bytes(4, "big") + header + _RAW[_HEAD:]
    tracemalloc.start()
    try:
        with pytest.raises(SealBroken):
            open_model(io.BytesIO(raw), _KEY, name="resnet", version=1, digest=_SEALED.digest, max_bytes=1 << 50)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_sealing_holds_one_chunk(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(8 << 20))
    with (tmp_path / "out").open("wb") as out:
        tracemalloc.start()
        try:
            seal_model({"big": path}, out, _KEY, name="resnet", version=1, chunk_bytes=64 << 10)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        {"file_id": "00"},
        {"salt": "zz" * 32},
        {"salt": "00" * 31},
        {"chunk_bytes": 0},
        {"chunk_bytes": 1 << 30},
        {"chunk_bytes": True},
        {"chunk_bytes": 4096.0},
        {"name": "UP"},
        {"version": True},
        {"files": []},
        {"files": [["a", 0]]},
        {"files": [["a", -5]]},
        {"files": [["a", True]]},
        {"files": [["a", 1 << 200]]},
        {"files": [["../a", 5]]},
        {"files": [["a", 5], ["a", 5]]},
        {"files": [["a"]]},
        {"files": "a"},
        {"more": 1},
    ],
)
def test_a_malformed_header_is_refused(change: dict[str, object]) -> None:
    header = json.dumps({**json.loads(_RAW[PREFIX_BYTES:_HEAD]), **change}, separators=(",", ":")).encode()
    with pytest.raises(SealBroken):
        read_header(io.BytesIO(MAGIC + len(header).to_bytes(4, "big") + header))


@pytest.mark.parametrize("header", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 9000, b" " * 300_000])
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(SealBroken):
        read_header(io.BytesIO(MAGIC + len(header).to_bytes(4, "big") + header))


def test_reading_the_header_stops_before_the_first_chunk() -> None:
    source = io.BytesIO(_RAW)
    header = read_header(source)
    assert isinstance(header, Header)
    assert (header, source.tell()) == (_SEALED.header, _HEAD)


class _Moving(io.BytesIO):
    """A file whose length is not what it says: it is written to while it is read."""

    def __init__(self, content: bytes, said: int) -> None:
        super().__init__(content)
        self._said = said

    def seek(self, offset: int, whence: int = 0, /) -> int:
        super().seek(offset, whence)
        return self._said if whence == 2 else offset


@pytest.mark.parametrize("said", [999, 1001, 4096, 9000])
def test_a_file_that_changes_while_it_is_sealed_is_refused(said: int) -> None:
    with pytest.raises(InvalidRequest, match="while"):
        seal_model({"a": _Moving(b"x" * 1000, said)}, io.BytesIO(), _KEY, name="resnet", version=1)


@pytest.mark.parametrize("wrong", [{"name": "UP"}, {"version": 0}, {"chunk_bytes": 100}, {"chunk_bytes": 1 << 25}])
def test_what_cannot_be_is_not_sealed(wrong: dict[str, object]) -> None:
    arguments = {"name": "resnet", "version": 1, **wrong}
    out = io.BytesIO()
    with pytest.raises(InvalidRequest):
        seal_model({"a": io.BytesIO(b"x")}, out, _KEY, **arguments)  # type: ignore[arg-type]  # one wrong argument
    for files in ({}, {"a": io.BytesIO()}, {"../a": io.BytesIO(b"x")}):
        with pytest.raises(InvalidRequest):
            seal_model(files, out, _KEY, name="resnet", version=1)
    assert out.getvalue() == b""
