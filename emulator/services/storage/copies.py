"""Objects made of objects: copies, rewrites in several calls, moves, and compositions.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite, …/objects/compose, …/objects/move
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import BadRequest, Conflict, ServiceUnavailable

from emulator.core.service import JsonRequest
from emulator.services.storage import acl, checksums, encryption, protection, resources
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.names import check_object_name
from emulator.services.storage.preconditions import Preconditions, check_conditions, integer
from emulator.services.storage.rewrites import Rewrite, bytes_per_call
from emulator.services.storage.schema import typed
from emulator.services.storage.staged import Staged
from emulator.services.storage.store import ObjectFiles, no_such_object

_MOST_SOURCES = 32
_DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Progress:
    """Of a rewrite: the new object, or the token to go on with."""

    size: int
    rewritten: int
    stored: StoredObject | None = None
    token: str = ""


@dataclass(frozen=True)
class _Copy:
    """What a call asks for."""

    source: StoredObject
    descriptor: int
    bucket: str
    name: str
    fields: dict[str, Any]
    conditions: Preconditions
    key: str


class Copies:
    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    def copy(self, request: JsonRequest, owned: Mapping[str, Any]) -> StoredObject:
        """owned: fields of the new object that its maker and the call's lists decide."""
        given = request.parameters
        copy = self._begin(request, given["sourceBucket"], given["destinationBucket"], owned)
        try:
            staged = self._store.files.stage(md5=False)
            try:
                append(staged, copy.source, copy.descriptor)
            except BaseException:
                staged.discard()
                raise
            return self._commit(copy, staged)
        finally:
            os.close(copy.descriptor)

    def rewrite(self, request: JsonRequest, owned: Mapping[str, Any]) -> Progress:
        """As much of a rewrite as one call may do; all of it where no bytes have to move."""
        given = request.parameters
        limit = bytes_per_call(integer(given, "maxBytesRewrittenPerCall"))
        copy = self._begin(request, given["sourceBucket"], given["destinationBucket"], owned)
        source = copy.source
        try:
            if not self._moves_bytes(copy):
                limit = max(limit, source.size)
            rewrite, staged = self._staged_rewrite(copy, given.get("rewriteToken", ""))
            try:
                append(staged, source, copy.descriptor, limit)
                if staged.size < source.size:
                    self._store.rewrites.save(rewrite, staged)
                    return Progress(source.size, staged.size, token=rewrite.token)
                # One transaction: no token may go on with a file that has become an object.
                with self._store.database.transaction():
                    stored = self._commit(copy, staged)
                    self._store.rewrites.forget(rewrite.token)
            except BaseException:
                staged.discard()
                self._store.rewrites.forget(rewrite.token)
                raise
            return Progress(source.size, source.size, stored)
        finally:
            os.close(copy.descriptor)

    def move(self, request: JsonRequest, owned: Mapping[str, Any]) -> StoredObject:
        bucket, name = request.parameters["bucket"], request.parameters["sourceObject"]
        if name == request.parameters["destinationObject"]:
            raise BadRequest("The source and destination of a move must be different objects.")
        copy = self._begin(request, bucket, bucket, owned, keep_class=True)
        source = copy.source
        try:
            staged = self._store.files.stage(md5=False)
            try:
                append(staged, source, copy.descriptor)
            except BaseException:
                staged.discard()
                raise
            with self._store.database.transaction():
                current = self._store.catalogue.find(bucket, name)
                if current is None or current.generation != source.generation:
                    staged.discard()
                    raise no_such_object(bucket, name)
                stored = self._commit(copy, staged)
                self._store.delete(bucket, name)
            return stored
        finally:
            os.close(copy.descriptor)

    def _begin(
        self,
        request: JsonRequest,
        source_bucket: str,
        bucket: str,
        owned: Mapping[str, Any],
        *,
        keep_class: bool = False,
    ) -> _Copy:
        given = request.parameters
        name = given["destinationObject"]
        document = typed("Object", request.body)
        check_object_name(name)
        self._store.bucket(bucket)
        key = encryption.given_key(request.headers)
        source, descriptor = self._store.open(source_bucket, given["sourceObject"], integer(given, "sourceGeneration"))
        try:
            check_conditions(Preconditions.of(given, prefix="ifSource"), source)
            encryption.check_key(source, key if keep_class else encryption.given_key(request.headers, source=True))
            fields = resources.copied_object(source, document)
            if keep_class:
                fields.setdefault("storageClass", json.loads(source.fields)["storageClass"])
            if "custom" in (given.get("dropContextGroups") or []):
                fields.pop("contexts", None)
            fields = encryption.encrypted({**fields, **owned}, key)
            conditions = Preconditions.of(given, request.headers)
            return _Copy(source, descriptor, bucket, name, fields, conditions, key)
        except BaseException:
            os.close(descriptor)
            raise

    def _commit(self, copy: _Copy, staged: Staged) -> StoredObject:
        if staged.crc32c != copy.source.crc32c:
            staged.discard()
            raise _being_written(copy.source)
        return self._store.commit(
            staged, copy.bucket, copy.name, copy.fields, conditions=copy.conditions, md5=copy.source.md5,
            component_count=copy.source.component_count,
        )  # fmt: skip

    def _moves_bytes(self, copy: _Copy) -> bool:
        """Whether class, location or key change; else the service only makes a new name for the same bytes."""
        target = json.loads(self._store.bucket(copy.bucket).fields)
        origin = json.loads(self._store.bucket(copy.source.bucket).fields)
        return (
            copy.fields.get("storageClass", target["storageClass"]) != json.loads(copy.source.fields)["storageClass"]
            or target["location"] != origin["location"]
            or copy.key != encryption.key_of(copy.source)
        )

    def _staged_rewrite(self, copy: _Copy, token: str) -> tuple[Rewrite, Staged]:
        source = json.dumps([copy.source.bucket, copy.source.name, copy.source.generation])
        destination = json.dumps([copy.bucket, copy.name, copy.fields])
        if token:
            return self._store.rewrites.resume(token, source, destination)
        return self._store.rewrites.begin(source, destination)

    def compose(self, request: JsonRequest, owned: Mapping[str, Any]) -> StoredObject:
        bucket, name = request.parameters["destinationBucket"], request.parameters["destinationObject"]
        check_object_name(name)
        document = typed("ComposeRequest", request.body)
        sources = document.get("sourceObjects") or []
        if not sources:
            raise BadRequest("You must provide at least one source component.", errors=[{"reason": "required"}])
        if len(sources) > _MOST_SOURCES:
            raise BadRequest(
                f"The number of source components provided ({len(sources)}) exceeds the maximum ({_MOST_SOURCES})"
            )
        key = encryption.given_key(request.headers)
        fields = resources.new_object_fields(document.get("destination") or {}, _DEFAULT_TYPE)
        conditions = Preconditions.of(request.parameters, request.headers)
        self._store.bucket(bucket)
        staged = self._store.files.stage(md5=False)
        used: dict[str, int] = {}
        count = 0
        try:
            # A checksum in the destination is not looked at: clients send that of the generation they know.
            for given in sources:
                source = self._append_source(staged, bucket, given, key)
                used[source.name] = source.generation
                count += source.component_count or 1
        except BaseException:
            staged.discard()
            raise
        fields = encryption.encrypted({**fields, **owned}, key)
        with self._store.database.transaction() if document.get("deleteSourceObjects") else nullcontext():
            stored = self._store.commit(staged, bucket, name, fields, conditions=conditions, component_count=count)
            if document.get("deleteSourceObjects"):
                for source_name, generation in used.items():
                    current = self._store.catalogue.find(bucket, source_name)
                    if source_name != name and current is not None and current.generation == generation:
                        self._store.delete(bucket, source_name)
        return stored

    def _append_source(self, staged: Staged, bucket: str, given: dict[str, Any], key: str) -> StoredObject:
        """Add a component's bytes."""
        if not given.get("name"):
            raise BadRequest("Required", errors=[{"reason": "required"}])
        source, descriptor = self._store.open(bucket, given["name"], integer(given, "generation"))
        try:
            check_conditions(Preconditions.of(given.get("objectPreconditions") or {}), source)
            encryption.check_key(source, key)
            append(staged, source, descriptor)
        finally:
            os.close(descriptor)
        return source

    def restore(
        self,
        bucket: str,
        name: str,
        generation: int,
        *,
        conditions: Preconditions,
        copies_acl: bool,
        overwrite: bool = True,
    ) -> StoredObject:
        """A new live generation with a soft-deleted one's bytes and metadata. Raises NotFound, Conflict."""
        now = resources.microseconds(self._store.clock.now())
        source = self._store.versions.find_soft_deleted(bucket, name, generation, now)
        if source is None:
            self._store.bucket(bucket)
            raise no_such_object(bucket, name)
        if not overwrite and self._store.catalogue.find(bucket, name) is not None:
            raise Conflict(f"gs://{bucket}/{name} exists.")
        opened = self._store.files.open(bucket, name, source.apart)
        if opened is None:
            raise no_such_object(bucket, name)
        fields = json.loads(source.fields)
        for name_of_past in (
            "timeStorageClassUpdated",
            protection.HOLD_RELEASED,
            *(() if copies_acl else (acl.OBJECT_ACL,)),
        ):
            fields.pop(name_of_past, None)
        staged = self._store.files.stage(md5=False)
        try:
            append(staged, source, opened[0])
            if staged.crc32c != source.crc32c:
                raise _being_written(source)
        except BaseException:
            staged.discard()
            raise
        finally:
            os.close(opened[0])
        return self._store.commit(
            staged, bucket, name, fields, conditions=conditions, md5=source.md5,
            component_count=source.component_count,
        )  # fmt: skip


def append(staged: Staged, source: StoredObject, descriptor: int, limit: int | None = None) -> None:
    """Copy an object's bytes, from where the file stands, or so many of them.

    Raises ServiceUnavailable when a job shortens them meanwhile.
    """
    offset = staged.size if limit is not None else 0
    end = source.size if limit is None else min(source.size, offset + limit)
    while offset < end:
        block = os.pread(descriptor, min(checksums.BLOCK, end - offset), offset)
        if not block:
            raise _being_written(source)
        staged.write(block)
        offset += len(block)


def _being_written(source: StoredObject) -> ServiceUnavailable:
    return ServiceUnavailable(f"gs://{source.bucket}/{source.name} is being written by a job.")
