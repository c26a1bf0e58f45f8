"""One replica of a deployed model over all its lives: a server that crashes is started again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from google.api_core.exceptions import GoogleAPICallError, ServiceUnavailable

from emulator.core.interfaces import (
    ModelServer,
    ModelServerHandle,
    ModelServerRunner,
    OutputLine,
    ServerAnswer,
    ServerStream,
)

logger = logging.getLogger(__name__)

#: Pauses before a server is started again, doubling from the first to the longest.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
#: How long a request waits for a server that has not been up since the emulator began.
_PATIENCE_SECONDS = 30.0


class Replica:
    """A model server that is kept running from `deploy` or `resume` until `stop`."""

    def __init__(
        self, runner: ModelServerRunner, server: ModelServer, output: Callable[[Sequence[OutputLine]], None]
    ) -> None:
        self._runner = runner
        self._server = server
        self._output = output
        self._changed = threading.Condition()
        self._current: ModelServerHandle | None = None
        self._ready: ModelServerHandle | None = None
        self._was_ready = False
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def deploy(self, timeout_seconds: float, is_cancelled: Callable[[], bool]) -> None:
        """Start it, and wait until it is ready. Raises FailedPrecondition, Cancelled; nothing is left running then."""
        handle = self._start()
        try:
            handle.wait_until_ready(timeout_seconds, is_cancelled)
        except BaseException:
            self.stop()
            raise
        self._serve(handle)
        self._keep(handle, timeout_seconds)

    def resume(self, timeout_seconds: float) -> None:
        """Start it in the background, as often as it takes."""
        self._keep(None, timeout_seconds)

    def request(self, route: str, body: bytes, content_type: str, timeout_seconds: float) -> ServerAnswer:
        """Raises ServiceUnavailable while there is no server, and what `ModelServerHandle.request` raises."""
        return self._handle(timeout_seconds).request(route, body, content_type, timeout_seconds)

    def stream(
        self, route: str, body: bytes, content_type: str, timeout_seconds: float
    ) -> AbstractContextManager[ServerStream]:
        """The same with the answer as it comes, for the time of a `with`."""
        return self._handle(timeout_seconds).stream(route, body, content_type, timeout_seconds)

    def stop(self) -> None:
        """End it. Returns once its processes are gone; idempotent."""
        self._stopped.set()
        with self._changed:
            self._ready = None
            handle = self._current
            self._changed.notify_all()
        if handle is not None:
            handle.stop()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> ModelServerHandle:
        handle = self._runner.start(self._server, self._output)
        with self._changed:
            self._current = handle
        if self._stopped.is_set():
            handle.stop()
        return handle

    def _serve(self, handle: ModelServerHandle) -> None:
        with self._changed:
            if not self._stopped.is_set():
                self._ready = handle
                self._was_ready = True
                self._changed.notify_all()

    def _keep(self, handle: ModelServerHandle | None, timeout_seconds: float) -> None:
        self._thread = threading.Thread(
            target=self._supervise, args=(handle, timeout_seconds), name=f"keep {self._server.name}", daemon=True
        )
        self._thread.start()

    def _supervise(self, handle: ModelServerHandle | None, timeout_seconds: float) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            if handle is None:
                handle = self._start()
                try:
                    handle.wait_until_ready(timeout_seconds, self._stopped.is_set)
                    self._serve(handle)
                except GoogleAPICallError as error:
                    handle.stop()
                    if not self._stopped.is_set():
                        logger.warning("%s: %s", self._server.name, error.message)
            # A pause doubles while starts fail, and begins anew once one succeeded.
            pause = _FIRST_PAUSE_SECONDS if self._ready is handle else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            result = handle.wait()
            with self._changed:
                self._ready = None
                # Nobody waits for a server that keeps crashing.
                self._was_ready = True
            handle = None
            if not self._stopped.is_set():
                logger.warning(
                    "%s ended with %s; it is started again in %g s", self._server.name, result.exit_code, pause
                )
            self._stopped.wait(pause)

    def _handle(self, timeout_seconds: float) -> ModelServerHandle:
        return self._ready or self._wait_for_first(min(timeout_seconds, _PATIENCE_SECONDS))

    def _wait_for_first(self, seconds: float) -> ModelServerHandle:
        with self._changed:
            self._changed.wait_for(
                lambda: self._ready is not None or self._was_ready or self._stopped.is_set(), seconds
            )
            if self._ready is None:
                raise ServiceUnavailable("The model server is not available: it is being started again.")
            return self._ready
