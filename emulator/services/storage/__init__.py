"""Cloud Storage, served at storage.googleapis.com."""

from emulator.core.interfaces import MessageSink
from emulator.core.service import DiscoveryService, GapicService
from emulator.services.storage.access_controls import (
    BucketAccessControls,
    DefaultObjectAccessControls,
    ObjectAccessControls,
)
from emulator.services.storage.bucket_operations import BucketOperations
from emulator.services.storage.buckets import Buckets, ServiceAccount
from emulator.services.storage.control_service import StorageControl
from emulator.services.storage.folders import Folders
from emulator.services.storage.hmac_keys import HmacKeys
from emulator.services.storage.housekeeping import Housekeeping
from emulator.services.storage.managed_folders import ManagedFolders
from emulator.services.storage.notifications import Notifications
from emulator.services.storage.objects import Objects
from emulator.services.storage.service_buckets import ServiceBuckets
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_api import XmlApi

__all__ = ["Housekeeping", "ObjectFiles", "ServiceBuckets", "XmlApi", "services"]


def services(store: ObjectFiles, messages: MessageSink | None = None) -> list[DiscoveryService | GapicService]:
    """What is emulated of the JSON API and over gRPC. messages: where notifications go, once there is a Pub/Sub."""
    operations = BucketOperations(store)
    folders = ManagedFolders(store)
    return [
        Buckets(store, operations),
        Objects(store, operations, folders.rows),
        operations,
        BucketAccessControls(store),
        DefaultObjectAccessControls(store),
        ObjectAccessControls(store),
        folders,
        Folders(store),
        Notifications(store, messages),
        ServiceAccount(store),
        HmacKeys(store),
        StorageControl(store, folders),
    ]
