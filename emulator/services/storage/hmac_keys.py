"""Cloud Storage: HMAC keys, with which clients of S3 sign.

Source: https://cloud.google.com/storage/docs/json_api/v1/projects/hmacKeys
"""

from __future__ import annotations

import base64
import secrets
from sqlite3 import Row
from typing import Any

from google.api_core.exceptions import BadRequest, NotFound

from emulator.core.service import Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.services.storage.listing import page_token, parse_page_token
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.resources import etag, microseconds, time_text
from emulator.services.storage.store import ObjectFiles

_MOST_RESULTS = 250
_STATES = ("ACTIVE", "INACTIVE")
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class HmacKeys(DiscoveryService):
    """The keys of all projects; they are also the secrets that signatures are checked with."""

    api = "storage.v1"
    resource = "projects.hmacKeys"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self._database = store.database
        self._database.create(
            "CREATE TABLE IF NOT EXISTS storage_hmac_keys (access_id TEXT PRIMARY KEY, project TEXT NOT NULL, "
            "email TEXT NOT NULL, secret TEXT NOT NULL, state TEXT NOT NULL, metageneration INTEGER NOT NULL, "
            "created INTEGER NOT NULL, updated INTEGER NOT NULL)"
        )

    def active(self, access_id: str) -> tuple[str, str] | None:
        """Secret and service account of an active key."""
        rows = self._database.query(
            "SELECT secret, email FROM storage_hmac_keys WHERE access_id = ? AND state = 'ACTIVE'", (access_id,)
        )
        return (rows[0]["secret"], rows[0]["email"]) if rows else None

    def project_of(self, access_id: str) -> str | None:
        """Id of the project that a key belongs to, which is where its buckets are made and listed."""
        rows = self._database.query("SELECT project FROM storage_hmac_keys WHERE access_id = ?", (access_id,))
        return str(rows[0]["project"]) if rows else None

    def create(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """The only answer that holds the secret."""
        project = self._store.projects.get(request.parameters["projectId"]).id
        email = request.get("serviceAccountEmail", "")
        if "@" not in email:
            raise BadRequest(f"Invalid argument: {email!r} is not the e-mail address of a service account.")
        access_id = "GOOG1E" + "".join(secrets.choice(_BASE32) for _ in range(55))
        secret = base64.b64encode(secrets.token_bytes(30)).decode()
        now = microseconds(self._store.clock.now())
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO storage_hmac_keys VALUES (?, ?, ?, ?, 'ACTIVE', 1, ?, ?)",
                (access_id, project, email, secret, now, now),
            )
        row = self._row(project, access_id)
        return {"kind": "storage#hmacKey", "metadata": _metadata(row), "secret": secret}

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return _metadata(self._requested(request))

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project = self._store.projects.get(request.parameters["projectId"]).id
        limit = min(int(request.get("maxResults") or _MOST_RESULTS), _MOST_RESULTS)
        start = parse_page_token(request.get("pageToken", ""))
        email = request.get("serviceAccountEmail", "")
        rows = self._database.query(
            "SELECT * FROM storage_hmac_keys WHERE project = ? AND access_id >= ? AND (? OR state != 'DELETED') "
            "AND (? = '' OR email = ?) ORDER BY access_id LIMIT ?",
            (project, start[0], bool(request.get("showDeletedKeys")), email, email, limit + 1),
        )
        answer: dict[str, Any] = {"kind": "storage#hmacKeysMetadata"}
        if rows:
            answer["items"] = [_metadata(row) for row in rows[:limit]]
        if len(rows) > limit:
            answer["nextPageToken"] = page_token(rows[limit]["access_id"])
        return answer

    def update(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Activate or deactivate. Raises BadRequest for any other change, PreconditionFailed for another etag."""
        state = request.body.get("state")
        if state not in _STATES:
            raise BadRequest(f"Invalid argument: the state of an HMAC key is one of {', '.join(_STATES)}.")
        with self._database.transaction():
            row = self._requested(request)
            if row["state"] == "DELETED":
                raise BadRequest("A deleted HMAC key cannot be changed.")
            if request.body.get("etag"):
                wanted = Preconditions(etag_match=str(request.body["etag"]))
                wanted.check_for_write(0, row["metageneration"], _etag(row))
            return _metadata(self._set_state(row, state))

    def delete(self, request: JsonRequest, context: Context) -> JsonResponse:
        """Raises BadRequest while the key is active."""
        with self._database.transaction():
            row = self._requested(request)
            if row["state"] == "ACTIVE":
                raise BadRequest("Cannot delete keys in 'ACTIVE' state. Please deactivate the key first.")
            self._set_state(row, "DELETED")
        return JsonResponse(None, 204, {"content-type": "application/json"})

    def _set_state(self, row: Row, state: str) -> Row:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE storage_hmac_keys SET state = ?, metageneration = metageneration + 1, updated = ? "
                "WHERE access_id = ?",
                (state, microseconds(self._store.clock.now()), row["access_id"]),
            )
            return self._row(row["project"], row["access_id"])

    def _requested(self, request: JsonRequest) -> Row:
        project = self._store.projects.get(request.parameters["projectId"]).id
        return self._row(project, request.parameters["accessId"])

    def _row(self, project: str, access_id: str) -> Row:
        rows = self._database.query(
            "SELECT * FROM storage_hmac_keys WHERE project = ? AND access_id = ?", (project, access_id)
        )
        if not rows:
            raise NotFound(f"Access ID not found in project {project}.")
        return rows[0]


def _etag(row: Row) -> str:
    return etag(0, row["metageneration"])


def _metadata(row: Row) -> dict[str, Any]:
    """A key as JSON, without its secret."""
    return {
        "kind": "storage#hmacKeyMetadata",
        "id": f"{row['project']}/{row['access_id']}",
        "selfLink": f"https://www.googleapis.com/storage/v1/projects/{row['project']}/hmacKeys/{row['access_id']}",
        "accessId": row["access_id"],
        "projectId": row["project"],
        "serviceAccountEmail": row["email"],
        "state": row["state"],
        "timeCreated": time_text(row["created"]),
        "updated": time_text(row["updated"]),
        "etag": _etag(row),
    }
