"""StorageControl over gRPC, as google-cloud-storage-control and gcsfs call it."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
)
from google.cloud.storage import Bucket
from google.cloud.storage_control_v2 import CreateManagedFolderRequest, ManagedFolder, StorageControlClient

from tests.conftest import Emulator


@pytest.fixture
def control(emulator: Emulator) -> StorageControlClient:
    return emulator.client(StorageControlClient)


def test_layout_tells_the_location_and_that_names_are_flat(control: StorageControlClient, bucket: Bucket) -> None:
    layout = control.get_storage_layout(name=f"projects/_/buckets/{bucket.name}/storageLayout")
    assert (layout.location, layout.location_type) == ("US", "multi-region")
    assert layout.hierarchical_namespace.enabled is False


def test_layout_of_a_missing_bucket_is_not_found(control: StorageControlClient) -> None:
    with pytest.raises(NotFound, match="The specified bucket does not exist"):
        control.get_storage_layout(name="projects/_/buckets/no-such-bucket-here/storageLayout")
    with pytest.raises(InvalidArgument):
        control.get_storage_layout(name="buckets/x")


def test_managed_folders_are_the_same_as_those_of_the_json_api(control: StorageControlClient, bucket: Bucket) -> None:
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    parent = f"projects/_/buckets/{bucket.name}"
    request = CreateManagedFolderRequest(parent=parent, managed_folder=ManagedFolder(), managed_folder_id="a/b")
    made = control.create_managed_folder(request)
    assert made.name == f"{parent}/managedFolders/a/b/"
    with pytest.raises(AlreadyExists):
        control.create_managed_folder(request)
    assert [folder.name for folder in control.list_managed_folders(parent=parent)] == [made.name]
    assert control.get_managed_folder(name=made.name).metageneration == 1
    bucket.blob("a/b/x").upload_from_string("")
    with pytest.raises(FailedPrecondition, match="not empty"):
        control.delete_managed_folder(name=made.name)
    bucket.blob("a/b/x").delete()
    control.delete_managed_folder(name=made.name)
    with pytest.raises(NotFound, match="The specified managed folder does not exist"):
        control.get_managed_folder(name=made.name)


def test_what_is_not_emulated_is_named(control: StorageControlClient, bucket: Bucket) -> None:
    with pytest.raises(MethodNotImplemented, match=r"control_service\.py"):
        list(control.list_anywhere_caches(parent=f"projects/_/buckets/{bucket.name}"))
