"""Models of the registry, for people: lists and descriptions."""

from __future__ import annotations

from typing import Any

from ops import deploy, evaluations, labels, worlds
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.errors import OpsError, ResourceNotFound

DEFAULT_ALIAS = "default"
DELETE_SECONDS = 600


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


def endpoints_of_model(config: Config, clients: Clients, key: str) -> list[str]:
    """Names of the endpoints on which a version of the model is deployed, in order."""
    found = clients.endpoints.list_endpoints(parent=config.parent, timeout=TIMEOUT_SECONDS)
    serving = [e for e in found if any(deploy.model_id(deployed) == key for deployed in e.deployed_models)]
    return sorted(config.endpoint_name(endpoint.name.rsplit("/", 1)[-1]) for endpoint in serving)


def removable(config: Config, clients: Clients, key: str, version: str | None) -> str:
    """Name of the model, or of one version with its number, that may be deleted.

    Raises ResourceNotFound when there is none, OpsError when the registry would refuse: it is deployed, or it is
    the default version.
    """
    from google.api_core.exceptions import NotFound

    name = config.model_name(key)
    asked = f"{name}@{version}" if version else name
    try:
        model = clients.models.get_model(name=asked, timeout=TIMEOUT_SECONDS)
    except NotFound:
        raise ResourceNotFound(
            f"{asked} does not exist; look with: inv model.list --env {config.environment}"
        ) from None
    chosen = f"{name}@{model.version_id}" if version else name
    if version and DEFAULT_ALIAS in model.version_aliases:
        raise OpsError(f"{chosen} is the default version; train another one, or remove the whole model")
    for endpoint in clients.endpoints.list_endpoints(parent=config.parent, timeout=TIMEOUT_SECONDS):
        for deployed in endpoint.deployed_models:
            if deploy.model_id(deployed) == key and (not version or deployed.model_version_id == model.version_id):
                endpoint_id = endpoint.name.rsplit("/", 1)[-1]
                undeploy = worlds.shell_command(
                    f"gcloud ai endpoints undeploy-model {endpoint_id} --deployed-model-id={deployed.id} "
                    f"--region={config.location} --project={config.project}"
                )
                raise OpsError(f"{chosen} is deployed on endpoint {endpoint_id}; take it off first: {undeploy}")
    return chosen


def remove(clients: Clients, name: str) -> None:
    """Delete a model, or the version that follows `@`."""
    delete = clients.models.delete_model_version if "@" in name else clients.models.delete_model
    delete(name=name, timeout=TIMEOUT_SECONDS).result(timeout=DELETE_SECONDS)


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
