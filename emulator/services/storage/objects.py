"""Cloud Storage: objects.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, GoogleAPICallError, ServiceUnavailable

from emulator.core import errors, partial_response
from emulator.core.service import Body, Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.services.storage import checksums, listing, resources
from emulator.services.storage.buckets import max_results
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.checksums import Expected
from emulator.services.storage.downloads import media_response
from emulator.services.storage.files import Staged
from emulator.services.storage.glob import compile_glob, literal_prefix
from emulator.services.storage.multipart import MultipartUpload, parse_metadata
from emulator.services.storage.names import after_prefix, check_object_name
from emulator.services.storage.preconditions import Preconditions, integer
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectFiles, check_conditions, no_such_object

_LARGEST_METADATA_BYTES = 1 << 20
_MOST_SOURCES = 32
_DEFAULT_TYPE = "application/octet-stream"


class Objects(DiscoveryService):
    api = "storage.v1"
    resource = "objects"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

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
            return self._begin_upload(request, request.media)
        if kind == "multipart":
            upload = MultipartUpload(content_type, request.media)
            return self._stored(request, upload.metadata, upload.content_type, upload.data())
        return self._stored(request, {}, content_type, request.media)

    def _stored(self, request: JsonRequest, metadata: dict[str, Any], content_type: str, data: Any) -> dict[str, Any]:
        name, fields = _new_object(request, metadata, content_type)
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

    def _begin_upload(self, request: JsonRequest, body: Body) -> JsonResponse:
        metadata = parse_metadata(body.read(_LARGEST_METADATA_BYTES))
        name, fields = _new_object(request, metadata, request.headers.get("x-upload-content-type", ""))
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
        stored = self._store.find(*_named(request))
        _check_for_read(request, stored)
        return self._shown(request, stored)

    def _download(self, request: JsonRequest) -> JsonResponse:
        try:
            stored, descriptor = self._store.open(*_named(request))
            try:
                _check_for_read(request, stored)
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
        start = max(request.get("startOffset", ""), listing.parse_page_token(token))
        end, glob = request.get("endOffset") or None, None
        if request.get("matchGlob"):
            glob = compile_glob(request.parameters["matchGlob"])
            literal = literal_prefix(request.parameters["matchGlob"])
            start = max(start, literal)
            end = min((stop for stop in (end, after_prefix(literal)) if stop is not None), default=None)
        limit = max_results(request)
        if request.get("softDeleted"):
            return {"kind": "storage#objects"}
        if not token:
            self._store.jobs.find_new(bucket, prefix)
        page = listing.list_page(
            self._store,
            listing.Query(
                bucket, prefix, request.get("delimiter", ""), bool(request.get("includeTrailingDelimiter")), start,
                end, glob, limit,
            ),
        )  # fmt: skip
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if page.prefixes:
            answer["prefixes"] = page.prefixes
        if page.items:
            answer["items"] = [self._shown(request, stored, "items") for stored in page.items]
        if page.next_start is not None:
            answer["nextPageToken"] = listing.page_token(page.next_start)
        return answer

    # Changes

    def patch(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        patch = typed("Object", request.body)
        return self._changed(request, lambda fields: resources.patched_object(fields, patch))

    def update(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        document = typed("Object", request.body)

        def replaced(fields: dict[str, Any]) -> dict[str, Any]:
            kept = {"storageClass": fields["storageClass"]}
            return resources.patched_object(kept, document)

        return self._changed(request, replaced)

    def _changed(self, request: JsonRequest, change: Any) -> dict[str, Any]:
        bucket, name, generation = _named(request)
        conditions = Preconditions.of(request.parameters, request.headers)
        return self._shown(
            request, self._store.change(bucket, name, change, generation=generation, conditions=conditions)
        )

    def delete(self, request: JsonRequest, context: Context) -> JsonResponse:
        bucket, name, generation = _named(request)
        conditions = Preconditions.of(request.parameters, request.headers)
        self._store.delete(bucket, name, generation=generation, conditions=conditions)
        return JsonResponse(None, 204, {"content-type": "application/json"})

    # Copies

    def copy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        given = request.parameters
        return self._shown(request, self._copied(request, given["sourceBucket"], given["destinationBucket"]))

    def rewrite(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """All in one call, as the service does where class and location stay."""
        given = request.parameters
        stored = self._copied(request, given["sourceBucket"], given["destinationBucket"])
        return {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(stored.size),
            "objectSize": str(stored.size),
            "done": True,
            "resource": self._shown(request, stored, "resource"),
        }

    def move(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket, name = request.parameters["bucket"], request.parameters["sourceObject"]
        if name == request.parameters["destinationObject"]:
            raise BadRequest("The source and destination of a move must be different objects.")
        return self._shown(request, self._copied(request, bucket, bucket, remove_source=True))

    def _copied(
        self, request: JsonRequest, source_bucket: str, bucket: str, *, remove_source: bool = False
    ) -> StoredObject:
        given = request.parameters
        name = given["destinationObject"]
        document = typed("Object", request.body)
        conditions = Preconditions.of(given, request.headers)
        check_object_name(name)
        self._store.bucket(bucket)
        source, descriptor = self._store.open(source_bucket, given["sourceObject"], integer(given, "sourceGeneration"))
        try:
            check_conditions(Preconditions.of(given, prefix="ifSource"), source)
            fields = resources.copied_object(source, document)
            staged = self._staged_copy(source, descriptor)
        finally:
            os.close(descriptor)
        with self._store.database.transaction() if remove_source else nullcontext():
            if remove_source:
                current = self._store.catalogue.find(source_bucket, source.name)
                if current is None or current.generation != source.generation:
                    staged.discard()
                    raise no_such_object(source_bucket, source.name)
            stored = self._store.commit(
                staged, bucket, name, fields, conditions=conditions, md5=source.md5,
                component_count=source.component_count,
            )  # fmt: skip
            if remove_source:
                self._store.delete(source_bucket, source.name, generation=source.generation)
        return stored

    def _staged_copy(self, source: StoredObject, descriptor: int) -> Staged:
        staged = self._store.files.stage(md5=False)
        try:
            _append(staged, source, descriptor)
            if staged.crc32c != source.crc32c:
                raise ServiceUnavailable(f"gs://{source.bucket}/{source.name} is being written by a job.")
        except BaseException:
            staged.discard()
            raise
        return staged

    def compose(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket, name = request.parameters["destinationBucket"], request.parameters["destinationObject"]
        check_object_name(name)
        document = typed("ComposeRequest", request.body)
        sources = document.get("sourceObjects") or []
        if not sources:
            raise BadRequest("You must provide at least one source component.", errors=[{"reason": "required"}])
        if len(sources) > _MOST_SOURCES:
            raise BadRequest(
                f"The number of source components provided ({len(sources)}) exceeds the maximum ({_MOST_SOURCES})"
            )
        metadata = document.get("destination") or {}
        fields = resources.new_object_fields(metadata, _DEFAULT_TYPE, "STANDARD")
        conditions = Preconditions.of(request.parameters, request.headers)
        self._store.bucket(bucket)
        staged = self._store.files.stage(md5=False)
        count = 0
        try:
            # A checksum in the destination is not looked at: clients send that of the generation they know.
            for given in sources:
                count += self._append_source(staged, bucket, given)
        except BaseException:
            staged.discard()
            raise
        stored = self._store.commit(staged, bucket, name, fields, conditions=conditions, component_count=count)
        if document.get("deleteSourceObjects"):
            for source in {given["name"] for given in sources} - {name}:
                self._store.delete(bucket, source)
        return self._shown(request, stored)

    def _append_source(self, staged: Staged, bucket: str, given: dict[str, Any]) -> int:
        """Add a component's bytes; gives back of how many uploads it consists."""
        if not given.get("name"):
            raise BadRequest("Required", errors=[{"reason": "required"}])
        source, descriptor = self._store.open(bucket, given["name"], integer(given, "generation"))
        try:
            check_conditions(Preconditions.of(given.get("objectPreconditions") or {}), source)
            _append(staged, source, descriptor)
        finally:
            os.close(descriptor)
        return source.component_count or 1

    def _shown(self, request: JsonRequest, stored: StoredObject, *place: str) -> dict[str, Any]:
        """The object as JSON. place: where it stands in the answer, for what `fields` leaves out is not computed."""
        mask = partial_response.parse(request.parameters["fields"]) if request.get("fields") else {}
        if partial_response.includes(mask, *place, "md5Hash"):
            stored = self._store.md5(stored)
        return resources.object_resource(stored, request.uri)


def _named(request: JsonRequest) -> tuple[str, str, int | None]:
    given = request.parameters
    return given["bucket"], given["object"], integer(given, "generation")


def _new_object(request: JsonRequest, metadata: dict[str, Any], content_type: str) -> tuple[str, dict[str, Any]]:
    """Name and fields of an upload. The name may stand in the metadata or in the query."""
    metadata = typed("Object", metadata)
    name = metadata.get("name") or request.get("name", "")
    check_object_name(name)
    if request.get("contentEncoding"):
        metadata["contentEncoding"] = request.parameters["contentEncoding"]
    return name, resources.new_object_fields(metadata, content_type or _DEFAULT_TYPE, "STANDARD")


def _check_for_read(request: JsonRequest, stored: StoredObject) -> None:
    conditions = Preconditions.of(request.parameters, request.headers)
    conditions.check(stored.generation, stored.metageneration, resources.object_etag(stored))


def _append(staged: Staged, source: StoredObject, descriptor: int) -> None:
    """Copy an object's bytes. Raises ServiceUnavailable when a job shortens them meanwhile."""
    offset, began = 0, staged.size
    while block := os.pread(descriptor, min(checksums.BLOCK, source.size - offset), offset):
        staged.write(block)
        offset += len(block)
    if staged.size - began != source.size:
        raise ServiceUnavailable(f"gs://{source.bucket}/{source.name} is being written by a job.")
