"""Models of the registry, for people: lists and descriptions."""

from __future__ import annotations

from typing import Any

from ops import evaluations, labels
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.errors import ResourceNotFound


def list_models(config: Config, clients: Clients) -> list[dict[str, Any]]:
    """Every model of the location as its default version, newest first."""
    found = clients.models.list_models(parent=config.parent, timeout=TIMEOUT_SECONDS)
    return [
        {
            "model": model.name.rsplit("/", 1)[-1],
            "display_name": model.display_name,
            "version_id": model.version_id,
            "updated": _time(model.version_update_time or model.update_time),
            "environment": model.labels.get(labels.ENVIRONMENT, ""),
        }
        for model in found
    ]


def describe_model(config: Config, clients: Clients, key: str) -> dict[str, Any]:
    """A model and its versions with aliases, origin and evaluation, newest version first.

    Raises ResourceNotFound when the registry has no such model.
    """
    from google.api_core.exceptions import NotFound

    name = config.model_name(key)
    try:
        versions = list(clients.models.list_model_versions(name=name, timeout=TIMEOUT_SECONDS))
    except NotFound:
        raise ResourceNotFound(f"{name} does not exist; train it with: inv train --env {config.environment}") from None
    versions.sort(key=lambda version: -int(version.version_id))
    return {
        "name": name,
        "display_name": versions[0].display_name if versions else key,
        "description": versions[0].description if versions else "",
        "versions": [_version(clients, name, version) for version in versions],
    }


def _version(clients: Clients, name: str, version: Any) -> dict[str, Any]:
    evaluation = evaluations.find(clients, f"{name}@{version.version_id}")
    measured = evaluations.metrics(evaluation) if evaluation else {}
    return {
        "version_id": version.version_id,
        "aliases": list(version.version_aliases),
        "created": _time(version.version_create_time),
        "artifact_uri": version.artifact_uri,
        "serving_image_uri": version.container_spec.image_uri,
        "training_pipeline": version.training_pipeline,
        "labels": dict(version.labels),
        "metrics": {metric: value for metric, value in measured.items() if isinstance(value, int | float)},
    }


def _time(moment: Any) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""
