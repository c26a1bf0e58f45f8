"""A running server, asked again and again whether it is well.

Health: after so many failures in a row it gets no requests until it is well again. Liveness: after so many it is
ended, so that it is started anew.
Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from emulator.core.interfaces import Probe
from emulator.runners.http_client import AnswerTooLarge, HttpClient

logger = logging.getLogger(__name__)


class Prober:
    """Asks from one thread, from `start` until `stop`."""

    def __init__(
        self, name: str, client: HttpClient, health: Probe, liveness: Probe, on_dead: Callable[[str], None]
    ) -> None:
        """on_dead: told once, in a sentence, when the liveness probe has failed too often."""
        self._name = name
        self._client = client
        self._health = health
        self._liveness = liveness
        self._on_dead = on_dead
        self._stopped = threading.Event()
        self.is_healthy = True

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"probe {self._name}", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        began = time.monotonic()
        health = _Counted(self._health, began)
        liveness = _Counted(self._liveness, began)
        while not self._stopped.wait(max(0.0, min(health.due, liveness.due) - time.monotonic())):
            if time.monotonic() >= health.due:
                health.note(ask(self._client, self._health))
                if self.is_healthy != health.is_well:
                    self.is_healthy = health.is_well
                    state = "is well again" if health.is_well else "gets no requests: its health probe fails"
                    logger.warning("%s %s", self._name, state)
            if time.monotonic() >= liveness.due:
                liveness.note(ask(self._client, self._liveness))
                if not liveness.is_well and not self._stopped.is_set():
                    count = self._liveness.failure_threshold
                    self._on_dead(f"Its liveness probe failed {count} times in a row.")
                    return


class _Counted:
    """Results of one probe: well or not changes after so many of a kind in a row."""

    def __init__(self, probe: Probe, began: float) -> None:
        self._probe = probe
        self.due = began + max(probe.initial_delay_seconds, probe.period_seconds)
        self.is_well = True
        self._contrary = 0

    def note(self, succeeded: bool) -> None:
        self.due = time.monotonic() + self._probe.period_seconds
        self._contrary = 0 if succeeded == self.is_well else self._contrary + 1
        needed = self._probe.failure_threshold if self.is_well else self._probe.success_threshold
        if self._contrary >= needed:
            self.is_well = succeeded
            self._contrary = 0


def ask(client: HttpClient, probe: Probe, timeout_seconds: float | None = None) -> bool:
    """Whether one probe succeeds: Kubernetes takes every status from 200 to 399 of a GET."""
    timeout = min(probe.timeout_seconds, timeout_seconds or probe.timeout_seconds)
    with contextlib.suppress(OSError, ValueError, AnswerTooLarge):
        if probe.path is None:
            client.touch(timeout)
            return True
        return 200 <= client.request("GET", probe.path, b"", "", timeout).status < 400
    return False
