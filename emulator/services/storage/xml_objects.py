"""The XML API: objects.

Source: https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote

import google_crc32c
from google.api_core.exceptions import BadRequest, NotModified, PreconditionFailed, RequestRangeNotSatisfiable

from emulator.core.service import Context, JsonRequest, JsonResponse
from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage import encryption, ownership, resources
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.checksums import Expected, crc32c_text, md5_text
from emulator.services.storage.copies import Copies
from emulator.services.storage.downloads import header_text, media_response
from emulator.services.storage.names import check_object_name
from emulator.services.storage.preconditions import Preconditions, integer
from emulator.services.storage.signatures import checked_body, signed_sha256
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_documents import CONTENT_TYPE, NAMESPACE, error_document, read, write, xml_error

_LARGEST_COMPOSE_BYTES = 1 << 20
_DEFAULT_TYPE = "application/octet-stream"
_FIELDS = {
    "content-type": "contentType", "cache-control": "cacheControl", "content-disposition": "contentDisposition",
    "content-language": "contentLanguage", "content-encoding": "contentEncoding",
    "x-goog-storage-class": "storageClass", "x-amz-storage-class": "storageClass", "x-goog-custom-time": "customTime",
}  # fmt: skip
_META = re.compile(r"x-(?:goog|amz)-meta-(.+)")


@dataclass(frozen=True)
class Target:
    """What an address names."""

    bucket: str
    name: str


class XmlObjects:
    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self._copies = Copies(store)

    def get(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        """An object's bytes, whole or in part; for HEAD the front leaves them out."""
        stored, descriptor = self._store.open(target.bucket, target.name, generation_of(request))
        try:
            stored = self._store.md5(stored)
            _check_for_read(request, stored)
            encryption.check_key(stored, encryption.given_key(request.headers))
        except BaseException:
            os.close(descriptor)
            raise
        answer = media_response(stored, descriptor, request.headers)
        if answer.status == 416:
            error = RequestRangeNotSatisfiable("The requested range cannot be satisfied.")
            return JsonResponse(error_document(error), 416, {**answer.headers, "content-type": CONTENT_TYPE})
        fields = json.loads(stored.fields)
        headers = {**answer.headers, **_metadata_headers(fields, request.headers), "etag": etag(stored)}
        if "contentDisposition" not in fields:
            headers.pop("content-disposition", None)
        for name in ("content-type", "content-disposition"):
            if request.parameter(f"response-{name}"):
                headers[name] = header_text(request.parameter(f"response-{name}"))
        return replace(answer, headers=headers)

    def put(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        """Store an object as it comes."""
        fields = self.new_fields(target, request, context)
        return written(self.store(target, request, fields, self.body_of(request)))

    def store(
        self, target: Target, request: StreamedRequest, fields: dict[str, Any], data: Iterable[bytes]
    ) -> StoredObject:
        conditions = self.conditions(target, request)
        staged = self._store.files.stage()
        try:
            for piece in data:
                staged.write(piece)
            Expected.of({}, request.headers).check(staged.crc32c, staged.md5)
        except BaseException:
            staged.discard()
            raise
        return self._store.commit(staged, target.bucket, target.name, fields, conditions=conditions)

    def body_of(self, request: StreamedRequest) -> Iterable[bytes]:
        """The body, checked against the signature where that covers it."""
        sha256 = signed_sha256(request.headers)
        return checked_body(iter(request.body), sha256) if sha256 else request.body

    def delete(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        self._store.delete(
            target.bucket, target.name, generation=generation_of(request), conditions=self.conditions(target, request)
        )
        return JsonResponse(None, 204)

    def copy(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        """Of the object that a header names, within the service."""
        headers = request.headers
        source = (headers.get("x-goog-copy-source") or headers["x-amz-copy-source"]).partition("?")[0].lstrip("/")
        source_bucket, _, source_name = unquote(source).partition("/")
        if not source_bucket or not source_name:
            raise BadRequest("The copy source must be of the form bucket/object.")
        directive = headers.get("x-goog-metadata-directive") or headers.get("x-amz-metadata-directive", "COPY")
        body: dict[str, Any] = {}
        if directive.upper() == "REPLACE":
            body = {"contentType": _DEFAULT_TYPE, **_given_fields(headers)}
        elif "x-goog-storage-class" in headers:
            body = {"storageClass": headers["x-goog-storage-class"]}
        parameters = {
            "sourceBucket": source_bucket, "sourceObject": source_name, "destinationBucket": target.bucket,
            "destinationObject": target.name, "sourceGeneration": headers.get("x-goog-copy-source-generation"),
            **_write_parameters(headers), **_source_parameters(headers),
        }  # fmt: skip
        # If-Match is about the new object here; the source has headers of its own.
        bare = {name: value for name, value in headers.items() if name not in ("if-match", "if-none-match")}
        copy = JsonRequest({key: value for key, value in parameters.items() if value}, body, bare, None, request.uri)
        stored = self._copies.copy(copy, self._owned(target, request, context))
        moment = resources.time_text(stored.updated)
        document = write("CopyObjectResult", [("LastModified", moment), ("ETag", etag(stored))], NAMESPACE)
        return JsonResponse(document, 200, {"content-type": CONTENT_TYPE, **_generation_headers(stored)})

    def compose(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        """Join objects of one bucket, in the order that the document names them."""
        root = read(integrity_checked(request, _LARGEST_COMPOSE_BYTES))
        if root.name != "ComposeRequest" or any(part.name != "Component" for part in root.children):
            raise xml_error(BadRequest, "MalformedXML", "The XML you provided is no ComposeRequest of Components.")
        sources: list[dict[str, Any]] = []
        for part in root.children:
            match = part.find("IfGenerationMatch")
            conditions = {"objectPreconditions": {"ifGenerationMatch": match}} if match else {}
            generation = {"generation": part.find("Generation")} if part.find("Generation") else {}
            sources.append({"name": part.find("Name") or "", **generation, **conditions})
        destination = {"contentType": _DEFAULT_TYPE, **_given_fields(request.headers)}
        parameters = {
            "destinationBucket": target.bucket, "destinationObject": target.name, **_write_parameters(request.headers)
        }  # fmt: skip
        call = JsonRequest(
            {key: value for key, value in parameters.items() if value},
            {"sourceObjects": sources, "destination": destination}, request.headers, None, request.uri,
        )  # fmt: skip
        return written(self._copies.compose(call, self._owned(target, request, context)))

    def begin_resumable(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        """201 with the address of a session."""
        upload_id = self._store.uploads.begin(
            target.bucket, target.name, self.new_fields(target, request, context),
            conditions=self.conditions(target, request), expected=Expected.of({}, request.headers),
            total=integer(request.headers, "x-upload-content-length"),
        )  # fmt: skip
        address = f"{resources.origin(request.uri)}{request.path}?upload_id={quote(upload_id, safe='')}"
        return JsonResponse(None, 201, {"location": address, "x-guploader-uploadid": upload_id})

    def continue_resumable(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        upload_id = request.parameter("upload_id")
        if request.verb == "delete":
            self._store.uploads.cancel(upload_id)
            return JsonResponse(None, 499)
        result = self._store.uploads.receive(upload_id, request.headers, request.body, self._store.find)
        if isinstance(result, StoredObject):
            return written(result)
        return JsonResponse(None, 308, {"range": f"bytes=0-{result - 1}"} if result else {})

    def new_fields(self, target: Target, request: StreamedRequest, context: Context) -> dict[str, Any]:
        """What the headers say of a new object. Raises BadRequest, NotFound."""
        check_object_name(target.name)
        owned = self._owned(target, request, context)
        fields = resources.new_object_fields(_given_fields(request.headers), _DEFAULT_TYPE)
        return encryption.encrypted({**fields, **owned}, encryption.given_key(request.headers))

    def conditions(self, target: Target, request: StreamedRequest) -> Preconditions:
        """What must be true for a write. An ETag of this API names a generation."""
        conditions = Preconditions.of(_write_parameters(request.headers), request.headers)
        if conditions.etag_match in ("", "*") and conditions.etag_not_match in ("", "*"):
            return conditions
        row = self._store.catalogue.find(target.bucket, target.name)
        current = "" if row is None else etag(self._store.md5(row)).strip('"')
        if conditions.etag_match not in ("", "*"):
            if row is None or conditions.etag_match != current:
                raise PreconditionFailed("At least one of the pre-conditions you specified did not hold.")
            conditions = replace(conditions, etag_match="", generation_match=row.generation)
        if row is not None and conditions.etag_not_match == current:
            raise PreconditionFailed("At least one of the pre-conditions you specified did not hold.")
        return replace(conditions, etag_not_match="" if conditions.etag_not_match != "*" else "*")

    def _owned(self, target: Target, request: StreamedRequest, context: Context) -> dict[str, Any]:
        return ownership.of_new_object(
            self._store, self._store.bucket(target.bucket), context,
            predefined=canned_acl(request.headers),
            kms_key=request.headers.get("x-goog-encryption-kms-key-name", ""),
        )  # fmt: skip


def canned_acl(headers: Mapping[str, str]) -> str:
    """The predefined list that a header names, in the words of the JSON API; empty where none does."""
    words = (headers.get("x-goog-acl") or headers.get("x-amz-acl", "")).split("-")
    return words[0] + "".join(word.title() for word in words[1:])


def integrity_checked(request: StreamedRequest, most: int) -> bytes:
    """A small body, checked against its signature and checksums. Raises BadRequest, also for more bytes than `most`."""
    body = request.body.read(most + 1)
    if len(body) > most:
        raise xml_error(BadRequest, "EntityTooLarge", f"The document is larger than {most} bytes.")
    sha256 = signed_sha256(request.headers)
    if sha256:
        body = b"".join(checked_body(iter([body]), sha256))
    Expected.of({}, request.headers).check(
        google_crc32c.value(body), lambda: hashlib.md5(body, usedforsecurity=False).digest()
    )
    return body


def etag(stored: StoredObject) -> str:
    """The MD5 in hex, as S3 has it; for what has none, the service's own."""
    return f'"{stored.md5.hex()}"' if stored.md5 is not None else f'"-{resources.object_etag(stored)}"'


def written(stored: StoredObject) -> JsonResponse:
    """The answer to an upload: no body, all in the headers."""
    hashes = f"crc32c={crc32c_text(stored.crc32c)}" + (f",md5={md5_text(stored.md5)}" if stored.md5 else "")
    return JsonResponse(
        None, 200, {"content-type": "text/html; charset=UTF-8", "etag": etag(stored), "x-goog-hash": hashes,
                    "x-goog-stored-content-length": str(stored.size), **_generation_headers(stored)},
    )  # fmt: skip


def _generation_headers(stored: StoredObject) -> dict[str, str]:
    return {"x-goog-generation": str(stored.generation), "x-goog-metageneration": str(stored.metageneration)}


def generation_of(request: StreamedRequest) -> int | None:
    """The generation that a query names. S3's clients call it the id of a version."""
    given = dict(request.query)
    return integer(given, "generation" if "generation" in given else "versionId")


def _check_for_read(request: StreamedRequest, stored: StoredObject) -> None:
    """Raises PreconditionFailed, NotModified."""
    conditions = Preconditions.of(_write_parameters(request.headers), request.headers)
    conditions.check(stored.generation, stored.metageneration, etag(stored).strip('"'))
    modified = stored.updated // 1_000_000
    since = _moment(request.headers.get("if-unmodified-since", ""))
    if since is not None and not conditions.etag_match and modified > since:
        raise PreconditionFailed("At least one of the pre-conditions you specified did not hold.")
    since = _moment(request.headers.get("if-modified-since", ""))
    if since is not None and not conditions.etag_not_match and modified <= since:
        raise NotModified("Not modified.")


def _moment(header: str) -> float | None:
    """Seconds since the epoch; None for what is no date, which is ignored."""
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _write_parameters(headers: Mapping[str, str]) -> dict[str, str | None]:
    return {
        "ifGenerationMatch": headers.get("x-goog-if-generation-match"),
        "ifMetagenerationMatch": headers.get("x-goog-if-metageneration-match"),
    }


def _source_parameters(headers: Mapping[str, str]) -> dict[str, str | None]:
    return {
        "ifSourceGenerationMatch": headers.get("x-goog-copy-source-if-generation-match"),
        "ifSourceMetagenerationMatch": headers.get("x-goog-copy-source-if-metageneration-match"),
    }


def _given_fields(headers: Mapping[str, str]) -> dict[str, Any]:
    """An object's fields among headers."""
    fields: dict[str, Any] = {field: _text(headers[name]) for name, field in _FIELDS.items() if headers.get(name)}
    metadata = {match[1]: _text(value) for name, value in headers.items() if (match := _META.fullmatch(name))}
    if metadata:
        fields["metadata"] = metadata
    return fields


def _text(value: str) -> str:
    """A header's value, which came as bytes that are mostly UTF-8."""
    data = value.encode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return value


def _metadata_headers(fields: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, str]:
    """Custom metadata; under Amazon's name where the client speaks that."""
    amazon = any(name.startswith("x-amz-") for name in asked) or asked.get("authorization", "").startswith("AWS4")
    prefix = "x-amz-meta-" if amazon else "x-goog-meta-"
    shown = {
        prefix + name.lower(): header_text(str(value))
        for name, value in fields.get("metadata", {}).items()
        if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name)
    }
    if "customTime" in fields:
        shown["x-goog-custom-time"] = header_text(fields["customTime"])
    return shown
