"""Everything that is there: what a configuration declares by name, and what else carries its environment's mark."""

from __future__ import annotations

from ops.clients import Clients
from ops.config import Config
from ops.reconcile import buckets, endpoints, models
from ops.reconcile.resource import Resource


def live_resources(config: Config, clients: Clients) -> list[Resource]:
    """Buckets, models and endpoints, by full resource name."""
    found = list(models.live(config, clients))
    aliases = {model.name: model.outputs for model in found}
    return [*buckets.live(config, clients), *found, *endpoints.live(config, clients, aliases)]
