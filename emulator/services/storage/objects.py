"""Cloud Storage: objects.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound

from emulator.core import errors
from emulator.core.service import Body, Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.services.storage import (
    contexts,
    encryption,
    listing,
    ownership,
    preconditions,
    protection,
    resources,
    views,
)
from emulator.services.storage.bucket_operations import BucketOperations
from emulator.services.storage.buckets import max_results
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.checksums import Expected
from emulator.services.storage.copies import Copies
from emulator.services.storage.downloads import media_response
from emulator.services.storage.glob import compile_glob, literal_prefix
from emulator.services.storage.managed_folders import FolderRows
from emulator.services.storage.multipart import MultipartUpload, parse_metadata
from emulator.services.storage.names import after_prefix, check_object_name
from emulator.services.storage.policies import ObjectPolicies, tested_permissions
from emulator.services.storage.preconditions import Preconditions, integer
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectFiles, no_such_object

_LARGEST_METADATA_BYTES = 1 << 20
_DEFAULT_TYPE = "application/octet-stream"


class Objects(DiscoveryService):
    api = "storage.v1"
    resource = "objects"
    legacy_errors = True

    def __init__(self, store: ObjectFiles, operations: BucketOperations, folders: FolderRows) -> None:
        self._store = store
        self._operations = operations
        self._folders = folders
        self._copies = Copies(store)
        self._policies = ObjectPolicies(store)

    # Uploads

    def insert(self, request: JsonRequest, context: Context) -> JsonResponse | dict[str, Any]:
        if request.get("upload_id"):
            return self._continue_upload(request)
        kind = request.get("uploadType")
        if request.media is None or kind not in ("media", "multipart", "resumable"):
            raise BadRequest(
                "Upload requests must include an uploadType URL parameter and a URL path beginning with /upload/",
                errors=[{"reason": "wrongUrlForUpload"}],
            )
        self._store.bucket(request.parameters["bucket"])
        content_type = request.headers.get("content-type", "")
        if kind == "resumable":
            return self._begin_upload(request, context, request.media)
        if kind == "multipart":
            upload = MultipartUpload(content_type, request.media)
            return self._stored(request, context, upload.metadata, upload.content_type, upload.data())
        return self._stored(request, context, {}, content_type, request.media)

    def _stored(
        self, request: JsonRequest, context: Context, metadata: dict[str, Any], content_type: str, data: Any
    ) -> dict[str, Any]:
        name, fields = self._new_object(request, context, metadata, content_type)
        expected = Expected.of(metadata, request.headers)
        conditions = Preconditions.of(request.parameters, request.headers)
        staged = self._store.files.stage()
        try:
            for piece in data:
                staged.write(piece)
            expected.check(staged.crc32c, staged.md5)
        except BaseException:
            staged.discard()
            raise
        stored = self._store.commit(staged, request.parameters["bucket"], name, fields, conditions=conditions)
        return self._shown(request, stored)

    def _new_object(
        self, request: JsonRequest, context: Context, metadata: dict[str, Any], content_type: str
    ) -> tuple[str, dict[str, Any]]:
        """Name and fields of an upload. The name may stand in the metadata or in the query."""
        metadata = typed("Object", metadata)
        name = metadata.get("name") or request.get("name", "")
        check_object_name(name)
        if request.get("contentEncoding"):
            metadata["contentEncoding"] = request.parameters["contentEncoding"]
        owned = ownership.of_new_object(
            self._store, self._store.bucket(request.parameters["bucket"]), context,
            predefined=request.get("predefinedAcl", ""), entries=metadata.get("acl"),
            kms_key=request.get("kmsKeyName", ""),
        )  # fmt: skip
        fields = resources.new_object_fields(metadata, content_type or _DEFAULT_TYPE)
        return name, encryption.encrypted({**fields, **owned}, encryption.given_key(request.headers))

    def _begin_upload(self, request: JsonRequest, context: Context, body: Body) -> JsonResponse:
        metadata = parse_metadata(body.read(_LARGEST_METADATA_BYTES))
        name, fields = self._new_object(request, context, metadata, request.headers.get("x-upload-content-type", ""))
        upload_id = self._store.uploads.begin(
            request.parameters["bucket"],
            name,
            fields,
            conditions=Preconditions.of(request.parameters, request.headers),
            expected=Expected.of(metadata, request.headers),
            total=integer(request.headers, "x-upload-content-length"),
        )
        named = "" if request.get("name") else f"&name={quote(name, safe='')}"
        location = f"{request.uri}{named}&upload_id={upload_id}"
        return JsonResponse(None, 200, {"location": location, "x-guploader-uploadid": upload_id})

    def _continue_upload(self, request: JsonRequest) -> JsonResponse | dict[str, Any]:
        upload_id = request.parameters["upload_id"]
        if request.verb == "delete":
            self._store.uploads.cancel(upload_id)
            return JsonResponse(None, 499)
        result = self._store.uploads.receive(upload_id, request.headers, request.media or (), self._store.find)
        if isinstance(result, StoredObject):
            return self._shown(request, result)
        # No Location: with one, clients would take the 308 for a redirection.
        return JsonResponse(None, 308, {"range": f"bytes=0-{result - 1}"} if result else {})

    # Reading

    def get(self, request: JsonRequest, context: Context) -> JsonResponse | dict[str, Any]:
        if request.get("alt") == "media":
            return self._download(request)
        stored = self._soft_deleted(request) if request.get("softDeleted") else self._store.find(*_named(request))
        _check_for_read(request, stored)
        return self._shown(request, stored)

    def _soft_deleted(self, request: JsonRequest) -> StoredObject:
        bucket, name, generation = _named(request)
        if generation is None:
            raise BadRequest("Required parameter: generation", errors=[{"reason": "required"}])
        self._store.bucket(bucket)
        now = resources.microseconds(self._store.clock.now())
        stored = self._store.versions.find_soft_deleted(bucket, name, generation, now)
        if stored is None:
            raise no_such_object(bucket, name)
        return stored

    def _download(self, request: JsonRequest) -> JsonResponse:
        try:
            stored, descriptor = self._store.open(*_named(request))
            try:
                _check_for_read(request, stored)
                encryption.check_key(stored, encryption.given_key(request.headers))
                stored = self._store.md5(stored)
            except BaseException:
                os.close(descriptor)
                raise
            return media_response(stored, descriptor, request.headers)
        except GoogleAPICallError as error:
            # Where bytes are asked for, an error is plain text.
            text = b"" if errors.http_status(error) == 304 else error.message.encode()
            return JsonResponse(text, errors.http_status(error), {"content-type": "text/plain; charset=UTF-8"})

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket = self._store.bucket(request.parameters["bucket"]).name
        token, prefix = request.get("pageToken", ""), request.get("prefix", "")
        if request.get("versions") and request.get("softDeleted"):
            raise BadRequest("You cannot specify both versions and softDeleted.")
        start = max((request.get("startOffset", ""), 0), listing.parse_page_token(token))
        end, glob = request.get("endOffset") or None, None
        if request.get("matchGlob"):
            glob = compile_glob(request.parameters["matchGlob"])
            literal = literal_prefix(request.parameters["matchGlob"])
            start = max(start, (literal, 0))
            end = min((stop for stop in (end, after_prefix(literal)) if stop is not None), default=None)
        if not token:
            self._store.jobs.find_new(bucket, prefix)
        query = listing.Query(
            bucket, prefix, request.get("delimiter", ""), bool(request.get("includeTrailingDelimiter")), start,
            end, glob, max_results(request), bool(request.get("versions")), bool(request.get("softDeleted")),
            contexts.compile_filter(request.get("filter", "")),
        )  # fmt: skip
        page = listing.list_page(self._store, query)
        if request.get("includeFoldersAsPrefixes"):
            if query.delimiter != "/":
                raise BadRequest("includeFoldersAsPrefixes wants the delimiter to be a slash.")
            listing.add_folders(page, query, self._folders.names(bucket, prefix))
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if page.prefixes:
            answer["prefixes"] = page.prefixes
        if page.items:
            answer["items"] = [self._shown(request, stored, "items") for stored in page.items]
        if page.next_start is not None:
            answer["nextPageToken"] = listing.page_token(*page.next_start)
        return answer

    # Changes

    def patch(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._changed(request, resources.patched_object)

    def update(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._changed(request, resources.replaced_object)

    def _changed(self, request: JsonRequest, change: Any) -> dict[str, Any]:
        bucket, name, generation = _named(request)
        document = typed("Object", request.body)
        override = bool(request.get("overrideUnlockedRetention"))

        def apply(before: dict[str, Any], owner: StoredBucket, now: int) -> dict[str, Any]:
            settings = json.loads(owner.fields)
            after = ownership.with_list(
                self._store, owner, change(before, document), request.get("predefinedAcl", ""), document.get("acl")
            )
            return protection.changed_object(settings, before, after, now, override=override)

        conditions = Preconditions.of(request.parameters, request.headers)
        stored = self._store.change(bucket, name, apply, generation=generation, conditions=conditions)
        return self._shown(request, stored, full=True)

    def delete(self, request: JsonRequest, context: Context) -> JsonResponse:
        bucket, name, generation = _named(request)
        conditions = Preconditions.of(request.parameters, request.headers)
        self._store.delete(bucket, name, generation=generation, conditions=conditions)
        return JsonResponse(None, 204, {"content-type": "application/json"})

    # Copies

    def copy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        owned = self._owned(request, context, "destinationBucket", "destinationPredefinedAcl")
        return self._shown(request, self._copies.copy(request, owned))

    def rewrite(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """In one call where class, location and key stay, else by so many bytes a call."""
        owned = self._owned(request, context, "destinationBucket", "destinationPredefinedAcl")
        progress = self._copies.rewrite(request, owned)
        answer: dict[str, Any] = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(progress.rewritten),
            "objectSize": str(progress.size),
            "done": progress.stored is not None,
        }
        if progress.stored is None:
            return {**answer, "rewriteToken": progress.token}
        return {**answer, "resource": self._shown(request, progress.stored, "resource")}

    def move(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._shown(request, self._copies.move(request, self._owned(request, context)))

    def compose(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        owned = self._owned(request, context, "destinationBucket", "destinationPredefinedAcl")
        return self._shown(request, self._copies.compose(request, owned))

    def _owned(
        self, request: JsonRequest, context: Context, bucket: str = "bucket", predefined: str = "predefinedAcl"
    ) -> dict[str, Any]:
        """What a new object gets by who makes it and which list of access controls the call names."""
        return ownership.of_new_object(
            self._store, self._store.bucket(request.parameters[bucket]), context,
            predefined=request.get(predefined, ""), entries=request.body.get("acl"),
            kms_key=request.get("kmsKeyName") or request.get("destinationKmsKeyName", ""),
        )  # fmt: skip

    # Soft delete

    def restore(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket, name, generation = _named(request)
        if generation is None:
            raise BadRequest("Required parameter: generation", errors=[{"reason": "required"}])
        stored = self._copies.restore(
            bucket, name, generation, conditions=Preconditions.of(request.parameters, request.headers),
            copies_acl=bool(request.get("copySourceAcl")),
        )  # fmt: skip
        return self._shown(request, stored, full=True)

    def bulk_restore(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Done before it answers, as an operation."""
        bucket = self._store.bucket(request.parameters["bucket"])
        wanted = typed("BulkRestoreObjectsRequest", request.body)
        return self._operations.bulk_restore(bucket, wanted, self._copies)

    # Access

    def get_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._policies.get(*self._with_bucket(request))

    def set_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._policies.set(*self._with_bucket(request), typed("Policy", request.body))

    def test_iam_permissions(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        self._store.find(*_named(request))
        return tested_permissions(request)

    def _with_bucket(self, request: JsonRequest) -> tuple[StoredBucket, StoredObject]:
        return self._store.bucket(request.parameters["bucket"]), self._store.find(*_named(request))

    def view_full_context(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        stored = self._store.find(*_named(request))
        key = request.get("contextKey", "")
        payload = json.loads(stored.fields).get("contexts", {}).get("custom", {}).get(key)
        if payload is None:
            raise NotFound(f"The object has no context of the key {key!r}.")
        return {"kind": "storage#objectFullContext", "type": "CUSTOM", "key": key, **payload}

    def _shown(self, request: JsonRequest, stored: StoredObject, *place: str, full: bool = False) -> dict[str, Any]:
        return views.shown_object(self._store, request, stored, *place, full=full)


def _named(request: JsonRequest) -> tuple[str, str, int | None]:
    given = request.parameters
    return given["bucket"], given["object"], integer(given, "generation")


def _check_for_read(request: JsonRequest, stored: StoredObject) -> None:
    conditions = Preconditions.of(request.parameters, request.headers)
    if conditions is not preconditions.NONE:
        conditions.check(stored.generation, stored.metageneration, resources.object_etag(stored))
