"""One record per line, whatever is in it (J02)."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import linecache
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import NotFound
from cloister.kit import log

NASTY = 'x\n{"event":"forged"}\r\x1b[31m\u2028\u202e\x00" ,'


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    log.configure("tester", json=True, stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def records(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_record_says_when_how_bad_and_who(out: io.StringIO) -> None:
    log.get_logger().info("key.released", model="m")
    (record,) = records(out)
    assert datetime.fromisoformat(record.pop("time")).tzinfo is UTC
    assert record == {"level": "info", "service": "tester", "event": "key.released", "model": "m"}


def test_an_injection_stays_inside_its_value(out: io.StringIO) -> None:
    log.get_logger().warning("name.refused", name=NASTY, nested={"a": [NASTY]}, **{NASTY: 1})
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().isascii()
    assert "\x1b" not in out.getvalue()
    (record,) = records(out)
    assert record["name"] == NASTY
    assert record["nested"] == {"a": [NASTY]}
    assert record[NASTY] == 1


def test_a_megabyte_is_cut(out: io.StringIO) -> None:
    log.get_logger().info("e", text="x" * (1 << 20), **{"k" * 5000: list(range(1000))})
    assert len(out.getvalue()) < 3000
    (record,) = records(out)
    assert record["text"] == "x" * 1000 + "… (1048576 characters)"
    assert record["k" * 64][-1] == "<950 more>"


def test_bytes_are_shown_by_their_length(out: io.StringIO) -> None:
    log.get_logger().info("e", raw=b"s3cret-bytes", view=memoryview(b"abc"))
    assert records(out)[0]["raw"] == "<12 bytes>"
    assert "s3cret" not in out.getvalue()


def test_types_speak_through_their_repr_and_a_broken_one_does_no_harm(out: io.StringIO) -> None:
    class Secret:
        def __init__(self) -> None:
            self.value = "s3cret"

        def __repr__(self) -> str:
            return "<Secret>"

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    deep = {"x": {"y": {"z": {}}}}
    log.get_logger().info("e", a=Secret(), b=Broken(), c=float("nan"), d=1 << 5000, e=Path("/x"), f=deep)
    (record,) = records(out)
    assert (record["a"], record["b"], record["c"], record["e"]) == ("<Secret>", "<Broken>", "nan", "/x")
    assert record["d"] == "<integer of 5001 bits>"


def test_a_traceback_looks_for_no_file() -> None:
    """Source is the host's, if it is anywhere, and a host that does not answer would hold up who logs why it ends."""
    with pytest.raises(NotFound) as raised:
        raise NotFound("no such model")
    linecache.clearcache()
    assert log.trace_of(raised.value)[-1] == "NotFound: no such model"
    assert __file__ not in linecache.cache


def test_a_traceback_is_places_without_contents(out: io.StringIO) -> None:
    try:
        try:
            raise ValueError("s3cret request contents")
        except ValueError as inner:
            raise NotFound("no such model") from inner
    except NotFound:
        log.get_logger().exception("call.broken")
    (record,) = records(out)
    assert "NotFound: no such model" in record["trace"]
    assert "ValueError" in record["trace"]
    assert any(line.startswith("test_log.py:") for line in record["trace"])
    assert "s3cret" not in out.getvalue()


def test_libraries_log_the_same_way(out: io.StringIO) -> None:
    (handler,) = [handler for handler in logging.getLogger().handlers if type(handler).__module__ == log.__name__]
    for text, argument in (("lost %s", NASTY), ("bad %d", "format")):
        handler.emit(logging.LogRecord("grpc", logging.WARNING, "x.py", 1, text, (argument,), None))
    first, second = records(out)
    assert (first["event"], first["level"], first["logger"]) == ("library.logged", "warning", "grpc")
    assert first["message"] == f"lost {NASTY}"
    assert second["message"] == "bad %d"


def test_for_strangers_libraries_say_where_and_no_more(out: io.StringIO) -> None:
    log.configure("tester", stream=out, quote_libraries=False)
    logging.getLogger("a.library").warning("a tensor: %s", "s3cret")
    (record,) = records(out)
    assert record["place"].startswith("test_log.py:")
    assert "message" not in record
    assert "s3cret" not in out.getvalue()


def test_a_module_that_is_missing_is_named(out: io.StringIO) -> None:
    try:
        import no_such_module  # noqa: F401
    except ImportError as error:
        log.get_logger().error("service.failed", error=error)
    assert records(out)[0]["error"] == "ModuleNotFoundError: no_such_module"


async def broken() -> None:
    raise ValueError("s3cret tensor contents")


class Pool:
    """Something whose callback is given contents, and fails."""

    def completed(self, slot: str, outcome: dict[str, float]) -> None:
        raise KeyError(slot)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_an_event_loop_complains_of_is_shown_without_its_values(
    out: io.StringIO, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        task = asyncio.get_running_loop().create_task(broken())
        asyncio.get_running_loop().call_soon(Pool().completed, "s3cret slot", {"s3cret output": 3.14159})
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    gc.collect()
    assert "s3cret" not in out.getvalue()
    assert "3.14159" not in out.getvalue()
    found = {record["error"]: record for record in records(out)}
    assert found.keys() == {"ValueError", "KeyError"}
    for record in found.values():
        assert (record["event"], record["level"], record["logger"]) == ("library.logged", "error", "asyncio")
        assert "message" not in record
        assert any(line.startswith("test_log.py:") for line in record["trace"])


def test_what_asyncio_says_without_an_error_is_a_place(out: io.StringIO) -> None:
    logging.getLogger("asyncio").warning("Executing %s took %.3f seconds", "<Handle s3cret>", 0.2)
    (record,) = records(out)
    assert record["place"].startswith("test_log.py:")
    assert not {"message", "error", "trace"} & record.keys()
    assert "s3cret" not in out.getvalue()


def test_lower_levels_are_left_out(out: io.StringIO) -> None:
    log.configure("tester", level="error", stream=out)
    log.get_logger().info("x")
    log.get_logger().error("y")
    assert [record["event"] for record in records(out)] == ["y"]


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_console_line_is_one_line(key: str, value: str) -> None:
    line = log.as_text(log.tame({"time": "t", "level": "info", "event": "e", key: value}))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_a_console_line_reads_well() -> None:
    event = {"time": "2026-01-01T10:00:00.123", "level": "info", "event": "key.released", "model": "m", "n": 1}
    line = log.as_text(event)
    assert line == "2026-01-01T10:00:00 info    key.released  model=m  n=1"
