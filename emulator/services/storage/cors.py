"""Cross-origin requests: what a bucket's `cors` settings let pages of other origins do.

Source: https://cloud.google.com/storage/docs/cross-origin
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage.store import ObjectFiles


def headers_for(store: ObjectFiles, bucket: str, request: StreamedRequest, verb: str) -> dict[str, str] | None:
    """Headers that let a page read the answer to its request; None when no rule allows it."""
    origin = request.headers.get("origin", "")
    rule = _rule(store, bucket, origin, verb)
    if rule is None:
        return None
    exposed = [name for name in rule.get("responseHeader", []) if name]
    headers = {"access-control-allow-origin": "*" if "*" in rule["origin"] else origin, "vary": "Origin"}
    return {**headers, "access-control-expose-headers": ", ".join(exposed)} if exposed else headers


def preflight(store: ObjectFiles, bucket: str, request: StreamedRequest) -> dict[str, str] | None:
    """Headers of the answer to an OPTIONS request; None when no rule allows what it asks for."""
    asked = request.headers.get("access-control-request-method", "")
    shared = headers_for(store, bucket, request, asked)
    rule = _rule(store, bucket, request.headers.get("origin", ""), asked)
    if not asked or shared is None or rule is None:
        return None
    wanted = [name.strip() for name in request.headers.get("access-control-request-headers", "").split(",")]
    allowed = {name.lower() for name in rule.get("responseHeader", [])}
    # A rule names the headers that may be sent together with those that may be read.
    if any(name and name.lower() not in allowed for name in wanted) and "*" not in allowed:
        return None
    shared.pop("access-control-expose-headers", None)
    return {
        **shared,
        "access-control-allow-methods": ",".join(rule.get("method", [])),
        "access-control-allow-headers": ",".join(name for name in wanted if name),
        "access-control-max-age": str(rule.get("maxAgeSeconds", 3600)),
    }


def _rule(store: ObjectFiles, bucket: str, origin: str, verb: str) -> Mapping[str, Any] | None:
    """The first rule for an origin and a verb."""
    found = store.catalogue.find_bucket(bucket) if origin and bucket else None
    for rule in json.loads(found.fields).get("cors", []) if found else []:
        methods = {method.upper() for method in rule.get("method", [])}
        if {origin, "*"} & set(rule.get("origin", [])) and {verb.upper(), "*"} & methods:
            return dict(rule)
    return None
