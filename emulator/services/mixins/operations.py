"""google.longrunning.Operations: the operations of every API, under whichever of their names."""

from __future__ import annotations

import threading
from typing import Any

from google.api_core.exceptions import InvalidArgument
from selfloop_apis import longrunning, protobuf

from emulator.core.operations import Operations
from emulator.core.pagination import page
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService

#: How long a wait holds a thread at most, and how many may hold one at once; beyond that a wait is a get.
LONGEST_WAIT_SECONDS = 60.0
MOST_WAITS = 8


class OperationsService(GapicService):
    api = "google.longrunning.Operations"

    def __init__(self, operations: Operations, projects: Projects) -> None:
        self._operations = operations
        self._projects = projects
        self._waits = threading.BoundedSemaphore(MOST_WAITS)

    def get_operation(self, request: Any, context: Context) -> Any:
        return self._operations.get(request.name)

    def list_operations(self, request: Any, context: Context) -> Any:
        """Operations of a resource and of everything below it, newest first; filter: `done=true` or `done=false`."""
        parent = self._projects.canonical(request.name.removesuffix("/operations"))
        found = page(self._operations.below(parent), request, longrunning.Operation, filterable=("done", "name"))
        return longrunning.ListOperationsResponse(operations=found.items, next_page_token=found.next_page_token)

    def cancel_operation(self, request: Any, context: Context) -> Any:
        self._operations.cancel(request.name)
        return protobuf.Empty()

    def delete_operation(self, request: Any, context: Context) -> Any:
        self._operations.delete(request.name)
        return protobuf.Empty()

    def wait_operation(self, request: Any, context: Context) -> Any:
        """The operation once done, or as it is when the timeout or the call's own deadline is near."""
        operation = self._operations.get(request.name)
        seconds = LONGEST_WAIT_SECONDS
        if request.HasField("timeout"):
            seconds = request.timeout.seconds + request.timeout.nanos / 1e9
            if seconds < 0:
                raise InvalidArgument("timeout must not be negative")
        left = context.seconds_left()
        if left is not None:
            # A little is kept for the way back.
            seconds = min(seconds, left - 0.2)
        if operation.done or seconds <= 0 or not self._waits.acquire(blocking=False):
            return operation
        try:
            return self._operations.wait(operation.name, min(seconds, LONGEST_WAIT_SECONDS), context.is_active)
        finally:
            self._waits.release()
