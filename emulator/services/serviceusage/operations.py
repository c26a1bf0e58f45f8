"""Service Usage: the operations that enable and disable services."""

from __future__ import annotations

from typing import Any

from emulator.core.service import Context, DiscoveryService, JsonRequest
from emulator.services.serviceusage.state import UsageState


class UsageOperations(DiscoveryService):
    api = "serviceusage.v1"
    resource = "operations"

    def __init__(self, state: UsageState) -> None:
        self._state = state

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._state.operation(request.get("name"))
