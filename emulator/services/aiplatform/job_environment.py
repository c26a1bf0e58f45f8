"""Environment variables that training code finds.

Source: https://cloud.google.com/vertex-ai/docs/training/code-requirements#environment-variables and
https://cloud.google.com/vertex-ai/docs/training/distributed-training#cluster-variables
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from selfloop_apis.aiplatform_v1 import CustomJob, CustomJobSpec

from emulator.services.aiplatform.names import Location, last_part
from emulator.services.aiplatform.worker_pools import EVALUATORS, Replica

#: The port at which CLUSTER_SPEC says that a replica alone listens.
PORT = 2222
#: Names of the pools in TF_CONFIG.
_TASK_TYPES = ("chief", "worker", "ps", "evaluator")


@dataclass(frozen=True)
class TrialPlace:
    """What a job that is a trial of a hyperparameter tuning job finds besides."""

    id: str
    metric: str
    """the study's first"""
    folder: Path
    """writable by the trial, at the same path as outside"""

    @property
    def metric_file(self) -> Path:
        """Where cloudml-hypertune writes its reports."""
        return self.folder / "output.metrics"


def replica_environment(
    job: CustomJob, location: Location, replica: Replica, addresses: Mapping[Replica, str], trial: TrialPlace | None
) -> dict[str, str]:
    """All variables of one replica: those of its spec, and over them the service's own.

    addresses: `host:port` of every replica of the job.
    """
    spec = job.job_spec
    task = replica.spec.container_spec if replica.spec.HasField("container_spec") else replica.spec.python_package_spec
    environment = {variable.name: variable.value for variable in task.env}
    job_id = last_part(job.name)
    environment |= {
        "CLOUD_ML_PROJECT_ID": location.project_number,
        "CLOUD_ML_JOB_ID": job_id,
        "CLOUD_ML_REGION": location.region,
        "HOSTNAME": host_name(job_id, replica),
        "CLUSTER_SPEC": json.dumps(_cluster_spec(spec, replica, addresses, trial), separators=(",", ":")),
    }
    if trial is not None:
        environment |= {
            "CLOUD_ML_TRIAL_ID": trial.id,
            "CLOUD_ML_HP_METRIC_TAG": trial.metric,
            "CLOUD_ML_HP_METRIC_FILE": str(trial.metric_file),
        }
    if len(addresses) > 1:
        environment["TF_CONFIG"] = json.dumps(_tf_config(spec, replica, addresses), separators=(",", ":"))
    if spec.HasField("base_output_directory"):
        environment |= {
            "AIP_MODEL_DIR": output_directory(spec, "model"),
            "AIP_CHECKPOINT_DIR": output_directory(spec, "checkpoints"),
            "AIP_TENSORBOARD_LOG_DIR": output_directory(spec, "logs"),
        }
    if spec.tensorboard:
        environment |= {
            "AIP_TENSORBOARD_RESOURCE_NAME": spec.tensorboard,
            "AIP_TENSORBOARD_API_URI": f"https://{location.region}-aiplatform.googleapis.com",
        }
    # The context's id of an experiment is the last part of its name.
    if spec.experiment:
        environment["AIP_EXPERIMENT_NAME"] = last_part(spec.experiment)
    if spec.experiment_run:
        environment["AIP_EXPERIMENT_RUN_NAME"] = last_part(spec.experiment_run)
    return environment


def output_directory(spec: CustomJobSpec, kind: str) -> str:
    """`gs://…/model/` of a spec with a base_output_directory."""
    return f"{spec.base_output_directory.output_uri_prefix.rstrip('/')}/{kind}/"


def host_name(job_id: str, replica: Replica) -> str:
    """`cmle-training-workerpool0-782452dcb4-0`, the middle the same for a whole job."""
    mark = hashlib.sha256(job_id.encode()).hexdigest()[:10]
    return f"cmle-training-workerpool{replica.pool}-{mark}-{replica.index}"


def _cluster_spec(
    spec: CustomJobSpec, replica: Replica, addresses: Mapping[Replica, str], trial: TrialPlace | None
) -> dict[str, Any]:
    cluster: dict[str, list[str]] = {}
    for each, address in addresses.items():
        cluster.setdefault(f"workerpool{each.pool}", []).append(address)
    return {
        "cluster": cluster,
        "environment": "cloud",
        "task": {"type": f"workerpool{replica.pool}", "index": replica.index, "trial": trial.id if trial else ""},
        "job": _as_json(spec),
    }


def _tf_config(spec: CustomJobSpec, replica: Replica, addresses: Mapping[Replica, str]) -> dict[str, Any]:
    cluster: dict[str, list[str]] = {}
    for each, address in addresses.items():
        # Evaluators are no part of a cluster.
        if each.pool != EVALUATORS:
            cluster.setdefault(_TASK_TYPES[each.pool], []).append(address)
    return {
        "cluster": cluster,
        "task": {"type": _TASK_TYPES[replica.pool], "index": replica.index},
        "job": _as_json(spec),
        "environment": "cloud",
    }


def _as_json(spec: CustomJobSpec) -> dict[str, Any]:
    as_json: dict[str, Any] = json_format.MessageToDict(spec, preserving_proto_field_name=True)
    return as_json
