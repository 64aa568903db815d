"""Calls that hang: whoever ends the process hears of them, whatever the event loop is held up by."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cloister.evidence.deadline import OneCall

SHORT_S = 0.02
WITHIN_S = 20.0


async def test_who_waits_hears_first_and_then_whoever_ends_the_process() -> None:
    answer, hung = threading.Event(), threading.Event()
    calls = OneCall("held", deadline_s=SHORT_S, hung=hung.set, grace_s=SHORT_S)
    with pytest.raises(TimeoutError):
        await calls.answer(answer.wait)
    assert await asyncio.to_thread(hung.wait, WITHIN_S)
    answer.set()


async def test_a_call_that_is_answered_does_not_hang_and_leaves_no_thread() -> None:
    hung, before = threading.Event(), set(threading.enumerate())
    calls = OneCall("quick", deadline_s=WITHIN_S, hung=hung.set)
    assert await calls.answer(lambda: 7) == 7
    for thread in set(threading.enumerate()) - before:
        thread.join(WITHIN_S / 2)
        assert not thread.is_alive()
    assert not hung.is_set()


@pytest.mark.attack("I12")
def test_a_process_whose_event_loop_the_host_holds_up_as_well_ends_and_says_why(tmp_path: Path) -> None:
    """As under Gramine, where a quote that does not come keeps every file from being opened."""
    (tmp_path / "attestation_type").write_bytes(b"dcap")
    (tmp_path / "user_report_data").write_bytes(bytes(64))
    os.mkfifo(tmp_path / "quote")
    script = (
        "import asyncio, pathlib, sys, time\n"
        "from cloister.evidence import deadline; deadline.OneCall.__init__.__kwdefaults__['grace_s'] = 0.2\n"
        "from cloister.evidence.gramine import GramineQuoter; from cloister.kit.lifecycle import abandon\n"
        "async def main():\n"
        "    quoter = GramineQuoter(pathlib.Path(sys.argv[1]), deadline_s=0.1, hung=abandon)\n"
        "    asyncio.get_running_loop().call_later(0.05, time.sleep, 300)\n"
        "    await quoter.quote(bytes(64))\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "quote.overdue" in done.stdout) == (1, True)
