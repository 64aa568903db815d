"""The text of a lock, and the page of reasons."""

from pathlib import Path

import pytest

from cloister.enclave.kinds import GATEWAY, REDIS, WORKER
from cloister.enclave.reasons import read_reasons
from cloister.enclave.tcb import lock_text, parse_lock
from cloister.errors import InvalidRequest

DIGEST = "0123456789abcdef" * 4
LOCK = f"""
[ours]
w-p--  cloister.seal
---g-  cloister/gateway/rest/openapi.json

[debian libssl3 3.0.19-1~deb12u2]
# hashlib
w---r  {DIGEST}  usr/lib/x86_64-linux-gnu/libssl.so.3

[wheel numpy 2.4.6]
# tensors
w----  {DIGEST}  numpy/__init__.py
"""
PAGE = """
later = [{ names = ["late"], kinds = "g", because = "asked for late" }]
absent = [{ names = ["gone"], kinds = "wr", because = "not wanted" }]
[wheels]
numpy = { kinds = "w", because = "tensors" }
[packages]
"""


def test_a_kind_carries_what_has_its_letter():
    lock = parse_lock(LOCK)
    assert lock.ours_of(WORKER) == ["cloister.seal"]
    assert lock.ours_of(GATEWAY) == ["cloister/gateway/rest/openapi.json"]
    assert [file.path for _, file in lock.files_of(REDIS)] == ["usr/lib/x86_64-linux-gnu/libssl.so.3"]
    assert [(part.origin, part.name, part.version, part.because) for part, _ in lock.files_of(WORKER)] == [
        ("debian", "libssl3", "3.0.19-1~deb12u2", "hashlib"),
        ("wheel", "numpy", "2.4.6", "tensors"),
    ]


def test_what_is_written_does_not_depend_on_the_order_of_what_was_found():
    lock = parse_lock(LOCK)
    reversed_text = "\n\n".join(reversed(LOCK.strip().split("\n\n")))
    assert lock_text(parse_lock(reversed_text)) == lock_text(lock)
    assert lock_text(lock).endswith(LOCK)


@pytest.mark.parametrize(
    "line",
    [
        "w----  numpy/__init__.py",
        f"w---- {DIGEST}  numpy/core.py",
        f"w----  {DIGEST[1:]}  numpy/core.py",
        "[egg numpy 1]",
    ],
)
def test_a_line_that_is_none_of_a_locks_is_named_by_its_number(line):
    with pytest.raises(InvalidRequest, match="line 13 "):
        parse_lock(LOCK + line)


def test_a_page_says_what_comes_late_and_what_is_left_out(tmp_path):
    reasons = read_reasons(page(tmp_path, PAGE))
    assert (reasons.later_of(GATEWAY), reasons.later_of(WORKER)) == (["late"], [])
    assert (reasons.absent_of(GATEWAY), reasons.absent_of(WORKER)) == ([], ["gone"])
    assert reasons.parts["wheel", "numpy"].kinds == {"worker"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [('because = "tensors"', 'because = ""'), ('kinds = "w", ', ""), ('kinds = "w"', 'kinds = "wz"')],
)
def test_a_wheel_without_a_reason_or_a_kind_is_refused_by_name(tmp_path, right, wrong):
    assert right in PAGE
    with pytest.raises(InvalidRequest, match=r"'numpy' in tcb\.toml needs a reason"):
        read_reasons(page(tmp_path, PAGE.replace(right, wrong)))


def page(folder: Path, text: str) -> Path:
    path = folder / "tcb.toml"
    path.write_text(text)
    return path
