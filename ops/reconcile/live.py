"""Everything that is there: what a configuration declares by name, and what else carries its environment's mark."""

from __future__ import annotations

from collections.abc import Collection

from ops.clients import Clients
from ops.config import Config
from ops.reconcile import buckets, endpoints, models
from ops.reconcile.resource import Kind, Resource


def live_resources(config: Config, clients: Clients, kinds: Collection[Kind] | None = None) -> list[Resource]:
    """Buckets, models and endpoints, by full resource name; of some kinds, with what those refer to.

    What is not read seems to be missing: plan only for the kinds that were.
    """
    found: list[Resource] = []
    if kinds is None or "bucket" in kinds:
        found += buckets.live(config, clients)
    if kinds is None or {"model", "endpoint"}.intersection(kinds):
        models_found = list(models.live(config, clients))
        found += models_found
        if kinds is None or "endpoint" in kinds:
            found += endpoints.live(config, clients, {model.name: model.outputs for model in models_found})
    return found
