"""Cloud Storage, served at storage.googleapis.com."""

from emulator.core.service import DiscoveryService
from emulator.services.storage.bucket_operations import BucketOperations
from emulator.services.storage.buckets import Buckets, ServiceAccount
from emulator.services.storage.housekeeping import Housekeeping
from emulator.services.storage.managed_folders import ManagedFolders
from emulator.services.storage.objects import Objects
from emulator.services.storage.store import ObjectFiles

__all__ = ["Housekeeping", "ObjectFiles", "services"]


def services(store: ObjectFiles) -> list[DiscoveryService]:
    """The resources of the JSON API that are emulated."""
    operations = BucketOperations(store)
    return [
        Buckets(store, operations),
        Objects(store, operations),
        operations,
        ManagedFolders(store),
        ServiceAccount(store),
    ]
