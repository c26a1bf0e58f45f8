"""POST policy documents: uploads by an HTML form, allowed by a policy that somebody signed.

Source: https://cloud.google.com/storage/docs/xml-api/post-object-forms,
https://cloud.google.com/storage/docs/authentication/signatures#policy-document
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from google.api_core.exceptions import BadRequest, Forbidden

from emulator.core.service import Context, JsonResponse
from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage.multipart import FormData
from emulator.services.storage.resources import origin
from emulator.services.storage.signatures import Signatures
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_documents import CONTENT_TYPE, write, xml_error
from emulator.services.storage.xml_objects import Target, XmlObjects, etag

#: Fields that need no condition: what carries the policy, and what the uploader may leave to chance.
_FREE = {"policy", "file", "x-goog-signature", "x-amz-signature", "signature", "googleaccessid"}
_AS_HEADERS = re.compile(
    r"content-type|content-disposition|content-encoding|cache-control|x-goog-(?:meta-.+|custom-time)"
)


@dataclass(frozen=True)
class _Limits:
    """Least and most bytes of the file."""

    least: int = 0
    most: int | None = None


class FormUploads:
    def __init__(self, store: ObjectFiles, objects: XmlObjects, signatures: Signatures) -> None:
        self._store = store
        self._objects = objects
        self._signatures = signatures

    def post(self, bucket: str, request: StreamedRequest, context: Context) -> JsonResponse:
        """204, or what the form asks for. Raises Forbidden without a policy that allows this upload."""
        form = FormData(request.headers.get("content-type", ""), request.body)
        fields = form.fields
        key = fields.get("key", "").replace("${filename}", form.file_name)
        if not key:
            raise BadRequest("The form must have a field named key.")
        limits = _Limits()
        if "policy" in fields:
            context = context.by(self._signatures.check_policy(fields))
            limits = _check_policy(fields, bucket)
        elif not (request.allows_anonymous or context.caller.subject != "anonymous"):
            raise Forbidden("Anonymous caller does not have storage.objects.create access to the bucket.")
        self._store.bucket(bucket)
        headers = {name: value for name, value in fields.items() if _AS_HEADERS.fullmatch(name)}
        if "acl" in fields:
            headers["x-goog-acl"] = fields["acl"]
        headers.setdefault("content-type", form.content_type or "application/octet-stream")
        target = Target(bucket, key)
        described = replace(request, headers=headers)
        stored = self._objects.store(
            target, described, self._objects.new_fields(target, described, context), _limited(form.data(), limits)
        )
        answer = {"etag": etag(stored), "x-goog-generation": str(stored.generation)}
        address = f"{origin(request.uri)}/{bucket}/{quote(key)}"
        redirect = urlsplit(fields.get("success_action_redirect", ""))
        if redirect.scheme in ("http", "https"):
            query = urlencode({"bucket": bucket, "key": key, "etag": answer["etag"]})
            joined = urlunsplit(redirect._replace(query=f"{redirect.query}&{query}" if redirect.query else query))
            return JsonResponse(None, 303, {**answer, "location": joined})
        status = {"200": 200, "201": 201}.get(fields.get("success_action_status", ""), 204)
        if status != 201:
            return JsonResponse(None, status, {**answer, "location": address})
        document = write(
            "PostResponse", [("Location", address), ("Bucket", bucket), ("Key", key), ("ETag", answer["etag"])]
        )
        return JsonResponse(document, 201, {**answer, "location": address, "content-type": CONTENT_TYPE})


def _check_policy(fields: Mapping[str, str], bucket: str) -> _Limits:
    """Raises Forbidden unless the policy allows the form, BadRequest when it is over or cannot be read."""
    try:
        policy: dict[str, Any] = json.loads(base64.b64decode(fields["policy"], validate=True))
        expiration = datetime.fromisoformat(policy["expiration"])
        conditions: list[Any] = policy["conditions"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise xml_error(BadRequest, "InvalidPolicyDocument", "The content of the form does not meet the conditions "
                        "specified in the policy document.", "The policy cannot be read.") from None  # fmt: skip
    expires = (expiration if expiration.tzinfo else expiration.replace(tzinfo=UTC)).timestamp()
    if expires < time.time():
        raise xml_error(BadRequest, "ExpiredToken", "The provided token has expired.", "The policy has expired.")
    given = {**fields, "bucket": bucket}
    limits, named = _Limits(), {"bucket"}
    for condition in conditions:
        for operator, name, value in _clauses(condition):
            if operator == "content-length-range":
                limits = _Limits(int(name), int(value))
                continue
            named.add(name)
            actual = given.get(name, "")
            if not (actual.startswith(value) if operator == "starts-with" else actual == value):
                raise _violated(f"{operator} ${name}: {value!r}")
    unnamed = next((name for name in fields if name not in named | _FREE and not name.startswith("x-ignore-")), None)
    if unnamed is not None:
        raise _violated(f"extra field {unnamed}")
    return limits


def _clauses(condition: Any) -> Iterator[tuple[str, str, str]]:
    """Operator, field and value of one condition: `{"acl": "private"}` or `["starts-with", "$key", "a/"]`."""
    if isinstance(condition, dict):
        yield from (("eq", name.lower(), str(value)) for name, value in condition.items())
        return
    if isinstance(condition, list) and len(condition) == 3:
        operator, name, value = (str(part) for part in condition)
        is_range = operator == "content-length-range" and name.isdecimal() and value.isdecimal()
        if is_range or (operator in ("eq", "starts-with") and name.startswith("$")):
            yield operator, name.lstrip("$").lower(), value
            return
    raise xml_error(BadRequest, "InvalidPolicyDocument", f"The condition {condition!r} is not known.")


def _limited(data: Iterable[bytes], limits: _Limits) -> Iterator[bytes]:
    """The same pieces. Raises BadRequest once they are too many, or at the end when they are too few."""
    size = 0
    for piece in data:
        size += len(piece)
        if limits.most is not None and size > limits.most:
            raise xml_error(BadRequest, "EntityTooLarge", f"The file is larger than {limits.most} bytes.")
        yield piece
    if size < limits.least:
        raise xml_error(BadRequest, "EntityTooSmall", f"The file is smaller than {limits.least} bytes.")


def _violated(what: str) -> Forbidden:
    return xml_error(
        Forbidden, "AccessDenied", "Access denied.", f"Invalid according to Policy: Policy Condition failed: {what}"
    )
