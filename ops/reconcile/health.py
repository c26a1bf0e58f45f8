"""Whether what is declared serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ops import deploy
from ops.clients import Clients
from ops.config import Config
from ops.errors import ResourceNotFound


@dataclass(frozen=True)
class Health:
    """What was found of one resource."""

    name: str
    healthy: bool
    message: str


def check_health(config: Config, clients: Clients, keys: list[str] | None = None) -> Iterator[Health]:
    """One finding for each endpoint, or for those of some keys: does each version with traffic have its replicas?"""
    for key in config.endpoints if keys is None else keys:
        name = config.endpoint_name(key)
        try:
            endpoint = deploy.get_endpoint(clients, name)
        except ResourceNotFound as error:
            yield Health(name, False, str(error))
            continue
        shares = {id_: share for id_, share in endpoint.traffic_split.items() if share}
        deployed = {model.id: model for model in endpoint.deployed_models}
        if not shares:
            yield Health(name, False, "no version has traffic")
            continue
        lost = [id_ for id_ in shares if id_ not in deployed]
        told = ", ".join(
            f"{deploy.model_id(deployed[id_])} version {deployed[id_].model_version_id} {share} %"
            for id_, share in shares.items()
            if id_ in deployed
        )
        if lost:
            yield Health(name, False, f"traffic goes to {', '.join(lost)}, which is not deployed")
        else:
            yield Health(name, True, f"serves {told}")
