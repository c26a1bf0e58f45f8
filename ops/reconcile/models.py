"""Models of the registry as the reconciler sees them: a version is a training, so what decides it is compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ops import evaluations, labels, packages, training
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.progress import Report
from ops.reconcile import buckets
from ops.reconcile.existing import existing
from ops.reconcile.plan import Action, Change
from ops.reconcile.resource import Resource

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import Model

DEFAULT = "default"
RETRAINS = frozenset({"code", "training", "serving_image_uri", "serving_env"})
"""fields whose change asks for a new version"""
DELETE_SECONDS = 600


def desired(config: Config) -> Iterator[Resource]:
    for key, model in config.models.items():
        package = packages.package_of(model.training.python_module)
        needed = {config.bucket_name(model.bucket), config.bucket_name(config.datasets[model.training.dataset].bucket)}
        yield Resource(
            "model",
            config.model_name(key),
            {
                "display_name": model.display_name or key,
                "description": model.description,
                "labels": labels.owned(config, model.labels),
                "code": package.digest,
                "training": training.fingerprint(config, model.training),
                "serving_image_uri": model.serving.image_uri,
                "serving_env": model.serving.env,
                "evaluated": True,
            },
            depends_on=tuple(buckets.resource_name(config, name) for name in sorted(needed)),
            renewed_by=RETRAINS,
            renews=frozenset({DEFAULT}),
        )


def live(config: Config, clients: Clients) -> Iterator[Resource]:
    """Declared models that exist, and others that carry this environment's mark; each as its default version."""

    def get(key: str) -> Model:
        return clients.models.get_model(name=config.model_name(key), timeout=TIMEOUT_SECONDS)

    request = {"parent": config.parent, "filter": labels.owner_filter(config)}
    for model in existing(clients.models.list_models(request, timeout=TIMEOUT_SECONDS), config.models, get):
        yield _resource(config, clients, model)


def apply(change: Change, config: Config, clients: Clients, report: Report) -> dict[str, str]:
    """Train a version, evaluate the one there is, or change what the registry says of it; gives back its aliases."""
    if change.action is Action.DELETE:
        clients.models.delete_model(name=change.name, timeout=TIMEOUT_SECONDS).result(timeout=DELETE_SECONDS)
        return {}
    assert change.desired is not None  # noqa: S101 -- only a deletion has none
    key = change.desired.id
    mask = set(change.update_mask)
    if change.action is Action.CREATE or mask & RETRAINS:
        return {DEFAULT: training.train(config, clients, key, report).version_id}
    assert change.live is not None  # noqa: S101 -- an update has one
    version_id = change.live.outputs[DEFAULT]
    fields = mask & {"display_name", "description", "labels"}
    if fields:
        _update(change, clients, sorted(fields))
    if "evaluated" in mask:
        evaluations.import_from_artifacts(clients, f"{change.name}@{version_id}")
    return {DEFAULT: version_id}


def _update(change: Change, clients: Clients, fields: list[str]) -> None:
    assert change.desired is not None  # noqa: S101 -- only a deletion has none
    current = clients.models.get_model(name=change.name, timeout=TIMEOUT_SECONDS)
    spec: Any = change.desired.spec
    values = {field: spec[field] for field in fields}
    if "labels" in values:
        values["labels"] = {**current.labels, **values["labels"]}
    request = {"model": {"name": change.name, **values}, "update_mask": {"paths": fields}}
    clients.models.update_model(request, timeout=TIMEOUT_SECONDS)


def _resource(config: Config, clients: Clients, model: Model) -> Resource:
    name = config.model_name(model.name.rsplit("/", 1)[-1])
    found = dict(model.labels)
    evaluation = evaluations.find(clients, f"{name}@{model.version_id}")
    spec = {
        "display_name": model.display_name,
        "description": model.description,
        "labels": found,
        "code": found.get(labels.CODE),
        "training": found.get(labels.TRAINING),
        "serving_image_uri": model.container_spec.image_uri,
        "serving_env": {variable.name: variable.value for variable in model.container_spec.env},
        "evaluated": evaluation is not None,
    }
    return Resource("model", name, spec, outputs=_aliases(config, clients, name, model))


def _aliases(config: Config, clients: Clients, name: str, model: Model) -> dict[str, str]:
    """Alias -> version id, of the default alias and of those that an endpoint of the configuration names."""
    from google.api_core.exceptions import NotFound

    aliases = dict.fromkeys((DEFAULT, *model.version_aliases), model.version_id)
    for endpoint in config.endpoints.values():
        for deployed in endpoint.deployed_models:
            alias = deployed.version
            if config.model_name(deployed.model) != name or alias in aliases or alias.isdecimal():
                continue
            try:
                version = clients.models.get_model(name=f"{name}@{alias}", timeout=TIMEOUT_SECONDS)
            except NotFound:
                continue
            aliases[alias] = version.version_id
    return aliases
