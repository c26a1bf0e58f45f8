"""Access control lists: who is on them by default, and each entry as the JSON API shows it.

They are kept and shown, not enforced: the emulator's caller owns every project.
Source: https://cloud.google.com/storage/docs/access-control/lists
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, PreconditionFailed

from emulator.core.projects import Project
from emulator.services.storage import resources
from emulator.services.storage.catalogue import StoredBucket, StoredObject

#: An entry as it is kept: `entity` and `role`.
Entry = dict[str, str]

#: Under these names lists are kept among the fields of a bucket or object; absent, the default holds.
BUCKET_ACL, DEFAULT_ACL, OBJECT_ACL, OWNER = "_acl", "_defaultObjectAcl", "_acl", "_owner"

BUCKET_ROLES = frozenset({"OWNER", "WRITER", "READER"})
OBJECT_ROLES = frozenset({"OWNER", "READER"})
_PUBLIC = frozenset({"allUsers", "allAuthenticatedUsers"})
_READ_MORE = "Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access"
_BUCKET_PUBLIC: Mapping[str, list[Entry]] = {
    "authenticatedRead": [{"entity": "allAuthenticatedUsers", "role": "READER"}],
    "private": [],
    "projectPrivate": [],
    "publicRead": [{"entity": "allUsers", "role": "READER"}],
    "publicReadWrite": [{"entity": "allUsers", "role": "WRITER"}],
}
_OBJECT_PUBLIC: Mapping[str, list[Entry]] = {
    "authenticatedRead": [{"entity": "allAuthenticatedUsers", "role": "READER"}],
    "bucketOwnerFullControl": [],
    "bucketOwnerRead": [],
    "private": [],
    "projectPrivate": [],
    "publicRead": [{"entity": "allUsers", "role": "READER"}],
}


def is_uniform(bucket: StoredBucket) -> bool:
    """Whether access to the bucket is a matter of IAM alone."""
    return bool(bucket.settings["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"])


def refuse_if_uniform(bucket: StoredBucket, verb: str, what: str) -> None:
    """Raises BadRequest in a bucket without lists. verb, what: such as `insert`, `an object`."""
    if is_uniform(bucket):
        raise BadRequest(
            f"Cannot {verb} legacy ACL for {what} when uniform bucket-level access is enabled. {_READ_MORE}"
        )


def project_team(project: Project) -> list[Entry]:
    """The default of buckets and objects: the project's team by its roles."""
    return [
        {"entity": f"project-owners-{project.number}", "role": "OWNER"},
        {"entity": f"project-editors-{project.number}", "role": "OWNER"},
        {"entity": f"project-viewers-{project.number}", "role": "READER"},
    ]


def predefined_bucket(name: str, project: Project) -> list[Entry]:
    """The list of a `predefinedAcl` of buckets. Raises BadRequest."""
    public = _predefined(name, _BUCKET_PUBLIC)
    team = project_team(project)
    return [*(team[:1] if name == "private" else team), *public]


def predefined_object(name: str, project: Project, owner: str) -> list[Entry]:
    """The list of a `predefinedAcl` of objects, or of `predefinedDefaultObjectAcl` where owner is empty."""
    public = _predefined(name, _OBJECT_PUBLIC)
    entries = [{"entity": owner, "role": "OWNER"}] if owner else []
    team = project_team(project)
    if name == "projectPrivate":
        return [*team, *entries]
    if name == "bucketOwnerFullControl":
        return [*team[:1], *entries]
    if name == "bucketOwnerRead":
        return [{**team[0], "role": "READER"}, *entries]
    return [*entries, *public]


def _predefined(name: str, known: Mapping[str, list[Entry]]) -> list[Entry]:
    if name not in known:
        raise BadRequest(f"Invalid value for predefinedAcl: '{name}'. Values must be one of {sorted(known)}.")
    return known[name]


def checked(
    entries: Sequence[Mapping[str, Any]], roles: frozenset[str], bucket_fields: Mapping[str, Any]
) -> list[Entry]:
    """Entries of a request as they are kept. Raises BadRequest, PreconditionFailed."""
    kept: dict[str, Entry] = {}
    for given in entries:
        entity, role = given.get("entity"), str(given.get("role", "")).upper()
        if not entity or not role:
            raise BadRequest("Required", errors=[{"reason": "required"}])
        if role not in roles:
            raise BadRequest(f"Invalid value for role: '{given['role']}'. Values must be one of {sorted(roles)}.")
        check_entity(entity)
        if entity in _PUBLIC and bucket_fields["iamConfiguration"].get("publicAccessPrevention") == "enforced":
            raise PreconditionFailed(
                "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access "
                "prevention is enforced."
            )
        kept[entity] = {"entity": entity, "role": role}
    return list(kept.values())


def check_entity(entity: str) -> None:
    """Raises BadRequest for what names nobody."""
    kind, dash, who = entity.partition("-")
    if entity not in _PUBLIC and not (dash and who and kind in ("user", "group", "domain", "project")):
        raise BadRequest(f"Unknown entity: {entity}")


def bucket_list(bucket: StoredBucket, project: Project) -> list[Entry]:
    kept: list[Entry] | None = json.loads(bucket.fields).get(BUCKET_ACL)
    return project_team(project) if kept is None else kept


def default_list(bucket: StoredBucket, project: Project) -> list[Entry]:
    kept: list[Entry] | None = json.loads(bucket.fields).get(DEFAULT_ACL)
    return project_team(project) if kept is None else kept


def object_list(stored: StoredObject, project: Project) -> list[Entry]:
    fields = json.loads(stored.fields)
    kept: list[Entry] | None = fields.get(OBJECT_ACL)
    if kept is not None:
        return kept
    owner = fields.get(OWNER)
    return [*project_team(project), *([{"entity": owner, "role": "OWNER"}] if owner else [])]


def bucket_entry(entry: Entry, bucket: StoredBucket, project: Project) -> dict[str, Any]:
    """An entry of a bucket's list as JSON."""
    return {
        "kind": "storage#bucketAccessControl",
        "id": f"{bucket.name}/{entry['entity']}",
        "selfLink": f"{resources.API}/b/{bucket.name}/acl/{quote(entry['entity'], safe='')}",
        "bucket": bucket.name,
        **_described(entry, project),
        "etag": resources.bucket_etag(bucket),
    }


def default_entry(entry: Entry, bucket: StoredBucket, project: Project) -> dict[str, Any]:
    """An entry of the list for a bucket's new objects; it has neither id nor link."""
    return {
        "kind": "storage#objectAccessControl",
        **_described(entry, project),
        "etag": resources.bucket_etag(bucket),
    }


def object_entry(entry: Entry, stored: StoredObject, project: Project) -> dict[str, Any]:
    entity = quote(entry["entity"], safe="")
    return {
        "kind": "storage#objectAccessControl",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}/{entry['entity']}",
        "selfLink": f"{resources.API}/b/{stored.bucket}/o/{quote(stored.name, safe='')}/acl/{entity}",
        "bucket": stored.bucket,
        "object": stored.name,
        "generation": str(stored.generation),
        **_described(entry, project),
        "etag": resources.object_etag(stored),
    }


def _described(entry: Entry, project: Project) -> dict[str, Any]:
    described: dict[str, Any] = dict(entry)
    kind, _, who = entry["entity"].partition("-")
    if kind in ("user", "group") and "@" in who:
        described["email"] = who
    elif kind == "domain":
        described["domain"] = who
    elif kind == "project":
        team, _, number = who.partition("-")
        described["projectTeam"] = {"projectNumber": project.number if number == project.id else number, "team": team}
    return described
