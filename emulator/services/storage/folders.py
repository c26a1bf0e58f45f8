"""Cloud Storage: folders, which only buckets with a hierarchical namespace have.

Such buckets are kept and shown; their folders are not emulated. Others answer as the service does.
Source: https://cloud.google.com/storage/docs/json_api/v1/folders
"""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import Conflict

from emulator.core.coverage import shape
from emulator.core.service import Context, DiscoveryService, JsonRequest, not_emulated
from emulator.services.storage.managed_folders import is_hierarchical
from emulator.services.storage.store import ObjectFiles


class Folders(DiscoveryService):
    api = "storage.v1"
    resource = "folders"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    @shape
    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        raise self._refusal(request, context)

    @shape
    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        raise self._refusal(request, context)

    @shape
    def insert(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        raise self._refusal(request, context)

    @shape
    def delete(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        raise self._refusal(request, context)

    @shape
    def rename(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        raise self._refusal(request, context)

    @shape
    def delete_recursive(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        raise self._refusal(request, context)

    def _refusal(self, request: JsonRequest, context: Context) -> Exception:
        if is_hierarchical(self._store.bucket(request.parameters["bucket"])):
            return not_emulated(context.method, type(self))
        return Conflict("The bucket does not support hierarchical namespace.")
