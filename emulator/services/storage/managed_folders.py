"""Cloud Storage: managed folders, which `gcloud storage rm --recursive` asks for.

Source: https://cloud.google.com/storage/docs/json_api/v1/managedFolder
"""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import NotFound

from emulator.core.coverage import shape
from emulator.core.service import Context, DiscoveryService, JsonRequest
from emulator.services.storage.store import ObjectFiles


class ManagedFolders(DiscoveryService):
    """Those of a bucket: none, as long as `insert` is not emulated."""

    api = "storage.v1"
    resource = "managedFolders"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    @shape
    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        self._store.bucket(request.parameters["bucket"])
        raise NotFound("The specified managed folder does not exist.")

    @shape
    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        self._store.bucket(request.parameters["bucket"])
        return {"kind": "storage#managedFolders"}
