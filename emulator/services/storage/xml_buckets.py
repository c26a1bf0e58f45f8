"""The XML API: the service's list of buckets, buckets, and lists of objects.

Source: https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, MethodNotImplemented

from emulator.core.service import Context, JsonResponse
from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage import acl, listing
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.names import after_prefix
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.resources import bucket_etag, time_text
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_documents import CONTENT_TYPE, NAMESPACE, Element, Node, read, write, xml_error
from emulator.services.storage.xml_objects import etag

_LARGEST_DOCUMENT_BYTES = 1 << 20
_MOST_KEYS = 1000
_SCOPES = {"user": "UserByEmail", "group": "GroupByEmail", "domain": "GroupByDomain", "project": "GroupById"}
_PERMISSIONS = {"OWNER": "FULL_CONTROL", "WRITER": "WRITE", "READER": "READ"}


class XmlBuckets:
    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self._documents: Mapping[str, Callable[[StoredBucket, Mapping[str, Any]], bytes]] = {
            "location": lambda _, fields: write("LocationConstraint", fields["location"], NAMESPACE),
            "storageClass": lambda _, fields: write("StorageClass", fields["storageClass"], NAMESPACE),
            "versioning": lambda _, fields: write("VersioningConfiguration", _versioning(fields), NAMESPACE),
            "cors": lambda _, fields: write("CorsConfig", _cors(fields)),
            "lifecycle": lambda _, fields: write("LifecycleConfiguration", _lifecycle(fields)),
            "acl": self._acl,
        }

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
        for setting, made in self._documents.items():
            if request.has(setting):
                body = made(bucket, json.loads(bucket.fields))
                return JsonResponse(body, 200, {"content-type": CONTENT_TYPE})
        return self._list(bucket, request)

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
        conditions = Preconditions.of(
            {"ifMetagenerationMatch": request.headers.get("x-goog-if-metageneration-match")}, request.headers
        )
        self._store.delete_bucket(
            name,
            lambda bucket: conditions.check_for_write(bucket.created, bucket.metageneration, bucket_etag(bucket)),
        )
        return JsonResponse(None, 204)

    def acl_of(self, stored: StoredObject) -> JsonResponse:
        """An object's list of access controls."""
        bucket = self._store.bucket(stored.bucket)
        acl.refuse_if_uniform(bucket, "get", "an object")
        project = self._store.projects.get(bucket.project)
        return JsonResponse(_acl_document(acl.object_list(stored, project)), 200, {"content-type": CONTENT_TYPE})

    def _acl(self, bucket: StoredBucket, fields: Mapping[str, Any]) -> bytes:
        acl.refuse_if_uniform(bucket, "get", "a bucket")
        return _acl_document(acl.bucket_list(bucket, self._store.projects.get(bucket.project)))

    def _list(self, bucket: StoredBucket, request: StreamedRequest) -> JsonResponse:
        """Objects, in the form of either version of the call."""
        second = request.parameter("list-type") == "2"
        if request.has("versions"):
            raise MethodNotImplemented("Lists of versions are not emulated in the XML API; the JSON API has them.")
        prefix, delimiter = request.parameter("prefix"), request.parameter("delimiter")
        limit = limit_of(request, "max-keys")
        token = request.parameter("continuation-token") if second else ""
        after = request.parameter("start-after" if second else "marker")
        start = listing.parse_page_token(token)
        if not token:
            self._store.jobs.find_new(bucket.name, prefix)
            start = (_beyond(after, prefix, delimiter), 0)
        page = listing.Page()
        if limit:
            query = listing.Query(bucket.name, prefix, delimiter, start=start, limit=limit)
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
        else:
            content.append(("Marker", shown(after)))
            if page.next_start:
                content.append(("NextMarker", shown(last)))
        content.append(("IsTruncated", page.next_start is not None))
        content += [("Contents", list(self._entry(item, shown))) for item in page.items]
        content += [("CommonPrefixes", [("Prefix", shown(text))]) for text in page.prefixes]
        return document("ListBucketResult", content)

    def _entry(self, item: StoredObject, shown: Callable[[str], str]) -> Iterator[Node]:
        item = self._store.md5(item)
        yield "Key", shown(item.name)
        yield "Generation", item.generation
        yield "MetaGeneration", item.metageneration
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


def _encoder(request: StreamedRequest) -> Callable[[str], str]:
    """How names are written: as they are, or for `encoding-type=url` percent-encoded."""
    encoding = request.parameter("encoding-type")
    if encoding not in ("", "url"):
        raise BadRequest(f"Invalid argument: encoding-type {encoding!r} is not known.")
    return (lambda name: quote(name, safe="/")) if encoding else str


def _versioning(fields: Mapping[str, Any]) -> list[Node]:
    if "versioning" not in fields:
        return []
    return [("Status", "Enabled" if fields["versioning"].get("enabled") else "Suspended")]


def _cors(fields: Mapping[str, Any]) -> Iterator[Node]:
    for rule in fields.get("cors", []):
        content: list[Node] = [
            ("Origins", [("Origin", text) for text in rule.get("origin", [])]),
            ("Methods", [("Method", text) for text in rule.get("method", [])]),
            ("ResponseHeaders", [("ResponseHeader", text) for text in rule.get("responseHeader", [])]),
        ]
        if "maxAgeSeconds" in rule:
            content.append(("MaxAgeSec", rule["maxAgeSeconds"]))
        yield "Cors", content


def _lifecycle(fields: Mapping[str, Any]) -> Iterator[Node]:
    for rule in fields.get("lifecycle", {}).get("rule", []):
        action = rule.get("action", {})
        condition: list[Node] = []
        for name, value in rule.get("condition", {}).items():
            for one in value if isinstance(value, list) else [value]:
                condition.append((name[:1].upper() + name[1:], one))
        done: Node = (str(action.get("type", "")), str(action.get("storageClass", "")))
        yield "Rule", [("Action", [done]), ("Condition", condition)]


def _acl_document(entries: Iterable[Mapping[str, Any]]) -> bytes:
    def entry(given: Mapping[str, Any]) -> list[Node]:
        kind, dash, who = str(given["entity"]).partition("-")
        if not dash:
            scope: Node = (f'Scope type="{kind[:1].upper()}{kind[1:]}"', "")
        else:
            name = "EmailAddress" if kind in ("user", "group") else "Domain" if kind == "domain" else "ID"
            scope = (f'Scope type="{_SCOPES[kind]}"', [(name, who)])
        return [scope, ("Permission", _PERMISSIONS[str(given["role"])])]

    return write("AccessControlList", [("Entries", [("Entry", entry(given)) for given in entries])])
