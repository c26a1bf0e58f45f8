"""Cloud Storage: notifications of changes to Pub/Sub.

Source: https://cloud.google.com/storage/docs/json_api/v1/notifications, …/docs/pubsub-notifications
"""

from __future__ import annotations

import json
import re
from typing import Any

from google.api_core.exceptions import BadRequest, NotFound

from emulator.core.interfaces import MessageSink
from emulator.core.service import Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.services.storage import resources
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectChange, ObjectFiles

EVENT_TYPES = frozenset({"OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"})
_TOPIC = re.compile(r"(?://pubsub\.googleapis\.com/)?(projects/[^/]+/topics/[A-Za-z][\w.~+%-]{2,254})")
_MOST_CONFIGS = 100


class Notifications(DiscoveryService):
    """A bucket's configurations, numbered from 1; and, where there is a Pub/Sub, the messages they ask for."""

    api = "storage.v1"
    resource = "notifications"
    legacy_errors = True

    def __init__(self, store: ObjectFiles, messages: MessageSink | None = None) -> None:
        self._store = store
        self._messages = messages
        store.database.create(
            "CREATE TABLE IF NOT EXISTS storage_notifications (bucket TEXT NOT NULL, number INTEGER NOT NULL, "
            "document TEXT NOT NULL, PRIMARY KEY (bucket, number)) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS storage_notification_numbers (bucket TEXT PRIMARY KEY, last INTEGER NOT NULL)",
        )
        store.when_deleted.append(self._forget_bucket)
        if messages is not None:
            store.when_changed.append(self._publish)

    def insert(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket = self._store.bucket(request.parameters["bucket"]).name
        document = typed("Notification", request.body)
        topic = _TOPIC.fullmatch(document.get("topic") or "")
        if topic is None:
            raise BadRequest(
                "Invalid Google Cloud Pub/Sub topic. It should look like "
                f"'//pubsub.googleapis.com/projects/*/topics/*', was '{document.get('topic')}'"
            )
        if document.get("payload_format") not in ("JSON_API_V1", "NONE"):
            raise BadRequest("Invalid payload_format: it must be JSON_API_V1 or NONE.")
        unknown = next((kind for kind in document.get("event_types") or () if kind not in EVENT_TYPES), None)
        if unknown is not None:
            raise BadRequest(f"Invalid event type: {unknown}")
        fields = ("custom_attributes", "event_types", "object_name_prefix", "payload_format")
        kept = {key: document[key] for key in fields if document.get(key)}
        kept["topic"] = f"//pubsub.googleapis.com/{topic[1]}"
        with self._store.database.transaction() as connection:
            if len(self._of_bucket(bucket)) >= _MOST_CONFIGS:
                raise BadRequest(f"A bucket may have at most {_MOST_CONFIGS} notification configurations.")
            number = connection.execute(
                "INSERT INTO storage_notification_numbers VALUES (?, 1) "
                "ON CONFLICT (bucket) DO UPDATE SET last = last + 1 RETURNING last",
                (bucket,),
            ).fetchone()["last"]
            connection.execute("INSERT INTO storage_notifications VALUES (?, ?, ?)", (bucket, number, json.dumps(kept)))
        return _shown(bucket, number, kept)

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket, number = self._named(request)
        return _shown(bucket, number, self._of_bucket(bucket)[number])

    def _named(self, request: JsonRequest) -> tuple[str, int]:
        bucket, text = self._store.bucket(request.parameters["bucket"]).name, request.parameters["notification"]
        if not text.isdecimal() or int(text) not in self._of_bucket(bucket):
            raise NotFound(f"The specified notification does not exist: {bucket}/notificationConfigs/{text}")
        return bucket, int(text)

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket = self._store.bucket(request.parameters["bucket"]).name
        items = [_shown(bucket, number, kept) for number, kept in self._of_bucket(bucket).items()]
        return {"kind": "storage#notifications", **({"items": items} if items else {})}

    def delete(self, request: JsonRequest, context: Context) -> JsonResponse:
        with self._store.database.transaction() as connection:
            connection.execute(
                "DELETE FROM storage_notifications WHERE bucket = ? AND number = ?", self._named(request)
            )
        return JsonResponse(None, 204, {"content-type": "application/json"})

    def _of_bucket(self, bucket: str) -> dict[int, dict[str, Any]]:
        rows = self._store.database.query(
            "SELECT number, document FROM storage_notifications WHERE bucket = ? ORDER BY number", (bucket,)
        )
        return {row["number"]: json.loads(row["document"]) for row in rows}

    def _forget_bucket(self, bucket: str) -> None:
        with self._store.database.transaction() as connection:
            for table in ("storage_notifications", "storage_notification_numbers"):
                connection.execute(f"DELETE FROM {table} WHERE bucket = ?", (bucket,))  # noqa: S608  # two constants

    def _publish(self, change: ObjectChange) -> None:
        """Send what the bucket's configurations ask for; called once the change is committed."""
        if self._messages is None:
            return
        for number, config in self._of_bucket(change.stored.bucket).items():
            wanted = config.get("event_types") or EVENT_TYPES
            if change.event in wanted and change.stored.name.startswith(config.get("object_name_prefix", "")):
                attributes = {**config.get("custom_attributes", {}), **_attributes(change, number, config)}
                data = b"" if config["payload_format"] == "NONE" else _payload(change.stored)
                self._messages.publish(config["topic"].removeprefix("//pubsub.googleapis.com/"), data, attributes)


def _shown(bucket: str, number: int, kept: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "storage#notification",
        "id": str(number),
        "selfLink": f"{resources.API}/b/{bucket}/notificationConfigs/{number}",
        "etag": str(number),
        **kept,
    }


def _attributes(change: ObjectChange, number: int, config: dict[str, Any]) -> dict[str, str]:
    stored = change.stored
    attributes = {
        "notificationConfig": f"projects/_/buckets/{stored.bucket}/notificationConfigs/{number}",
        "eventType": change.event,
        "payloadFormat": config["payload_format"],
        "bucketId": stored.bucket,
        "objectId": stored.name,
        "objectGeneration": str(stored.generation),
        "eventTime": resources.time_text(change.time),
    }
    if change.other_generation:
        key = "overwroteGeneration" if change.event == "OBJECT_FINALIZE" else "overwrittenByGeneration"
        attributes[key] = str(change.other_generation)
    return attributes


def _payload(stored: StoredObject) -> bytes:
    return json.dumps(resources.object_resource(stored, "https://storage.googleapis.com/")).encode()
