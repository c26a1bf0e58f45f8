"""Buckets of Cloud Storage as the reconciler sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ops import labels
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.errors import OpsError
from ops.progress import Report
from ops.reconcile.plan import Action, Change
from ops.reconcile.resource import Resource

if TYPE_CHECKING:
    from google.cloud.storage import Bucket


def desired(config: Config) -> Iterator[Resource]:
    for key, bucket in config.buckets.items():
        yield Resource(
            "bucket",
            resource_name(config, config.bucket_name(key)),
            {
                "location": (bucket.location or config.location).upper(),
                "storage_class": bucket.storage_class,
                "versioning_enabled": bucket.versioning_enabled,
                "labels": labels.owned(config, bucket.labels),
            },
        )


def live(config: Config, clients: Clients) -> Iterator[Resource]:
    """Declared buckets that exist, and others that carry this environment's mark."""
    declared = {config.bucket_name(key) for key in config.buckets}
    for bucket in clients.storage.list_buckets(timeout=TIMEOUT_SECONDS):
        owner = bucket.labels.get(labels.ENVIRONMENT)
        if bucket.name in declared or owner == config.environment:
            declared.discard(bucket.name)
            yield _resource(config, bucket)
    # A bucket of that name may belong to another project of the same people.
    for name in sorted(declared):
        found = clients.storage.lookup_bucket(name, timeout=TIMEOUT_SECONDS)
        if found is not None:
            yield _resource(config, found)


def apply(change: Change, config: Config, clients: Clients, report: Report) -> dict[str, str]:
    """Make, change or delete a bucket. It has no outputs.

    Raises OpsError for a change that a bucket cannot take, and for the deletion of one that holds objects.
    """
    from google.api_core.exceptions import Conflict

    bucket: Any = clients.storage.bucket(change.name.rsplit("/", 1)[-1])
    if change.action is Action.DELETE:
        try:
            bucket.delete(timeout=TIMEOUT_SECONDS)
        except Conflict:
            raise OpsError(
                f"{bucket.name} still holds objects; look at them with: gcloud storage ls gs://{bucket.name}"
            ) from None
        return {}
    assert change.desired is not None  # noqa: S101 -- only a deletion has none
    spec: Any = change.desired.spec
    if change.action is Action.UPDATE:
        if "location" in change.update_mask:
            raise OpsError(f"{bucket.name} cannot move to {spec['location']}; declare a bucket of another name")
        bucket.reload(timeout=TIMEOUT_SECONDS)
    bucket.storage_class = spec["storage_class"]
    bucket.versioning_enabled = spec["versioning_enabled"]
    bucket.labels = {**bucket.labels, **spec["labels"]}
    if change.action is Action.UPDATE:
        bucket.patch(timeout=TIMEOUT_SECONDS)
        return {}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    try:
        bucket.create(location=spec["location"], timeout=TIMEOUT_SECONDS)
    except Conflict:
        raise OpsError(
            f"the name {bucket.name} is taken by somebody else; give the bucket another `name` in the configuration"
        ) from None
    return {}


def resource_name(config: Config, bucket_name: str) -> str:
    return f"projects/{config.project}/buckets/{bucket_name}"


def _resource(config: Config, bucket: Bucket) -> Resource:
    spec = {
        "location": bucket.location.upper(),
        "storage_class": bucket.storage_class,
        "versioning_enabled": bool(bucket.versioning_enabled),
        "labels": dict(bucket.labels),
    }
    return Resource("bucket", resource_name(config, bucket.name), spec)
