"""The closed loop as people run it: data, training, registry, endpoint, predictions; then what changes do to it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ops import data, deploy, experiments, loop, registry, training
from ops.clients import Clients
from ops.config import CONFIG, ROOT, Config, load_config
from ops.errors import OpsError, ResourceNotFound
from ops.predict import predict
from ops.progress import Report
from ops.reconcile.apply import apply_plan
from ops.reconcile.health import check_health
from ops.reconcile.plan import Action, Plan
from ops.reconcile.targeted import plan_of
from tests.conftest import Emulator, wait_until

TASK_SECONDS = 180
ROWS = "datasets:\n  taxi-trips:\n    rows: 2000\n"

TRAINING = """models:
  taxi-tips:
    training:
      machine_type: n1-standard-8
      accelerator_type: NVIDIA_TESLA_T4
      accelerator_count: 2
      boot_disk_size_gb: 200
      replica_count: 2
      timeout_seconds: 600
      scheduling: {strategy: SPOT, disable_retries: true}
      env: {SEED: "3"}
      labels: {team: rides}
      service_account: trainer@example.iam.gserviceaccount.com
    serving:
      env: {WORKERS: "2"}
endpoints:
  taxi-tips:
    deployed_models:
      - model: taxi-tips
        machine_type: g2-standard-4
        accelerator_type: NVIDIA_L4
        accelerator_count: 1
        service_account: server@example.iam.gserviceaccount.com
"""
SPLIT = (
    "endpoints:\n  taxi-tips:\n    deployed_models:\n"
    "      - {model: taxi-tips, version: '1', traffic_percentage: 80}\n"
    "      - {model: taxi-tips, version: default, traffic_percentage: 20}\n"
)
COPY = (
    "import sys; from google.cloud.storage import Client; "
    "Client().bucket('selfloop-local-loop').blob('datasets/taxi-trips.csv').download_to_filename(sys.argv[1])"
)

LOCAL = "projects/selfloop-local/locations/us-central1"

ReadConfig = Callable[[str], Config]


def quiet() -> Report:
    return Report(Console(file=io.StringIO()))


@pytest.fixture
def read(emulator: Emulator, project: str, tmp_path: Path) -> ReadConfig:
    """Reads an overlay over the repository's base.yaml, for the session's emulator and a project of this test."""
    shutil.copy(CONFIG / "base.yaml", tmp_path)

    def reading(overlay: str) -> Config:
        (tmp_path / "test.yaml").write_text(f"world: emulator\nproject: {project}\nconfirm: false\n{overlay}")
        return load_config("test", folder=tmp_path, environ={"SELFLOOP_STATE": str(emulator.state)})

    return reading


def applied(config: Config, *, prune: bool = False) -> Plan:
    """The plan that was carried out; what is then left to do is nothing, or what only prune would do."""
    clients = Clients(config)
    plan = plan_of(config, clients)
    results = apply_plan(plan, config, clients, quiet(), prune=prune)
    assert [result.message for result in results if result.is_failure] == []
    left = plan_of(config, clients)
    assert [change for change in left.changes if prune or change.action is not Action.DELETE] == [], left.as_text()
    return plan


def changes(plan: Plan) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(change.action.value, change.kind, change.update_mask) for change in plan.changes]


def deployed_versions(config: Config) -> list[str]:
    endpoint = Clients(config).endpoints.get_endpoint(name=config.endpoint_name("taxi-tips"))
    return [deployed.model_version_id for deployed in endpoint.deployed_models]


# ------------------------------------------------------------------ from a shell


@pytest.fixture(scope="module")
def fresh_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory in which no emulator has run; what is started on it is stopped at the end."""
    state = tmp_path_factory.mktemp("loop") / "state"
    yield state
    inv("emulator.down", state=state)


def inv(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    """A task in a shell that knows of no emulator."""
    plain = {name: value for name, value in os.environ.items() if not name.upper().endswith("PROXY")}
    plain.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=ROOT, env={**plain, "SELFLOOP_STATE": str(state)}, capture_output=True, text=True, check=False,
        timeout=TASK_SECONDS,
    )  # fmt: skip


def test_loop_starts_an_emulator_and_ends_in_predictions(fresh_state: Path) -> None:
    done = inv("loop", "--output", "json", state=fresh_state)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["predictions"]) == loop.CHECKED_ROWS
    assert set(told["predictions"]) <= {0, 1}
    assert {row["what"] for row in told["made"]} >= {"data", "training job", "model version", "evaluation", "endpoint"}
    assert "project selfloop-local on the emulator" in done.stderr
    assert "workerpool0-0: Running module ml.taxi_tips.train." in done.stderr  # the job's log, while it ran

    again = inv("plan", state=fresh_state)
    assert (again.returncode, again.stdout) == (0, "no changes\n"), again.stderr


def test_loop_on_a_file_of_ones_own_is_shown_by_the_tasks_that_it_names(fresh_state: Path, tmp_path: Path) -> None:
    with data.generated(load_config("local").datasets["taxi-trips"], rows=1500, random_seed=7) as generated:
        mine = shutil.copy(generated, tmp_path / "mine.csv")
    told = inv("loop", "--data", str(mine), state=fresh_state)
    assert " -> " in told.stdout, told.stderr
    listed = inv("emulator.exec", "--", sys.executable, "-c", COPY, str(tmp_path / "copy.csv"), state=fresh_state)
    assert listed.returncode == 0, listed.stderr
    assert (tmp_path / "copy.csv").read_bytes() == Path(mine).read_bytes()

    assert "serves taxi-tips version" in inv("endpoint.status", state=fresh_state).stdout
    newest = json.loads(inv("model.describe", state=fresh_state).stdout)["versions"][0]
    assert newest["metrics"]["auRoc"] > 0.5
    assert newest["labels"]["git-commit"]
    answered = inv("endpoint.test", "[[3, 20, 264, 1.52, 239, 50]]", state=fresh_state)
    assert json.loads(answered.stdout)["predictions"] in ([0], [1])
    rows = [json.loads(line) for line in inv("predict", "--rows", "3", state=fresh_state).stdout.splitlines()]
    assert [len(row["instance"]) for row in rows] == [6, 6, 6]
    recorded = json.loads(inv("experiments.show", "latest", "--output", "json", state=fresh_state).stdout)
    assert recorded["state"] == "COMPLETE"
    assert recorded["metrics"]["auRoc"] == newest["metrics"]["auRoc"]
    assert recorded["parameters"]["git_commit"] == newest["labels"]["git-commit"]
    served = inv("model.endpoint", state=fresh_state)
    assert (served.returncode, served.stdout) == (0, f"{LOCAL}/endpoints/taxi-tips\n")
    assert inv("emulator.up", state=fresh_state).stdout.startswith("an emulator runs on")


def test_an_environment_of_google_is_rehearsed_on_the_emulator(fresh_state: Path) -> None:
    inv("emulator.up", state=fresh_state)
    made = inv("init", "--env", "staging", "--emulated", state=fresh_state)
    assert made.returncode == 0, made.stderr
    assert made.stderr.startswith("project selfloop-staging on the emulator")
    planned = inv("plan", "--env", "staging", "--emulated", "--output", "json", state=fresh_state)
    assert planned.returncode == 2
    assert [change["kind"] for change in json.loads(planned.stdout)["changes"]] == ["model", "endpoint"]
    # Without --emulated, in a shell that leads to the emulator, nothing is done under the name of Google Cloud.
    words = ("--", sys.executable, "-m", "invoke", "plan", "--env", "staging")
    refused = inv("emulator.exec", *words, state=fresh_state)
    assert refused.returncode == 1
    assert "leads to an emulator" in refused.stderr


def test_an_interrupted_wait_says_how_to_look_and_the_training_goes_on(fresh_state: Path) -> None:
    inv("emulator.up", state=fresh_state)
    before = version_count(fresh_state)
    plain = {name: value for name, value in os.environ.items() if not name.upper().endswith("PROXY")}
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", "train"], cwd=ROOT, env={**plain, "SELFLOOP_STATE": str(fresh_state)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "Job is running" in line:
            break
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the training goes on: inv emulator.exec -- gcloud ai custom-jobs stream-logs" in told
    assert "Traceback" not in told
    wait_until(lambda: version_count(fresh_state) == before + 1, seconds=60)


def test_models_and_versions_are_removed_unless_they_serve(read: ReadConfig) -> None:
    config = read(ROWS)
    clients = Clients(config)
    applied(config)
    name = config.model_name("taxi-tips")
    first = clients.models.get_model(name=name)
    again = {
        "display_name": first.display_name,
        "artifact_uri": first.artifact_uri,
        "container_spec": {"image_uri": first.container_spec.image_uri},
        "version_aliases": ["default"],
    }
    request = {"parent": config.parent, "parent_model": name, "model": again}
    clients.models.upload_model(request).result(timeout=60)
    with pytest.raises(OpsError, match=r"@1 is deployed on endpoint taxi-tips; .* undeploy-model taxi-tips"):
        registry.removable(config, clients, "taxi-tips", "1")
    with pytest.raises(OpsError, match="@2 is the default version"):
        registry.removable(config, clients, "taxi-tips", "default")
    with pytest.raises(ResourceNotFound, match=r"@9 does not exist; look with: inv model\.list"):
        registry.removable(config, clients, "taxi-tips", "9")
    deploy.delete_endpoint(clients, config.endpoint_name("taxi-tips"), quiet())
    assert registry.endpoints_of_model(config, clients, "taxi-tips") == []
    assert registry.removable(config, clients, "taxi-tips", "1") == f"{name}@1"
    registry.remove(clients, f"{name}@1")
    assert [version["version_id"] for version in registry.describe_model(config, clients, "taxi-tips")["versions"]] == [
        "2"
    ]
    registry.remove(clients, registry.removable(config, clients, "taxi-tips", None))
    assert registry.list_models(config, clients) == []


def test_everything_that_the_configuration_says_reaches_the_job_and_the_endpoint(read: ReadConfig) -> None:
    config = read(f"{ROWS}{TRAINING}")
    clients = Clients(config)
    applied(config)
    (job,) = clients.jobs.list_custom_jobs(parent=config.parent)
    spec = job.job_spec
    (run,) = experiments.runs(config, clients, "taxi-tips")
    assert dict(job.labels) == {"team": "rides", "selfloop-environment": "test", "selfloop-run": run.name}
    assert spec.service_account == "trainer@example.iam.gserviceaccount.com"
    assert (spec.scheduling.timeout.seconds, spec.scheduling.strategy.name) == (600, "SPOT")
    assert (spec.scheduling.disable_retries, spec.scheduling.restart_job_on_worker_restart) == (True, False)
    chief, workers = spec.worker_pool_specs
    assert (chief.replica_count, workers.replica_count) == (1, 1)
    for pool in (chief, workers):
        machine = pool.machine_spec
        assert (machine.machine_type, machine.accelerator_type.name, machine.accelerator_count) == (
            "n1-standard-8", "NVIDIA_TESLA_T4", 2,
        )  # fmt: skip
        assert pool.disk_spec.boot_disk_size_gb == 200
        assert {variable.name: variable.value for variable in pool.python_package_spec.env} == {"SEED": "3"}
    model = clients.models.get_model(name=config.model_name("taxi-tips"))
    assert {variable.name: variable.value for variable in model.container_spec.env} == {"WORKERS": "2"}
    (deployed,) = clients.endpoints.get_endpoint(name=config.endpoint_name("taxi-tips")).deployed_models
    assert deploy.machine_of(deployed) == (
        "g2-standard-4", "NVIDIA_L4", 1, "server@example.iam.gserviceaccount.com",
    )  # fmt: skip


def version_count(state: Path) -> int:
    """Versions that the registry holds of the model."""
    described = inv("model.describe", state=state)
    return len(json.loads(described.stdout)["versions"]) if described.returncode == 0 else 0


# ------------------------------------------------------------------ desired state


def test_apply_follows_the_configuration_through_its_life(read: ReadConfig) -> None:
    config = read(ROWS)
    clients = Clients(config)
    first = applied(config)
    assert [change[:2] for change in changes(first)] == [("create", kind) for kind in ("bucket", "model", "endpoint")]
    assert [health.healthy for health in check_health(config, clients)] == [True]
    assert deployed_versions(config) == ["1"]

    described = applied(read(f"{ROWS}models:\n  taxi-tips:\n    description: Tips\n    labels: {{team: a}}\n"))
    assert changes(described) == [("update", "model", ("description", "labels"))]
    versioned = applied(read(f"{ROWS}buckets:\n  loop:\n    versioning_enabled: true\n"))
    assert ("update", "bucket", ("versioning_enabled",)) in changes(versioned)
    assert deployed_versions(config) == ["1"]

    other_training = f"{ROWS}models:\n  taxi-tips:\n    training:\n      env: {{SEED: '2'}}\n"
    retrained = applied(read(other_training))
    assert ("update", "model", ("training",)) in changes(retrained)
    assert ("update", "endpoint", ("deployed_models",)) in changes(retrained)
    assert deployed_versions(config) == ["2"]

    applied(read(f"{other_training}{SPLIT}"))
    endpoint = clients.endpoints.get_endpoint(name=config.endpoint_name("taxi-tips"))
    versions = {deployed.id: deployed.model_version_id for deployed in endpoint.deployed_models}
    assert {versions[id_]: share for id_, share in endpoint.traffic_split.items()} == {"1": 80, "2": 20}

    bare = config.model_copy(update={"endpoints": {}, "models": {}})
    assert [change[0] for change in changes(applied(bare))] == ["delete", "delete"]
    assert sorted(deployed_versions(config)) == ["1", "2"]
    applied(bare, prune=True)
    assert list(clients.endpoints.list_endpoints(parent=bare.parent)) == []
    assert list(clients.models.list_models(parent=bare.parent)) == []


def test_a_rehearsal_shares_nothing_with_another_project(read: ReadConfig, project: str) -> None:
    config = read(ROWS)
    clients = Clients(config)
    apply_plan(plan_of(config, clients, {"bucket"}), config, clients, quiet())
    other = config.model_copy(update={"project": f"{project}-b"})
    assert {change.action for change in plan_of(other, Clients(other)).changes} == {Action.CREATE}


# ------------------------------------------------------------------ what goes wrong


def test_training_without_data_and_generator_says_how_to_bring_it(read: ReadConfig) -> None:
    config = read("datasets:\n  taxi-trips:\n    generator: null\n")
    clients = Clients(config)
    apply_plan(plan_of(config, clients, {"bucket"}), config, clients, quiet())
    with pytest.raises(ResourceNotFound, match=r"does not exist .* inv data\.import"):
        training.train(config, clients, "taxi-tips", quiet())


def test_loop_on_data_that_is_none_fails_with_the_trainers_own_words(read: ReadConfig, tmp_path: Path) -> None:
    file = tmp_path / "trips.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(OpsError, match=r"the training did not succeed: .*non-zero status of 1"):
        loop.run(read(ROWS), quiet(), data_file=file)


def test_a_deployment_that_fails_leaves_the_serving_version(read: ReadConfig) -> None:
    config = read(f"{ROWS}api_transport: rest\n")  # and all of this over REST
    applied(config)
    clients = Clients(config)
    # A second version whose file is no model: it registers, but cannot start.
    model = clients.models.get_model(name=config.model_name("taxi-tips"))
    bucket = clients.storage.bucket(config.bucket_name("loop"))
    bucket.blob("broken/model.joblib").upload_from_string(b"no model")
    request: dict[str, Any] = {
        "parent": config.parent,
        "parent_model": config.model_name("taxi-tips"),
        "model": {
            "display_name": "taxi-tips",
            "artifact_uri": f"gs://{bucket.name}/broken",
            "container_spec": {"image_uri": model.container_spec.image_uri},
            "version_aliases": ["default"],
            "labels": dict(model.labels),
        },
    }
    clients.models.upload_model(request).result(timeout=60)
    plan = plan_of(config, clients, {"endpoint"})
    results = apply_plan(plan, config, clients, quiet())
    assert [result.outcome for result in results] == ["failed"]
    assert deployed_versions(config) == ["1"]
    rows = [[3.0, 20.0, 264.0, 1.52, 239.0, 50.0]]
    assert predict(clients, config.endpoint_name("taxi-tips"), rows).model_version_id == "1"
