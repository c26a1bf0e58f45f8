"""What a new object gets by who makes it: its owner, its access control list, its key in Cloud KMS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.core.service import Context
from emulator.services.storage import acl
from emulator.services.storage.catalogue import StoredBucket
from emulator.services.storage.store import ObjectFiles


def of_new_object(
    store: ObjectFiles,
    bucket: StoredBucket,
    context: Context,
    *,
    predefined: str = "",
    entries: Sequence[Mapping[str, Any]] | None = None,
    kms_key: str = "",
) -> dict[str, Any]:
    """Fields for the object. predefined, entries: the list that the call names or brings.

    Raises BadRequest for a list in a bucket of uniform access, and for what is no list.
    """
    fields = bucket.settings
    key = kms_key or fields.get("encryption", {}).get("defaultKmsKeyName", "")
    owned: dict[str, Any] = {"kmsKeyName": f"{key}/cryptoKeyVersions/1"} if key else {}
    if predefined or entries:
        acl.refuse_if_uniform(bucket, "insert", "an object")
    elif acl.is_uniform(bucket):
        return owned
    owner = f"user-{context.caller.subject}" if "@" in context.caller.subject else ""
    if owner:
        owned[acl.OWNER] = owner
    project = store.projects.get(bucket.project)
    own = [{"entity": owner, "role": "OWNER"}] if owner else []
    if predefined:
        owned[acl.OBJECT_ACL] = acl.predefined_object(predefined, project, owner)
    elif entries:
        owned[acl.OBJECT_ACL] = acl.checked([*entries, *own], acl.OBJECT_ROLES, fields)
    elif acl.DEFAULT_ACL in fields:
        owned[acl.OBJECT_ACL] = [*fields[acl.DEFAULT_ACL], *own]
    return owned


def with_list(
    store: ObjectFiles,
    bucket: StoredBucket,
    fields: dict[str, Any],
    predefined: str,
    entries: Sequence[Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """An object's fields with the list that a change names or brings, if any. Raises BadRequest."""
    if not predefined and entries is None:
        return fields
    acl.refuse_if_uniform(bucket, "update", "an object")
    if predefined:
        owner = fields.get(acl.OWNER, "")
        chosen = acl.predefined_object(predefined, store.projects.get(bucket.project), owner)
    else:
        chosen = acl.checked(entries or [], acl.OBJECT_ROLES, json.loads(bucket.fields))
    return {**fields, acl.OBJECT_ACL: chosen}
