"""Everything that a configuration declares, as resources."""

from __future__ import annotations

from ops.config import Config
from ops.reconcile import buckets, endpoints, models
from ops.reconcile.resource import Resource


def desired_resources(config: Config) -> list[Resource]:
    """Buckets, models and endpoints, by full resource name."""
    return [*buckets.desired(config), *models.desired(config), *endpoints.desired(config)]
