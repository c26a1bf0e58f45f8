"""The XML API: the service's list of buckets, buckets, and lists of objects.

Source: https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, GoogleAPICallError, MethodNotImplemented, NotFound

from emulator.core.service import Context, JsonResponse
from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage import listing
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.names import after_prefix
from emulator.services.storage.preconditions import Preconditions, integer
from emulator.services.storage.resources import bucket_etag, time_text
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_documents import (
    CONTENT_TYPE,
    NAMESPACE,
    Element,
    Node,
    error_code,
    read,
    write,
    xml_error,
)
from emulator.services.storage.xml_objects import etag, integrity_checked
from emulator.services.storage.xml_settings import WRITTEN, XmlSettings

_LARGEST_DOCUMENT_BYTES = 1 << 20
_MOST_KEYS = 1000


class XmlBuckets:
    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self.settings = XmlSettings(store)

    def list_all(self, project: str, request: StreamedRequest) -> JsonResponse:
        """The buckets of a project."""
        owner = self._store.projects.get(project)
        start, stored = "", []
        while page := self._store.catalogue.buckets(owner.id, "", start, _MOST_KEYS):
            stored += page
            start = page[-1].name + "\0"
        buckets = [
            ("Bucket", [("Name", bucket.name), ("CreationDate", time_text(bucket.created))]) for bucket in stored
        ]
        content: list[Node] = [("Owner", [("ID", owner.number)]), ("Buckets", buckets)]
        return document("ListAllMyBucketsResult", content)

    def get(self, name: str, request: StreamedRequest, context: Context) -> JsonResponse:
        """A list of objects, or a setting that the query names."""
        bucket = self._store.bucket(name)
        return self.settings.get(bucket, request) or self._list(bucket, request)

    def head(self, name: str, request: StreamedRequest, context: Context) -> JsonResponse:
        bucket = self._store.bucket(name)
        fields = json.loads(bucket.fields)
        return JsonResponse(
            None,
            200,
            {
                "content-type": CONTENT_TYPE,
                "x-goog-metageneration": str(bucket.metageneration),
                "x-goog-bucket-location": fields["location"],
                "x-goog-storage-class": fields["storageClass"],
            },
        )

    def create(self, name: str, project: str, request: StreamedRequest, context: Context) -> JsonResponse:
        """Raises Conflict, BadRequest."""
        text = request.body.read(_LARGEST_DOCUMENT_BYTES)
        asked = read(text) if text.strip() else Element("")
        if text.strip() and asked.name != "CreateBucketConfiguration":
            raise xml_error(BadRequest, "MalformedXML", "The XML you provided is no CreateBucketConfiguration.")
        location = asked.find("LocationConstraint") or ""
        fields = {
            # `auto` is what S3 clients call the place that the service chooses.
            "location": "" if location == "auto" else location,
            "storageClass": asked.find("StorageClass") or request.headers.get("x-goog-storage-class", ""),
        }
        self._store.create_bucket(name, project, {key: value for key, value in fields.items() if value})
        return JsonResponse(None, 200, {"content-type": "text/html; charset=UTF-8", "location": f"/{name}"})

    def delete(self, name: str, request: StreamedRequest, context: Context) -> JsonResponse:
        if any(request.has(setting) for setting in (*WRITTEN, "storageClass", "location")):
            raise MethodNotImplemented("Settings are taken away by an empty document of theirs, not by DELETE.")
        conditions = Preconditions.of(
            {"ifMetagenerationMatch": request.headers.get("x-goog-if-metageneration-match")}, request.headers
        )
        self._store.delete_bucket(
            name,
            lambda bucket: conditions.check_for_write(bucket.created, bucket.metageneration, bucket_etag(bucket)),
        )
        return JsonResponse(None, 204)

    def delete_many(self, name: str, request: StreamedRequest, context: Context) -> JsonResponse:
        """Delete up to a thousand objects, each for itself: the answer tells of every one what became of it.

        Raises BadRequest for a document that is none. An object that is not there counts as deleted.
        """
        root = read(integrity_checked(request, _LARGEST_DOCUMENT_BYTES))
        wanted = [child for child in root.children if child.name == "Object"]
        is_whole = root.name == "Delete" and all(item.raw("Key") for item in wanted)
        if not is_whole or not 1 <= len(wanted) <= _MOST_KEYS:
            raise xml_error(
                BadRequest, "MalformedXML", f"The XML you provided is no Delete of 1 to {_MOST_KEYS} Objects."
            )
        self._store.bucket(name)
        quiet = (root.find("Quiet") or "").lower() == "true"
        content: list[Node] = []
        for item in wanted:
            key, version = item.raw("Key"), item.find("VersionId") or ""
            about: list[Node] = [("Key", key), *([("VersionId", version)] if version else [])]
            try:
                with contextlib.suppress(NotFound):
                    self._store.delete(name, key, generation=integer({"VersionId": version or None}, "VersionId"))
            except GoogleAPICallError as error:
                content.append(("Error", [*about, ("Code", error_code(error)), ("Message", error.message)]))
            else:
                content += [] if quiet else [("Deleted", about)]
        return document("DeleteResult", content)

    def _list(self, bucket: StoredBucket, request: StreamedRequest) -> JsonResponse:
        """Objects, in the form of either version of the call."""
        versions = request.has("versions")
        second = request.parameter("list-type") == "2" and not versions
        prefix, delimiter = request.parameter("prefix"), request.parameter("delimiter")
        limit = limit_of(request, "max-keys")
        token = request.parameter("continuation-token") if second else ""
        after = request.parameter("start-after" if second else "marker")
        if versions:
            after = after or request.parameter("key-marker")
        start = listing.parse_page_token(token)
        if not token:
            self._store.jobs.find_new(bucket.name, prefix)
            start = (_beyond(after, prefix, delimiter), 0)
            if versions and after and _generation_marker(request):
                start = (after, _generation_marker(request) + 1)
        page = listing.Page()
        if limit:
            query = listing.Query(bucket.name, prefix, delimiter, start=start, limit=limit, versions=versions)
            page = listing.list_page(self._store, query)
        shown = _encoder(request)
        content: list[Node] = [("Name", bucket.name), ("Prefix", shown(prefix)), ("MaxKeys", limit)]
        if delimiter:
            content.append(("Delimiter", shown(delimiter)))
        if request.parameter("encoding-type"):
            content.append(("EncodingType", "url"))
        last = max([*page.prefixes, *(item.name for item in page.items)], default="")
        if second:
            content += [("KeyCount", page.size), ("ContinuationToken", token), ("StartAfter", shown(after))]
            if page.next_start:
                content.append(("NextContinuationToken", listing.page_token(*page.next_start)))
        elif versions:
            content += [("KeyMarker", shown(after)), ("VersionIdMarker", _generation_marker(request) or "")]
            if page.next_start:
                generation = page.items[-1].generation if page.items and page.items[-1].name == last else ""
                content += [("NextMarker", shown(last)), ("NextGenerationMarker", generation)]
                content += [("NextKeyMarker", shown(last)), ("NextVersionIdMarker", generation)]
        else:
            content.append(("Marker", shown(after)))
            if page.next_start:
                content.append(("NextMarker", shown(last)))
        content.append(("IsTruncated", page.next_start is not None))
        entry = "Version" if versions else "Contents"
        content += [(entry, list(self._entry(item, shown, of_versions=versions))) for item in page.items]
        content += [("CommonPrefixes", [("Prefix", shown(text))]) for text in page.prefixes]
        return document("ListBucketResult", content)

    def _entry(self, item: StoredObject, shown: Callable[[str], str], *, of_versions: bool) -> Iterator[Node]:
        item = self._store.md5(item)
        yield "Key", shown(item.name)
        yield "Generation", item.generation
        yield "MetaGeneration", item.metageneration
        if of_versions:
            yield "VersionId", item.generation
            yield "IsLatest", item.is_live
        yield "LastModified", time_text(item.updated)
        yield "ETag", etag(item)
        yield "Size", item.size
        yield "StorageClass", json.loads(item.fields).get("storageClass", "STANDARD")


def document(name: str, content: Iterable[Node], namespace: str = NAMESPACE) -> JsonResponse:
    return JsonResponse(write(name, content, namespace), 200, {"content-type": CONTENT_TYPE})


def limit_of(request: StreamedRequest, name: str, most: int = _MOST_KEYS) -> int:
    """How many entries are asked for, up to the most that there are. Raises BadRequest."""
    text = request.parameter(name, str(most)) or str(most)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(f"Invalid argument: {name} must be a number from 0 to {most}.")
    return min(int(text), most)


def _beyond(marker: str, prefix: str, delimiter: str) -> str:
    """The first name behind a marker; behind a common prefix come the names that it does not stand for."""
    if not marker:
        return ""
    if delimiter and marker.endswith(delimiter) and marker.startswith(prefix) and len(marker) > len(prefix):
        return after_prefix(marker) or "\U0010ffff"
    return marker + "\0"


def _generation_marker(request: StreamedRequest) -> int:
    """The generation behind which a list of versions goes on; 0 for none. S3's clients have their own name for it."""
    given = {"marker": request.parameter("generation-marker") or request.parameter("version-id-marker") or None}
    return integer(given, "marker") or 0


def _encoder(request: StreamedRequest) -> Callable[[str], str]:
    """How names are written: as they are, or for `encoding-type=url` percent-encoded."""
    encoding = request.parameter("encoding-type")
    if encoding not in ("", "url"):
        raise BadRequest(f"Invalid argument: encoding-type {encoding!r} is not known.")
    return (lambda name: quote(name, safe="/")) if encoding else str
