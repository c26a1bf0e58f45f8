"""The XML API: settings of buckets and access control lists, as documents and back.

Source: https://cloud.google.com/storage/docs/xml-api/put-bucket-lifecycle, …/put-bucket-set-cors,
…/put-bucket-acls, …/put-bucket-versioning
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from google.api_core.exceptions import BadRequest

from emulator.core.service import JsonResponse
from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage import acl, protection, resources
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.xml_documents import CONTENT_TYPE, NAMESPACE, Element, Node, read, write, xml_error
from emulator.services.storage.xml_objects import Target, canned_acl, integrity_checked

_LARGEST_DOCUMENT_BYTES = 1 << 20
_SCOPES = {"user": "UserByEmail", "group": "GroupByEmail", "domain": "GroupByDomain", "project": "GroupById"}
_KINDS = {scope: kind for kind, scope in _SCOPES.items()}
_PUBLIC = {"AllUsers": "allUsers", "AllAuthenticatedUsers": "allAuthenticatedUsers"}
_PERMISSIONS = {"OWNER": "FULL_CONTROL", "WRITER": "WRITE", "READER": "READ"}
_ROLES = {permission: role for role, permission in _PERMISSIONS.items()}
#: Conditions that the two interfaces call by different names.
_XML_NAMES = {"numNewerVersions": "NumberOfNewerVersions"}
_JSON_NAMES = {xml: name for name, xml in _XML_NAMES.items()}
_REPEATED = {"matchesPrefix", "matchesStorageClass", "matchesSuffix"}
#: The settings whose documents can be sent, not only asked for.
WRITTEN = ("acl", "cors", "lifecycle", "versioning")


class XmlSettings:
    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self._documents: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
            "location": lambda fields: write("LocationConstraint", fields["location"], NAMESPACE),
            "storageClass": lambda fields: write("StorageClass", fields["storageClass"], NAMESPACE),
            "versioning": lambda fields: write("VersioningConfiguration", _versioning(fields), NAMESPACE),
            "cors": lambda fields: write("CorsConfig", _cors(fields)),
            "lifecycle": lambda fields: write("LifecycleConfiguration", _lifecycle(fields)),
        }

    def get(self, bucket: StoredBucket, request: StreamedRequest) -> JsonResponse | None:
        """The setting that a query names, where it names one."""
        if request.has("acl"):
            acl.refuse_if_uniform(bucket, "get", "a bucket")
            return _answer(_acl_document(acl.bucket_list(bucket, self._store.projects.get(bucket.project))))
        fields = json.loads(bucket.fields)
        return next((_answer(made(fields)) for name, made in self._documents.items() if request.has(name)), None)

    def put(self, name: str, request: StreamedRequest) -> JsonResponse:
        """Replace the setting that a query names. Raises BadRequest, PreconditionFailed."""
        setting = next(setting for setting in WRITTEN if request.has(setting))
        text = integrity_checked(request, _LARGEST_DOCUMENT_BYTES)

        def apply(bucket: StoredBucket, now: int) -> StoredBucket:
            conditions = Preconditions.of(
                {"ifMetagenerationMatch": request.headers.get("x-goog-if-metageneration-match")}, request.headers
            )
            conditions.check_for_write(bucket.created, bucket.metageneration, resources.bucket_etag(bucket))
            before = json.loads(bucket.fields)
            if setting == "acl":
                acl.refuse_if_uniform(bucket, "update", "a bucket")
                after = {**before, acl.BUCKET_ACL: self._entries(bucket, request, text)}
            else:
                patch = typed("Bucket", {setting: _READERS[setting](read(text))})
                after = resources.patched_bucket(before, patch, now)
                protection.check_policy_change(before, after)
            return bucket if after == before else replace(bucket, fields=json.dumps(after))

        self._store.change_bucket(name, apply)
        return JsonResponse(None, 200, {"content-type": "text/html; charset=UTF-8"})

    def acl_of(self, stored: StoredObject) -> JsonResponse:
        """An object's list of access controls."""
        bucket = self._store.bucket(stored.bucket)
        acl.refuse_if_uniform(bucket, "get", "an object")
        return _answer(_acl_document(acl.object_list(stored, self._store.projects.get(bucket.project))))

    def put_acl_of(self, target: Target, request: StreamedRequest, generation: int | None) -> JsonResponse:
        """Replace an object's list. Raises BadRequest, NotFound."""
        bucket = self._store.bucket(target.bucket)
        acl.refuse_if_uniform(bucket, "update", "an object")
        owner = json.loads(self._store.find(target.bucket, target.name, generation).fields).get(acl.OWNER, "")
        entries = self._entries(bucket, request, integrity_checked(request, _LARGEST_DOCUMENT_BYTES), owner=owner)
        self._store.change(
            target.bucket, target.name, lambda fields, *_: {**fields, acl.OBJECT_ACL: entries}, generation=generation
        )
        return JsonResponse(None, 200, {"content-type": "text/html; charset=UTF-8"})

    def _entries(
        self, bucket: StoredBucket, request: StreamedRequest, text: bytes, owner: str | None = None
    ) -> list[acl.Entry]:
        """Of a predefined list that a header names, else of the document. owner: of an object; None for a bucket."""
        canned, project = canned_acl(request.headers), self._store.projects.get(bucket.project)
        if canned:
            if owner is None:
                return acl.predefined_bucket(canned, project)
            return acl.predefined_object(canned, project, owner)
        root = read(text)
        entries = root.child("Entries") if root.name == "AccessControlList" else None
        if entries is None:
            raise xml_error(BadRequest, "MalformedACLError", "The XML you provided is no AccessControlList.")
        roles = acl.BUCKET_ROLES if owner is None else acl.OBJECT_ROLES
        return acl.checked([_entry(item) for item in entries.children], roles, json.loads(bucket.fields))


def _answer(body: bytes) -> JsonResponse:
    return JsonResponse(body, 200, {"content-type": CONTENT_TYPE})


def _versioning(fields: Mapping[str, Any]) -> list[Node]:
    if "versioning" not in fields:
        return []
    return [("Status", "Enabled" if fields["versioning"].get("enabled") else "Suspended")]


def _read_versioning(root: Element) -> dict[str, Any]:
    status = root.find("Status")
    if root.name != "VersioningConfiguration" or status not in ("Enabled", "Suspended"):
        raise _misfit("VersioningConfiguration with the Status Enabled or Suspended")
    return {"enabled": status == "Enabled"}


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


def _read_cors(root: Element) -> list[dict[str, Any]]:
    """An empty CorsConfig takes the rules away. S3's CORSConfiguration is refused, as on the real service."""
    if root.name != "CorsConfig" or any(rule.name != "Cors" for rule in root.children):
        raise _misfit("CorsConfig")
    rules = []
    for given in root.children:
        rule: dict[str, Any] = {
            key: [item.text.strip() for item in group.children]
            for key, name in (("origin", "Origins"), ("method", "Methods"), ("responseHeader", "ResponseHeaders"))
            if (group := given.child(name)) is not None
        }
        age = given.find("MaxAgeSec")
        rules.append(rule if age is None else {**rule, "maxAgeSeconds": age})
    return rules


def _lifecycle(fields: Mapping[str, Any]) -> Iterator[Node]:
    for rule in fields.get("lifecycle", {}).get("rule", []):
        action = rule.get("action", {})
        condition: list[Node] = []
        for name, value in rule.get("condition", {}).items():
            shown = _XML_NAMES.get(name) or name[:1].upper() + name[1:]
            condition += [(shown, one) for one in (value if isinstance(value, list) else [value])]
        done: Node = (str(action.get("type", "")), str(action.get("storageClass", "")))
        yield "Rule", [("Action", [done]), ("Condition", condition)]


def _read_lifecycle(root: Element) -> dict[str, Any]:
    """A document without rules takes them away. Rules of S3's kind are refused, as on the real service."""
    if root.name != "LifecycleConfiguration":
        raise _misfit("LifecycleConfiguration")
    rules = []
    for given in root.children:
        action, condition = given.child("Action"), given.child("Condition")
        if given.name != "Rule" or action is None or condition is None or len(action.children) != 1:
            raise _misfit("LifecycleConfiguration whose rules have an Action and a Condition")
        (done,) = action.children
        wanted: dict[str, Any] = {}
        for item in condition.children:
            name = _JSON_NAMES.get(item.name) or item.name[:1].lower() + item.name[1:]
            if name in _REPEATED:
                wanted.setdefault(name, []).append(item.text.strip())
            else:
                wanted[name] = item.text.strip()
        storage_class = {"storageClass": done.text.strip()} if done.text.strip() else {}
        rules.append({"action": {"type": done.name, **storage_class}, "condition": wanted})
    return {"rule": rules}


_READERS: Mapping[str, Callable[[Element], Any]] = {
    "cors": _read_cors, "lifecycle": _read_lifecycle, "versioning": _read_versioning
}  # fmt: skip


def _misfit(wanted: str) -> BadRequest:
    return xml_error(BadRequest, "MalformedXML", f"The XML you provided is no {wanted}.")


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


def _entry(given: Element) -> dict[str, str]:
    """An entry of a document as the JSON API has it. Raises BadRequest."""
    scope, role = given.child("Scope"), _ROLES.get(given.find("Permission") or "")
    kind = "" if scope is None else scope.attributes.get("type", "")
    if scope is None or role is None or kind not in (*_PUBLIC, *_KINDS):
        raise xml_error(BadRequest, "MalformedACLError", "Each Entry has a Scope of a known type and a Permission.")
    if kind in _PUBLIC:
        return {"entity": _PUBLIC[kind], "role": role}
    who = next((child.text.strip() for child in scope.children if child.name in ("EmailAddress", "Domain", "ID")), "")
    return {"entity": f"{_KINDS[kind]}-{who}", "role": role}
