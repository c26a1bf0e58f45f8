"""Cloud Storage: StorageControl over gRPC, which gcsfs asks for a bucket's layout before it uses the bucket.

Source: https://cloud.google.com/storage/docs/reference/rpc/google.storage.control.v2
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import Aborted, AlreadyExists, Conflict, FailedPrecondition, InvalidArgument
from selfloop_apis import protobuf
from selfloop_apis.storage_control_v2 import (
    CreateManagedFolderRequest,
    DeleteManagedFolderRequest,
    GetManagedFolderRequest,
    GetStorageLayoutRequest,
    ListManagedFoldersRequest,
    ListManagedFoldersResponse,
    ManagedFolder,
    StorageLayout,
)

from emulator.core.messages import stamp
from emulator.core.service import Context, GapicService
from emulator.services.storage import resources
from emulator.services.storage.listing import MAX_RESULTS, page_token, parse_page_token
from emulator.services.storage.managed_folders import ManagedFolders, StoredFolder, is_hierarchical
from emulator.services.storage.store import ObjectFiles

_NAME = re.compile(r"projects/_/buckets/([^/]+)(?:/(storageLayout|managedFolders|folders)(?:/(.+))?)?", re.DOTALL)


class StorageControl(GapicService):
    api = "google.storage.control.v2.StorageControl"

    def __init__(self, store: ObjectFiles, folders: ManagedFolders) -> None:
        self._store = store
        self._folders = folders

    def get_storage_layout(self, request: GetStorageLayoutRequest, context: Context) -> StorageLayout:
        bucket = self._store.bucket(_parts(request.name)[0])
        fields = json.loads(bucket.fields)
        layout = StorageLayout(
            name=f"projects/_/buckets/{bucket.name}/storageLayout",
            location=fields["location"],
            location_type=resources.location_type(fields["location"]),
        )
        layout.hierarchical_namespace.enabled = is_hierarchical(bucket)
        layout.custom_placement_config.data_locations.extend(
            fields.get("customPlacementConfig", {}).get("dataLocations", [])
        )
        return layout

    def create_managed_folder(self, request: CreateManagedFolderRequest, context: Context) -> ManagedFolder:
        try:
            return _message(self._folders.create(_parts(request.parent)[0], request.managed_folder_id))
        except Conflict as error:
            raise AlreadyExists(error.message) from None

    def get_managed_folder(self, request: GetManagedFolderRequest, context: Context) -> ManagedFolder:
        return _message(self._found(request))

    def list_managed_folders(self, request: ListManagedFoldersRequest, context: Context) -> ListManagedFoldersResponse:
        bucket = self._store.bucket(_parts(request.parent)[0]).name
        limit = min(request.page_size or MAX_RESULTS, MAX_RESULTS)
        start, _ = parse_page_token(request.page_token)
        folders = self._folders.rows.page(bucket, request.prefix, start, limit + 1)
        return ListManagedFoldersResponse(
            managed_folders=[_message(folder) for folder in folders[:limit]],
            next_page_token=page_token(folders[limit].name) if len(folders) > limit else "",
        )

    def delete_managed_folder(self, request: DeleteManagedFolderRequest, context: Context) -> Any:
        try:
            self._folders.remove(self._found(request), allow_non_empty=request.allow_non_empty)
        except Conflict as error:
            raise FailedPrecondition(error.message) from None
        return protobuf.Empty()

    def _found(self, request: GetManagedFolderRequest | DeleteManagedFolderRequest) -> StoredFolder:
        folder = self._folders.find(*_parts(request.name))
        for field, holds in (
            ("if_metageneration_match", folder.metageneration == request.if_metageneration_match),
            ("if_metageneration_not_match", folder.metageneration != request.if_metageneration_not_match),
        ):
            if request.HasField(field) and not holds:  # type: ignore[arg-type]  # two literals of the stub
                raise Aborted("At least one of the pre-conditions you specified did not hold.")
        return folder


def _parts(name: str) -> tuple[str, str]:
    """Bucket and the rest of `projects/_/buckets/B/managedFolders/a/b/`. Raises InvalidArgument."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidArgument(f"Invalid resource name: {name!r}")
    return match[1], match[3] or ""


def _message(folder: StoredFolder) -> ManagedFolder:
    message = ManagedFolder(
        name=f"projects/_/buckets/{folder.bucket}/managedFolders/{folder.name}", metageneration=folder.metageneration
    )
    stamp(message.create_time, _moment(folder.created))
    stamp(message.update_time, _moment(folder.updated))
    return message


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
