"""The wire between hosts: every frame of theirs goes through here, later than it was sent, or not at all.

    python -m chaos.wire WEATHER TAP...     as root

Makes the taps, and forwards between them as `WEATHER` says: each frame after a delay that varies, some never, and none
to or from a host whose cable is out. `tc netem` does that in kernels that have it; many have not, and this needs only
/dev/net/tun. Orders come as lines of JSON on standard input, and each is answered with a line when it holds:
`{"dark": [0, 3]}` names the taps whose cable is out from now on. Ends with its input, and says what it has carried.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

TUN = "/dev/net/tun"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_IPV4, _ARP = b"\x08\x00", b"\x08\x06"
FRAME_BYTES = 2048
TURN_FRAMES = 64
"""Read from one tap before the others have their turn."""
QUEUE_FRAMES = 20_000
"""Under way at most; beyond, frames are lost, as in any switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What becomes of frames.

    Attributes:
        delay_ms: Of each frame, one way, and it varies by up to `jitter_ms` more or less; none overtakes another.
        loss: Share that is lost.
    """

    delay_ms: float = 1.0
    jitter_ms: float = 0.5
    loss: float = 0.003
    seed: int = 1


@dataclass(slots=True)
class Wire:
    """Frames under way.

    Args:
        weather: As it is.
        ends: A descriptor for each tap; the last byte of a host's hardware address is its place here.

    Attributes:
        dark: Taps whose cable is out.
        carried: Frames that arrived.
        lost: By chance.
        swallowed: By a cable that was out.
    """

    weather: Weather
    ends: Sequence[int]
    dark: frozenset[int] = frozenset()
    carried: int = 0
    lost: int = 0
    swallowed: int = 0
    _draw: random.Random = field(init=False)
    _queue: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    _last_due_s: dict[tuple[int, int], float] = field(default_factory=dict)
    _number: int = 0

    def __post_init__(self) -> None:
        self._draw = random.Random(self.weather.seed)

    @property
    def next_due_s(self) -> float | None:
        """When the next frame arrives; None while none is under way."""
        return self._queue[0][0] if self._queue else None

    def take(self, source: int, frame: bytes, now_s: float) -> None:
        """A frame has left a host."""
        if frame[12:14] not in (_IPV4, _ARP):
            return
        others = [at for at in range(len(self.ends)) if at != source]
        for target in others if frame[0] & 1 else [frame[5]]:
            if source in self.dark or target in self.dark:
                self.swallowed += 1
            elif (
                target >= len(self.ends) or len(self._queue) >= QUEUE_FRAMES or self._draw.random() < self.weather.loss
            ):
                self.lost += 1
            else:
                self._send(source, target, frame, now_s)

    def deliver(self, now_s: float) -> None:
        """Hand over whatever is due; what was under way when a cable came out is gone too."""
        while self._queue and self._queue[0][0] <= now_s:
            _, _, target, frame = heapq.heappop(self._queue)
            if target in self.dark:
                self.swallowed += 1
                continue
            try:
                os.write(self.ends[target], frame)
                self.carried += 1
            except OSError:  # that interface is not up, or its queue is full
                self.lost += 1

    def _send(self, source: int, target: int, frame: bytes, now_s: float) -> None:
        if len(self._queue) >= QUEUE_FRAMES:
            self.lost += 1
            return
        weather = self.weather
        delay_ms = weather.delay_ms + self._draw.uniform(-weather.jitter_ms, weather.jitter_ms)
        due_s = max(now_s + delay_ms / 1000, self._last_due_s.get((source, target), 0.0))
        self._last_due_s[source, target] = due_s
        self._number += 1
        heapq.heappush(self._queue, (due_s, self._number, target, frame))


def tap(name: str) -> int:
    """A new tap; it is there for as long as its descriptor is open, in whichever namespace it is put."""
    descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor


def run(wire: Wire) -> None:
    """Until standard input ends."""
    sources = {end: at for at, end in enumerate(wire.ends)}
    orders = sys.stdin.fileno()
    while True:
        due_s = wire.next_due_s
        wait_s = None if due_s is None else max(0.0, due_s - time.monotonic())
        ready, _, _ = select.select([orders, *sources], [], [], wait_s)
        for descriptor in ready:
            if descriptor != orders:
                _read(wire, sources[descriptor], descriptor)
            elif line := sys.stdin.readline():
                wire.dark = frozenset(json.loads(line)["dark"])
                print("done", flush=True)
            else:
                return
        wire.deliver(time.monotonic())


def _read(wire: Wire, source: int, descriptor: int) -> None:
    for _ in range(TURN_FRAMES):
        try:
            frame = os.read(descriptor, FRAME_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the interface was taken down
            return
        wire.take(source, frame, time.monotonic())


def main(words: Sequence[str]) -> None:
    """The program."""
    weather, names = Weather(**json.loads(words[0])), words[1:]
    with suppress(PermissionError):  # of a container without SYS_NICE
        os.nice(-10)  # a switch does not wait for the hosts' processors
    wire = Wire(weather, [tap(name) for name in names])
    print("ready", flush=True)
    run(wire)
    print(json.dumps({"carried": wire.carried, "lost": wire.lost, "swallowed": wire.swallowed, **asdict(weather)}))


if __name__ == "__main__":
    main(sys.argv[1:])
