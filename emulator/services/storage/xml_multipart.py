"""The XML API: multipart uploads, as clients of S3 and Google's transfer manager make them.

Source: https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import re
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, MethodNotImplemented

from emulator.core.service import Context, JsonResponse
from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage.checksums import Expected, crc32c_text, md5_text
from emulator.services.storage.part_uploads import MOST_PARTS, PartUpload
from emulator.services.storage.resources import origin, time_text
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_buckets import document, limit_of
from emulator.services.storage.xml_documents import MULTIPART_NAMESPACE, Node, read, xml_error
from emulator.services.storage.xml_objects import Target, XmlObjects, etag

_LARGEST_LIST_BYTES = 4 << 20


class XmlMultipart:
    def __init__(self, store: ObjectFiles, objects: XmlObjects) -> None:
        self._store = store
        self._parts = store.parts
        self._objects = objects

    def begin(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        fields = self._objects.new_fields(target, request, context)
        upload = self._parts.begin(target.bucket, target.name, fields)
        content: list[Node] = [("Bucket", target.bucket), ("Key", target.name), ("UploadId", upload.id)]
        return document("InitiateMultipartUploadResult", content, MULTIPART_NAMESPACE)

    def put_part(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        """200 with the ETag that the client names when it completes the upload."""
        if "x-goog-copy-source" in request.headers or "x-amz-copy-source" in request.headers:
            raise MethodNotImplemented("Parts that are copies are not emulated, as Cloud Storage has none.")
        upload = self._upload(target, request)
        number = request.parameter("partNumber")
        if not re.fullmatch(r"[0-9]{1,5}", number):
            number = "0"
        part = self._parts.put(upload, int(number), self._objects.body_of(request), Expected.of({}, request.headers))
        hashes = f"crc32c={crc32c_text(part.crc32c)},md5={md5_text(part.md5)}"
        headers = {"content-type": "text/html; charset=UTF-8", "etag": part.etag, "x-goog-hash": hashes}
        return JsonResponse(None, 200, headers)

    def complete(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        """Raises BadRequest for a list that does not fit what was uploaded."""
        upload = self._upload(target, request)
        wanted = []
        for part in read(request.body.read(_LARGEST_LIST_BYTES)).children:
            number = part.find("PartNumber") or ""
            if part.name != "Part" or not re.fullmatch(r"[0-9]{1,5}", number):
                raise xml_error(BadRequest, "MalformedXML", "Each part has a PartNumber and an ETag.")
            wanted.append((int(number), part.find("ETag") or ""))
        stored = self._parts.complete(upload, wanted, self._objects.conditions(target, request))
        address = f"{origin(request.uri)}/{target.bucket}/{quote(target.name)}"
        content: list[Node] = [
            ("Location", address), ("Bucket", target.bucket), ("Key", target.name), ("ETag", etag(stored))
        ]  # fmt: skip
        answer = document("CompleteMultipartUploadResult", content, MULTIPART_NAMESPACE)
        hashes = f"crc32c={crc32c_text(stored.crc32c)}"
        return JsonResponse(
            answer.body, 200,
            {**answer.headers, "x-goog-hash": hashes, "x-goog-generation": str(stored.generation)},
        )  # fmt: skip

    def abort(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        self._parts.abort(self._upload(target, request))
        return JsonResponse(None, 204)

    def list_parts(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        upload = self._upload(target, request)
        marker = limit_of(request, "part-number-marker", MOST_PARTS) if request.parameter("part-number-marker") else 0
        limit = limit_of(request, "max-parts")
        parts = self._parts.parts(upload, marker, limit + 1)
        shown = parts[:limit]
        content: list[Node] = [
            ("Bucket", target.bucket), ("Key", target.name), ("UploadId", upload.id),
            ("StorageClass", "STANDARD"), ("PartNumberMarker", marker),
            ("NextPartNumberMarker", shown[-1].number if shown else marker), ("MaxParts", limit),
            ("IsTruncated", len(parts) > limit),
        ]  # fmt: skip
        content += [
            ("Part", [("PartNumber", part.number), ("LastModified", time_text(part.created)), ("ETag", part.etag),
                      ("Size", part.size)])
            for part in shown
        ]  # fmt: skip
        return document("ListPartsResult", content, MULTIPART_NAMESPACE)

    def list_uploads(self, bucket: str, request: StreamedRequest, context: Context) -> JsonResponse:
        """What is under way in a bucket, by name."""
        self._store.bucket(bucket)
        prefix, limit = request.parameter("prefix"), limit_of(request, "max-uploads")
        key, upload_id = request.parameter("key-marker"), request.parameter("upload-id-marker")
        # Without an id, all uploads of the marker's own name are past; no id begins with this character.
        after = (key, upload_id or ("\U0010ffff" if key else ""))
        uploads = self._parts.uploads(bucket, prefix, after, limit + 1)
        shown = uploads[:limit]
        content: list[Node] = [
            ("Bucket", bucket), ("KeyMarker", key), ("UploadIdMarker", upload_id), ("Prefix", prefix),
            ("MaxUploads", limit), ("IsTruncated", len(uploads) > limit),
        ]  # fmt: skip
        if len(uploads) > limit and shown:
            content += [("NextKeyMarker", shown[-1].name), ("NextUploadIdMarker", shown[-1].id)]
        content += [
            ("Upload", [("Key", upload.name), ("UploadId", upload.id), ("StorageClass", "STANDARD"),
                        ("Initiated", time_text(upload.created))])
            for upload in shown
        ]  # fmt: skip
        return document("ListMultipartUploadsResult", content, MULTIPART_NAMESPACE)

    def _upload(self, target: Target, request: StreamedRequest) -> PartUpload:
        return self._parts.upload(target.bucket, target.name, request.parameter("uploadId"))
