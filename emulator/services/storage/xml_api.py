"""The XML API: `storage.googleapis.com/{bucket}/{object}`, `{bucket}.storage.googleapis.com/{object}`.

What clients of S3, signed addresses, browsers and curl speak. Who calls is found out here: a token, a signature, the
id of a resumable session, or on the plain port nobody.
Source: https://cloud.google.com/storage/docs/xml-api/overview
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_to_bytes

from google.api_core.exceptions import (
    BadRequest,
    Forbidden,
    GoogleAPICallError,
    MethodNotAllowed,
    MethodNotImplemented,
    Unauthenticated,
)

from emulator.core import errors
from emulator.core.egress import is_loopback
from emulator.core.service import Caller, Context, FileBody, JsonResponse
from emulator.core.streamed_http import StreamedHttp, StreamedRequest
from emulator.core.tables import canonical_host
from emulator.services.storage import cors
from emulator.services.storage.form_uploads import FormUploads
from emulator.services.storage.hmac_keys import HmacKeys
from emulator.services.storage.signatures import Signatures, Verifier
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_buckets import XmlBuckets
from emulator.services.storage.xml_documents import CONTENT_TYPE, error_document
from emulator.services.storage.xml_multipart import XmlMultipart
from emulator.services.storage.xml_objects import Target, XmlObjects, generation_of
from emulator.services.storage.xml_settings import WRITTEN

_BUCKET_HOST = ".storage.googleapis.com"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_JSON_PATHS = ("/storage/v1", "/upload/storage/", "/resumable/upload/", "/download/storage/", "/batch", "/emulator")
#: Parts of a bucket or an object that are named in the query and not served.
_ABSENT = {
    "billing", "encryption", "encryptionConfig", "legal-hold", "logging", "notification",
    "object-lock", "policy", "publicAccessBlock", "replication", "requestPayment", "retention", "tagging", "website",
}  # fmt: skip
_MESSAGE_ANONYMOUS = "Anonymous caller does not have permission to access this resource."

Handler = Callable[[Target, StreamedRequest, Context], JsonResponse]


class XmlApi(StreamedHttp):
    """verifier: whose keys sign addresses. project: where buckets are listed and made unless a call says so."""

    name = "storage.xml"

    def __init__(self, store: ObjectFiles, verifier: Verifier, project: str) -> None:
        self._store = store
        self._keys = HmacKeys(store)
        self._project = project
        self._signatures = Signatures(verifier, self._keys)
        self._buckets = XmlBuckets(store)
        self._objects = XmlObjects(store)
        self._multipart = XmlMultipart(store, self._objects)
        self._forms = FormUploads(store, self._objects, self._signatures)

    def matches(self, host: str, path: str, headers: Mapping[str, str]) -> bool:
        if host.endswith(_BUCKET_HOST):
            return True
        if is_loopback(host):
            # Here other services live too: what cannot be a bucket is none of ours.
            first = path.split("/", 2)[1]
            if not first and "authorization" not in headers:
                return False
            if first and not _BUCKET.fullmatch(first):
                return False
        elif canonical_host(host) != "storage.googleapis.com" or host.startswith("www."):
            return False
        return not path.startswith(_JSON_PATHS)

    def caller(self, request: StreamedRequest) -> Caller:
        try:
            return self._caller(request)
        except GoogleAPICallError as error:
            raise _told(error) from None

    def _caller(self, request: StreamedRequest) -> Caller:
        """Raises Unauthenticated for a bad token, Forbidden and BadRequest as signatures do."""
        if request.verb == "options":
            return Caller("anonymous")  # a browser's question, sent without credentials
        if request.caller is not None:
            return request.caller
        signer = self._signatures.check(request)
        if signer is not None:
            return signer
        # The address of a session is its credential, and a form brings its own.
        needs_none = _is_session(request) or _is_form(request)
        if needs_none or request.allows_anonymous:
            return Caller("anonymous")
        if "authorization" in request.headers:
            raise Unauthenticated("Authentication required.")
        raise Forbidden(_MESSAGE_ANONYMOUS)

    def admits_page(self, request: StreamedRequest) -> bool:
        """Only with a credential in the address, and only where the bucket's CORS settings name the page's origin.

        Whoever has such an address may use it from anywhere; what a page lacks is the trust put in the plain port.
        """
        bucket = _target(request).bucket
        if request.verb == "options":
            return cors.preflight(self._store, bucket, request) is not None
        if not (_is_session(request) or self._is_signed(request)):
            return False
        return cors.headers_for(self._store, bucket, request, request.verb) is not None

    def _is_signed(self, request: StreamedRequest) -> bool:
        try:
            return self._signatures.check(request) is not None
        except GoogleAPICallError:
            return False

    def handle(self, request: StreamedRequest, context: Context) -> JsonResponse:
        try:
            target = _target(request)
            if request.verb == "options":
                allowed = cors.preflight(self._store, target.bucket, request)
                return JsonResponse(None, 200, {"content-type": "text/html; charset=UTF-8", **(allowed or {})})
            answer = self._answer(target, request, context)
        except GoogleAPICallError as error:
            raise _told(error) from None
        shared = cors.headers_for(self._store, target.bucket, request, request.verb)
        if shared:
            answer = replace(answer, headers={**answer.headers, **shared})
        return _without_body(answer) if request.verb == "head" else answer

    def _answer(self, target: Target, request: StreamedRequest, context: Context) -> JsonResponse:
        # First what needed no credentials: it must never become another call.
        if _is_session(request):
            return self._objects.continue_resumable(target, request, context)
        if _is_form(request):
            if not target.bucket or target.name:
                raise MethodNotAllowed("A form is sent to a bucket.")
            return self._forms.post(target.bucket, request, context)
        absent = next((key for key, _ in request.query if key in _ABSENT), None)
        if absent:
            raise MethodNotImplemented(f"?{absent} is not emulated in the XML API.")
        if not target.bucket:
            if request.verb not in ("get", "head"):
                raise MethodNotAllowed("The specified method is not allowed against this resource.")
            return self._buckets.list_all(self._project_of(request), request)
        if not target.name:
            return self._answer_bucket(target.bucket, request, context)
        return self._object_handler(request)(target, request, context)

    def _answer_bucket(self, bucket: str, request: StreamedRequest, context: Context) -> JsonResponse:
        if request.verb == "get" and request.has("uploads"):
            return self._multipart.list_uploads(bucket, request, context)
        if request.verb == "put":
            if any(request.has(setting) for setting in WRITTEN):
                return self._buckets.settings.put(bucket, request)
            if request.has("storageClass"):
                raise MethodNotImplemented("?storageClass is only read in the XML API.")
            return self._buckets.create(bucket, self._project_of(request), request, context)
        if request.verb == "post" and request.has("delete"):
            return self._buckets.delete_many(bucket, request, context)
        handlers: Mapping[str, Any] = {
            "get": self._buckets.get, "head": self._buckets.head, "delete": self._buckets.delete
        }  # fmt: skip
        if request.verb not in handlers:
            raise MethodNotAllowed("The specified method is not allowed against this resource.")
        answer: JsonResponse = handlers[request.verb](bucket, request, context)
        return answer

    def _object_handler(self, request: StreamedRequest) -> Handler:
        """By verb, and by what the query says."""
        if request.has("acl"):
            return self._object_acl
        part_upload = request.has("uploadId")
        match request.verb:
            case "get" | "head":
                return self._multipart.list_parts if part_upload else self._objects.get
            case "put" if part_upload:
                return self._multipart.put_part
            case "put" if request.has("compose"):
                return self._objects.compose
            case "put":
                copies = "x-goog-copy-source" in request.headers or "x-amz-copy-source" in request.headers
                return self._objects.copy if copies else self._objects.put
            case "post" if request.has("uploads"):
                return self._multipart.begin
            case "post" if part_upload:
                return self._multipart.complete
            case "post" if request.headers.get("x-goog-resumable", "").lower() == "start":
                return self._objects.begin_resumable
            case "delete":
                return self._multipart.abort if part_upload else self._objects.delete
        raise MethodNotAllowed("The specified method is not allowed against this resource.")

    def _object_acl(self, target: Target, request: StreamedRequest, _: Context) -> JsonResponse:
        generation, settings = generation_of(request), self._buckets.settings
        if request.verb == "put":
            return settings.put_acl_of(target, request, generation)
        if request.verb != "get":
            raise MethodNotAllowed("The specified method is not allowed against this resource.")
        return settings.acl_of(self._store.find(target.bucket, target.name, generation))

    def _project_of(self, request: StreamedRequest) -> str:
        named = request.headers.get("x-goog-project-id") or request.headers.get("x-amz-project-id")
        key = re.search(r"Credential=([^/]+)/|(?:AWS|GOOG1) ([^:]+):", request.headers.get("authorization", ""))
        return named or (self._keys.project_of(key[1] or key[2]) if key else None) or self._project


def _target(request: StreamedRequest) -> Target:
    """Bucket and object of an address, each empty where it names none. Raises BadRequest.

    Decoded once: a name may hold `%2F`, and slashes anywhere.
    """
    raw = unquote_to_bytes(request.path)
    try:
        path = raw.decode()[1:]
    except UnicodeDecodeError:
        raise BadRequest("The name of an object must be valid UTF-8.") from None
    if request.host.endswith(_BUCKET_HOST):
        return Target(request.host.removesuffix(_BUCKET_HOST), path)
    bucket, _, name = path.partition("/")
    return Target(bucket, name)


def _is_session(request: StreamedRequest) -> bool:
    """Whether a request goes on with, asks about or cancels a resumable upload."""
    return request.verb in ("put", "post", "delete") and request.has("upload_id")


def _is_form(request: StreamedRequest) -> bool:
    return request.verb == "post" and request.headers.get("content-type", "").startswith("multipart/form-data")


def _without_body(answer: JsonResponse) -> JsonResponse:
    """The head alone; what would have been read for the body is closed."""
    if isinstance(answer.body, FileBody):
        os.close(answer.body.descriptor)
    elif answer.body is not None and not isinstance(answer.body, bytes | dict):
        # Only a generator that has begun closes its file.
        body = iter(answer.body)
        next(body, None)
        with contextlib.suppress(AttributeError):
            body.close()  # type: ignore[attr-defined]
    elif isinstance(answer.body, bytes):
        return replace(answer, body=None, headers={"content-length": str(len(answer.body)), **answer.headers})
    return replace(answer, body=None)


def _told(error: GoogleAPICallError) -> GoogleAPICallError:
    """The same error, which goes out as XML."""
    status = errors.http_status(error)
    body = b"" if status == 304 else error_document(error)
    return errors.answered(error, errors.Answer(status, CONTENT_TYPE, body))
