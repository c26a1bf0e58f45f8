"""What Cloud Storage does by itself in time: lifecycle rules, and the end of what soft delete holds.

Source: https://cloud.google.com/storage/docs/lifecycle, …/docs/soft-delete
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound

from emulator.core.schedule import Due, Started
from emulator.services.storage import lifecycle, protection, resources
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.lifecycle import Action
from emulator.services.storage.part_uploads import PartUpload
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.store import ObjectChange, ObjectFiles

logger = logging.getLogger(__name__)

#: How long the service may take; so much is done in one go.
_SLACK = timedelta(hours=1)
_DAY = 86_400_000_000
_BATCH = 1000
#: With more changes than this, reading the bucket anew costs less than the changes.
_MOST_CHANGED = 10_000


@dataclass
class _Plan:
    """When a bucket's rules are due next, as far as is known."""

    fields: str
    """the bucket's, for which this holds"""
    earliest: int | None = None
    changed: set[str] = field(default_factory=set)
    """names to look at again"""


class Housekeeping:
    """A source of the emulator's schedule.

    A bucket with rules is read as a whole once, and afterwards what changes in it; the time found may be too early
    when an object has gone meanwhile, and then nothing is due when it comes.
    """

    name = "storage"

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self._put_off: dict[tuple[str, str, int], int] = {}
        self._plans: dict[str, _Plan] = {}
        self._lock = threading.Lock()
        store.when_changed.append(self._note)

    def next_due(self) -> Due | None:
        times = [self._store.versions.next_hard_delete(), self._store.deleted_buckets.next_hard_delete()]
        for bucket, rules in self._ruled():
            times.append(self._earliest(bucket, rules))
            uploads = (lifecycle.upload_due(rules, one.name, one.created) for one in self._uploads(bucket.name))
            times.extend(uploads)
        stamps = [stamp for stamp in times if stamp is not None]
        if not stamps:
            return None
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=min(stamps))
        return Due(at, at + _SLACK)

    def run(self, now: datetime) -> Iterable[Started]:
        """Everything that is due, done when it returns."""
        stamp = resources.microseconds(now)
        self._end_soft_delete(stamp)
        for bucket, rules in self._ruled():
            self._store.publish(bucket.name)
            self._apply(bucket, rules, stamp)
            with self._lock:
                self._plans.pop(bucket.name, None)
        return ()

    def _note(self, change: ObjectChange) -> None:
        """Called after every change of an object."""
        if change.stored.bucket in self._plans:
            with self._lock:
                plan = self._plans.get(change.stored.bucket)
                if plan is not None:
                    plan.changed.add(change.stored.name)
                    if len(plan.changed) > _MOST_CHANGED:
                        del self._plans[change.stored.bucket]

    def _earliest(self, bucket: StoredBucket, rules: list[dict[str, Any]]) -> int | None:
        """When the rules are due next for any generation of a bucket."""
        with self._lock:
            plan = self._plans.get(bucket.name)
            known = plan is not None and plan.fields == bucket.fields
            if plan is None or not known:
                # Before reading, so that what changes meanwhile is looked at again.
                plan = self._plans[bucket.name] = _Plan(bucket.fields)
            names, plan.changed = plan.changed, set()
        if known:
            groups = (self._store.versions.all_of(bucket.name, name) for name in names)
            rows: Iterable[tuple[StoredObject, int]] = (pair for group in groups for pair in _with_newer(group))
        else:
            rows = self._generations(bucket.name)
        due = min(self._rule_times(bucket, rules, rows), default=None)
        plan.earliest = min((time for time in (plan.earliest, due) if time is not None), default=None)
        return plan.earliest

    def _end_soft_delete(self, now: int) -> None:
        while expired := self._store.versions.expired(now, _BATCH):
            with self._store.database.transaction():
                for version in expired:
                    self._store.generations.forget(version)
        for bucket in self._store.deleted_buckets.expired(now):
            with self._store.database.transaction():
                for version in self._store.versions.of_bucket(self._store.deleted_buckets.key(bucket)):
                    self._store.generations.forget(version)
                self._store.deleted_buckets.delete(bucket)

    def _ruled(self) -> Iterator[tuple[StoredBucket, list[dict[str, Any]]]]:
        """Buckets with rules."""
        for bucket in self._store.catalogue.buckets_with_fields("lifecycle"):
            rules = json.loads(bucket.fields).get("lifecycle", {}).get("rule")
            if rules:
                yield bucket, rules

    def _rule_times(
        self, bucket: StoredBucket, rules: list[dict[str, Any]], rows: Iterable[tuple[StoredObject, int]]
    ) -> Iterator[int]:
        for stored, newer in rows:
            action = lifecycle.action_on(rules, stored, newer)
            due = None if action is None else self._possible(bucket, stored, action)
            if due is not None:
                yield due

    def _uploads(self, bucket: str) -> Iterator[PartUpload]:
        """Multipart uploads that nobody has completed yet."""
        last: tuple[str, str] = ("", "")
        while uploads := self._store.parts.uploads(bucket, "", last, _BATCH):
            yield from uploads
            last = (uploads[-1].name, uploads[-1].id)

    def _possible(self, bucket: StoredBucket, stored: StoredObject, action: Action) -> int | None:
        """When an action can be taken: what is held is not deleted, and what is retained only afterwards."""
        due = max(action.due, self._put_off.get((stored.bucket, stored.name, stored.generation), 0))
        if action.storage_class:
            return due
        fields = json.loads(stored.fields)
        if fields.get("temporaryHold") or fields.get("eventBasedHold"):
            return None
        return max(due, protection.retention_expiration(json.loads(bucket.fields), stored) or 0)

    def _generations(self, bucket: str) -> Iterator[tuple[StoredObject, int]]:
        """Every generation of a bucket with the number of newer ones of its name."""
        for _, group in groupby(self._rows(bucket), key=lambda row: row.name):
            yield from _with_newer(list(group))

    def _rows(self, bucket: str) -> Iterator[StoredObject]:
        start: tuple[str, int] | None = ("", 0)
        while start is not None:
            rows = self._store.versions.generations(bucket, start, None, _BATCH)
            yield from rows
            start = (rows[-1].name, rows[-1].generation + 1) if len(rows) == _BATCH else None

    def _apply(self, bucket: StoredBucket, rules: list[dict[str, Any]], now: int) -> None:
        for stored, newer in self._generations(bucket.name):
            action = lifecycle.best_of_due(rules, stored, newer, now)
            due = None if action is None else self._possible(bucket, stored, action)
            if action is None or due is None or due > now:
                continue
            try:
                self._take(stored, action)
            except GoogleAPICallError as error:
                # It has changed meanwhile, or its file cannot be had: looked at again tomorrow.
                logger.info("lifecycle of gs://%s/%s: %s", stored.bucket, stored.name, error.message)
                self._put_off[stored.bucket, stored.name, stored.generation] = now + _DAY
        for upload in self._uploads(bucket.name):
            due = lifecycle.upload_due(rules, upload.name, upload.created)
            if due is not None and due <= now:
                with suppress(NotFound):
                    self._store.parts.abort(upload)

    def _take(self, stored: StoredObject, action: Action) -> None:
        if action.storage_class:
            self._store.change(
                stored.bucket,
                stored.name,
                lambda fields, _, now: {
                    **fields,
                    "storageClass": action.storage_class,
                    "timeStorageClassUpdated": resources.time_text(now),
                },
                generation=stored.generation,
            )
        elif stored.is_live:
            only_this = Preconditions(generation_match=stored.generation)
            self._store.delete(stored.bucket, stored.name, conditions=only_this)
        else:
            self._store.delete(stored.bucket, stored.name, generation=stored.generation)


def _with_newer(rows: list[StoredObject]) -> Iterator[tuple[StoredObject, int]]:
    """Generations of one name, oldest first, each with the number of newer ones."""
    for index, row in enumerate(rows):
        yield row, len(rows) - 1 - index
