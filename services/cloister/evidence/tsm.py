"""Quotes of a TDX trust domain from the kernel's trusted security module reports (configfs-tsm).

An entry below `/sys/kernel/config/tsm/report` is one request: report data in `inblob`, the quote in `outblob`, and in
`generation` how often the entry was written to. Three properties of the kernel shape this file (its documentation,
ABI/testing/configfs-tsm-report, and fs/configfs):

- What is written to `inblob` counts when the file is closed, and a refusal then is told to nobody. So `generation` is
  read before, and must have grown by one, and by no more, both before and after the quote is read. Where it has not,
  somebody else wrote to our entry: it is thrown away, and another one made.
- Names are shared by every process of the guest that may write there, so ours cannot be guessed.
- The host says how long the quote is that it put into a buffer of the kernel, and kernels before the fix of
  CVE-2026-31470 believe it: what comes after the buffer is the guest's own memory, and evidence is shown to strangers.
  No kernel has a smaller buffer than 8 KiB, a quote with its certificates takes five, and more is not taken.
- The kernel asks for one quote at a time, and waits up to half a minute for the host's quoting service. So we ask for
  one at a time (`deadline.py`), and whoever asks us hears within `deadline_s`.

`privlevel`, `auxblob` and `manifestblob` are of other technologies, and stay untouched.
"""

from __future__ import annotations

import errno
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Final

from cloister.errors import NotReady
from cloister.evidence.deadline import OneCall
from cloister.evidence.gramine import NO_ENCLAVE
from cloister.evidence.td_quote import MALFORMED, check_quoted

REPORTS: Final = Path("/sys/kernel/config/tsm/report")
PROVIDER: Final = "tdx_guest"
FAILED: Final = "quote.failed"
DEADLINE_S: Final = 45.0

_REPORT_DATA_BYTES: Final = 64
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 3.2
_MAX_TEXT_BYTES: Final = 64
_MAX_QUOTE_BYTES: Final = 8 * 1024 - 24  # the buffer less its header
_TRANSIENT: Final = frozenset({errno.EBUSY, errno.EINTR, errno.EAGAIN})
_NOT_THERE: Final = (
    "configfs-tsm is not there: it needs Linux 6.7 or newer with CONFIG_TSM_REPORTS, and configfs mounted at "
    "/sys/kernel/config"
)
_NO_DRIVER: Final = "no driver makes reports: this is no TDX guest, or its tdx_guest driver is not loaded"
_NOT_ALLOWED: Final = (
    f"this process may not make entries below {REPORTS}: run it as root, or as the owner of that folder"
)
_UNANSWERED: Final = "is its QGS running, and has QEMU been told where (quote-generation-socket)?"
_ABSENT: Final = {errno.ENOENT: _NOT_THERE, errno.ENXIO: _NO_DRIVER, errno.ENOTTY: _NO_DRIVER}
_ADVICE: Final = {
    **_ABSENT,
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ETIMEDOUT: f"the host's quoting service did not answer: {_UNANSWERED}",
    errno.EIO: "the host refused to make a quote: is its QGS running, and its platform registered?",
    errno.EBUSY: "another request for a quote was under way all the time, or the host's quoting service answers none",
}


class TsmQuoter:
    """Asks the guest's kernel, and through it the platform's quoting enclave.

    Args:
        reports: Where the kernel lets entries be made.
        deadline_s: How long to wait for a quote; the kernel itself gives up after 30 s.
        pause_s: How long to wait after the first refusal that may pass; doubled each time, up to some seconds.
    """

    def __init__(self, reports: Path = REPORTS, *, deadline_s: float = DEADLINE_S, pause_s: float = _PAUSE_S) -> None:
        self._reports = reports
        self._deadline_s = deadline_s
        self._pause_s = pause_s
        self._calls = OneCall("quote", deadline_s=deadline_s)

    async def quote(self, report_data: bytes) -> bytes:
        """Return a raw TDX quote over these 64 bytes.

        Raises:
            NotReady: This guest makes no quotes (`enclave.absent`); the kernel gave none (`quote.failed`), none in time
                (`quote.overdue`), or not the one that was asked for (`quote.malformed`, `quote.substituted`). The
                message says what to do.
        """
        if len(report_data) != _REPORT_DATA_BYTES:
            raise ValueError(f"report data is {_REPORT_DATA_BYTES} bytes")
        ends_at = time.monotonic() + self._deadline_s
        try:
            quote = await self._calls.answer(partial(self._quote, report_data, ends_at))
        except TimeoutError:
            raise NotReady(
                f"the host gave no quote within {self._deadline_s:g} s: {_UNANSWERED}", reason="quote.overdue"
            ) from None
        _check_size(quote)
        check_quoted(quote, report_data)
        return quote

    def _quote(self, report_data: bytes, ends_at: float) -> bytes:
        pause_s, meddled = self._pause_s, 0
        while meddled < _ATTEMPTS:
            try:
                quote = self._asked(report_data)
            except OSError as error:
                if error.errno not in _TRANSIENT or time.monotonic() + pause_s > ends_at:
                    raise _explained(error) from error
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            if quote is not None:
                return quote
            meddled += 1
        raise NotReady("another process of this guest writes to our requests for quotes", reason=FAILED)

    def _asked(self, report_data: bytes) -> bytes | None:
        """The quote for one entry; None where somebody else wrote to it."""
        entry = self._reports / f"cloister-{secrets.token_hex(16)}"
        entry.mkdir()
        try:
            _check_provider(_text(entry / "provider"))
            ours = _generation(entry) + 1
            (entry / "inblob").write_bytes(report_data)
            if _generation(entry) != ours:
                return None
            with (entry / "outblob").open("rb") as file:
                quote = file.read(_MAX_QUOTE_BYTES + 1)
            return quote if _generation(entry) == ours else None
        finally:
            entry.rmdir()


def _check_provider(provider: str) -> None:
    if provider != PROVIDER:
        raise NotReady(
            f"this guest's reports are made by '{provider}', not by {PROVIDER}: it is no TDX trust domain",
            reason=NO_ENCLAVE,
        )


def _check_size(quote: bytes) -> None:
    if len(quote) > _MAX_QUOTE_BYTES:
        raise NotReady(
            "the host says that its quote is longer than the kernel's buffer for it, so what follows is this guest's "
            "own memory: nothing of it is used; does the kernel lack the fix of CVE-2026-31470?",
            reason=MALFORMED,
        )


def _generation(entry: Path) -> int:
    text = _text(entry / "generation")
    if not text.isdecimal():
        raise NotReady("the kernel's count of writes to a request is no number", reason=FAILED)
    return int(text)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_TEXT_BYTES).decode("ascii", "replace").strip()


def _explained(error: OSError) -> NotReady:
    """What an error of the kernel means here, and what to do."""
    code = error.errno or 0
    advice = _ADVICE.get(code, "the kernel gave none")
    return NotReady(
        f"no TDX quote: {advice} ({errno.errorcode.get(code, code)})",
        reason=NO_ENCLAVE if code in _ABSENT else FAILED,
    )
