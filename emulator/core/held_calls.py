"""Calls that wait for the end of what they ask about, for clients that would otherwise come back much later.

Google Cloud Pipeline Components look at a job, or at the operation that they have started, once and then every 20 s.
Told the state a moment after the start, they make each step of a pipeline as long as that, so they are answered when
it is over. Everybody else is answered at once: who looks at a state wants to see it as it is.
"""

from __future__ import annotations

import threading
import time

from emulator.core.service import Context

#: Held at a time: a quarter of the server's threads, so that other calls always find one.
MOST_HELD = 8
#: Less than any deadline of these clients, and than a proxy's patience.
LONGEST_SECONDS = 30.0
_CLIENT = "google-cloud-pipeline-components"
#: Left of a call's own deadline for the answer.
_MARGIN_SECONDS = 1.0
_LOOK_SECONDS = 0.5


class HeldCalls:
    """The places for calls that wait."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._places = threading.BoundedSemaphore(most)

    def hold(self, context: Context, over: threading.Event | None) -> None:
        """Wait until the event, the call's end, or the limit; not at all for another client or with no place left.

        over: None for what is over already.
        """
        if over is None or not comes_back_late(context) or not self._places.acquire(blocking=False):
            return
        try:
            own = context.seconds_left()
            patience = LONGEST_SECONDS if own is None else min(LONGEST_SECONDS, own - _MARGIN_SECONDS)
            deadline = time.monotonic() + patience
            while context.is_active() and (left := deadline - time.monotonic()) > 0:
                if over.wait(min(left, _LOOK_SECONDS)):
                    return
        finally:
            self._places.release()


def comes_back_late(context: Context) -> bool:
    """Whether the client is one that polls in long intervals; it says so in its headers."""
    return _CLIENT in context.headers.get("x-goog-api-client", "") + context.headers.get("user-agent", "")
