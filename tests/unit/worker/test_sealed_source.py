"""A sealed model as a hostile host serves it: what the owner sealed, or an error, and never a wait or a crash."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.errors import CloisterError, NotReady, SealBroken
from cloister.seal.keys import Secret
from cloister.seal.model_file import open_model, seal_model
from cloister.worker.sealed_source import SealedSource, sealed_source
from fakes.hostile_files import KINDS, HostileFile, in_its_place

KEY = Secret(bytes(range(32)))
CONTENT = os.urandom(20_000)
CHUNK_BYTES = 4096


def sealed(content: bytes = CONTENT) -> tuple[bytes, bytes]:
    """A sealed model of one file, in five chunks; its bytes and its digest."""
    out = io.BytesIO()
    made = seal_model({"m.onnx": io.BytesIO(content)}, out, KEY, name="m", version=1, chunk_bytes=CHUNK_BYTES)
    return out.getvalue(), made.digest


RAW, DIGEST = sealed()
OTHER, _ = sealed(os.urandom(20_000))


def opened(file: HostileFile) -> bytes:
    source = SealedSource(file, len(RAW))
    model = open_model(source, KEY, name="m", version=1, digest=DIGEST, max_bytes=len(RAW))
    return bytes(model.files["m.onnx"])


def swapped(content: bytes, at_read: int) -> Callable[[HostileFile, int], None]:
    def swap(file: HostileFile, read: int) -> None:
        if read == at_read:
            file.content = content

    return swap


@pytest.mark.attack("I01")
@pytest.mark.parametrize("most_bytes", [1, 7, 4095, 4096, 4112, 1 << 20])
def test_short_reads_give_the_model(most_bytes: int) -> None:
    assert opened(HostileFile(RAW, most_bytes)) == CONTENT


@pytest.mark.attack("I01")
@pytest.mark.parametrize("at_read", range(8))
def test_a_file_changed_between_reads_never_opens(at_read: int) -> None:
    """Between header and first chunk, or before any chunk, another model under the same key takes its place."""
    changed = HostileFile(RAW, before=swapped(OTHER, at_read))
    if at_read == 7:  # all is read by then: prefix, header, five chunks
        assert opened(changed) == CONTENT
    else:
        with pytest.raises(SealBroken):
            opened(changed)


@pytest.mark.attack("I01")
@pytest.mark.parametrize("left_bytes", [0, 5, 12, 200, 4500, len(RAW) - 1])
@pytest.mark.parametrize("at_read", [0, 1, 2, 4])
def test_a_file_truncated_while_it_is_read_is_said_to_be_another(left_bytes: int, at_read: int) -> None:
    with pytest.raises(NotReady) as raised:
        opened(HostileFile(RAW, before=swapped(RAW[:left_bytes], at_read)))
    assert raised.value.reason == "model.other"


@pytest.mark.attack("I01")
def test_a_file_that_goes_on_where_it_must_end_is_said_to_be_another() -> None:
    for more in (b"\0", RAW):
        with pytest.raises(NotReady) as raised:
            opened(HostileFile(RAW + more))
        assert raised.value.reason == "model.other"


@pytest.mark.attack("I01")
@pytest.mark.parametrize(
    "said",
    [lambda _got: -1, lambda _got: None, lambda got: got + 1, lambda _got: 1 << 62],
    ids=["less than nothing", "none", "one too many", "far too many"],
)
def test_a_read_of_an_impossible_length_is_an_error(said: Callable[[int], int | None]) -> None:
    with pytest.raises(NotReady) as raised:
        opened(HostileFile(RAW, said=said))
    assert raised.value.reason == "model.unreadable"


@pytest.mark.attack("I01")
@pytest.mark.parametrize("error", [InterruptedError(4, "EINTR"), OSError(5, "EIO"), PermissionError(1, "EPERM")])
@pytest.mark.parametrize("at_read", [0, 1, 3])
def test_a_read_that_fails_is_an_error_of_ours_which_ends_no_worker(error: OSError, at_read: int) -> None:
    def fail(_file: HostileFile, read: int) -> None:
        if read == at_read:
            raise error

    with pytest.raises(CloisterError) as raised:
        opened(HostileFile(RAW, before=fail))
    assert raised.value.reason == "model.unreadable"


@pytest.mark.attack("I01")
def test_lengths_are_checked_where_a_source_does_not_check_them() -> None:
    for got in (-1, 1 << 40):
        with pytest.raises(SealBroken):
            open_model(HostileFile(RAW, said=lambda _got, got=got: got), KEY, name="m", version=1, digest=DIGEST)


@pytest.mark.attack("F07")
@pytest.mark.attack("I01")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.sealed"
    in_its_place(path, kind)
    with pytest.raises(NotReady) as raised, sealed_source(path, 10):
        pass
    assert raised.value.reason in ("model.missing", "model.other")


@pytest.mark.attack("I01")
def test_a_file_replaced_after_it_was_opened_is_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "model.sealed"
    path.write_bytes(RAW)
    with sealed_source(path, len(RAW)) as source:
        (tmp_path / "new").write_bytes(OTHER)
        (tmp_path / "new").replace(path)
        model = open_model(source, KEY, name="m", version=1, digest=DIGEST)
    assert bytes(model.files["m.onnx"]) == CONTENT


@pytest.mark.attack("I01")
def test_a_size_that_the_host_tells_wrongly_keeps_no_model_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under Gramine, where a file that was copied slowly keeps the size that it had at the first look."""
    path = tmp_path / "model.sealed"
    path.write_bytes(RAW)
    true = os.fstat

    def lying(descriptor: int) -> os.stat_result:
        fields = list(true(descriptor))
        fields[6] = 3
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", lying)
    with sealed_source(path, len(RAW)) as source:
        assert bytes(open_model(source, KEY, name="m", version=1, digest=DIGEST).files["m.onnx"]) == CONTENT
