"""What an environment should look like: `config/base.yaml` under `config/<environment>.yaml`, as typed models.

Keys are Google's field names in snake_case, with a unit where Google leaves it out. Files are read once, in
the task; below it, functions take the typed model.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ops.config_messages import messages
from ops.errors import ConfigError, EnvironmentNotFound
from ops.yaml_file import Document, KeyPath, Position, dotted, read_yaml

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
SCHEMA = CONFIG / "schema.json"

World = Literal["emulator", "google"]

# The patterns are those of Google's own reference pages.
ProjectId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")]
BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$")]
ResourceId = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
#: As an id in ML Metadata, with room for the names of runs behind it.
ExperimentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{3,59}$")]
ObjectName = Annotated[str, StringConstraints(pattern=r"^[^/\r\n#?*\[\]][^\r\n#?*\[\]]*$", max_length=1024)]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{0,63}$")]
ImageUri = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][\w.-]*(:\d+)?(/[\w.-]+)+(:[\w.-]+|@sha256:[0-9a-f]{64})?$")
]
Version = Annotated[str, StringConstraints(pattern=r"^(\d+|[a-z][a-zA-Z0-9-]{0,126}[a-z0-9])$")]
AcceleratorType = Annotated[str, StringConstraints(pattern=r"^(NVIDIA|TPU)_[A-Z0-9_]+$")]
ServiceAccount = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
Labels = dict[LabelKey, LabelValue]


class Settings(BaseModel):
    """Base of every section: unknown keys are refused, values keep their YAML types, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class StandIn(Settings):
    """What runs in place of an image of one's own, where no container can: one of `environment` and `python`."""

    environment: str | None = Field(None, min_length=1)
    """one that the emulator makes for prebuilt images, such as `sklearn-cpu.1-6`"""
    python: str | None = Field(None, min_length=1)
    """path of the interpreter of a virtual environment that holds what the image holds"""
    entrypoint: tuple[str, ...] = ()
    """the image's own command, for containers that name none"""
    folder: str | None = Field(None, min_length=1)
    """what the image holds at its working directory, which is /app here; relative to the repository"""
    env: dict[str, str] = Field(default_factory=dict)
    """the image's own variables"""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.environment is None) == (self.python is None):
            raise ValueError("one of environment and python must be set")
        return self


class Emulator(Settings):
    """How this machine's emulator is run; read in the world `emulator` only."""

    state: str = Field(".selfloop/state", min_length=1)
    """folder of everything that it keeps; relative to the repository"""
    port: int = Field(0, ge=0, le=65535)
    """0 picks a free one"""
    sandbox: Literal["full", "none"] | None = None
    """null takes the best level that the machine allows"""
    egress: tuple[str, ...] = ("package-index",)
    """hosts that jobs may reach besides the emulator; `package-index` stands for the index that pip uses"""
    images: Literal["nearest", "exact"] = "nearest"
    """whether a library version near that of a prebuilt image will do"""
    image_table: dict[ImageUri, StandIn] = Field(default_factory=dict)
    """image of one's own -> what stands in for it; a URI without a tag means all tags"""


class Bucket(Settings):
    """google.storage.v2.Bucket."""

    name: BucketName | None = None
    """null: `<project>-<key>`, since names are shared by the whole world"""
    location: str | None = None
    """null: the configuration's location; it can never be changed"""
    storage_class: Literal["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"] = "STANDARD"
    versioning_enabled: bool = False
    labels: Labels = Field(default_factory=dict)


class Dataset(Settings):
    """One object in a bucket that models are trained on."""

    bucket: str
    """key of a bucket"""
    object: ObjectName
    generator: ModuleName | None = None
    """module run as `python -m MODULE --out FILE --rows N --seed N` when the object is missing"""
    rows: int = Field(20_000, ge=100)
    seed: int = 1


class Machine(Settings):
    """google.cloud.aiplatform.v1.MachineSpec, and as whom what runs on it calls Google."""

    machine_type: str = Field(min_length=1)
    accelerator_type: AcceleratorType | None = None
    """null: no accelerator"""
    accelerator_count: int = Field(0, ge=0)
    service_account: ServiceAccount | None = None
    """null: Vertex AI's own"""

    @model_validator(mode="after")
    def _accelerator_is_whole(self) -> Self:
        if (self.accelerator_type is None) != (self.accelerator_count == 0):
            raise ValueError("accelerator_type and accelerator_count go together; set both or neither")
        return self

    @property
    def machine_spec(self) -> dict[str, str | int]:
        """As the API takes it."""
        spec: dict[str, str | int] = {"machine_type": self.machine_type}
        if self.accelerator_type is not None:
            spec |= {"accelerator_type": self.accelerator_type, "accelerator_count": self.accelerator_count}
        return spec

    @property
    def machine(self) -> str:
        """In words."""
        with_ = f" with {self.accelerator_count} {self.accelerator_type}" if self.accelerator_type else ""
        return f"{self.machine_type}{with_}"


class Scheduling(Settings):
    """When a training may start and start again (google.cloud.aiplatform.v1.Scheduling)."""

    strategy: Literal["ON_DEMAND", "STANDARD", "SPOT", "FLEX_START"] = "STANDARD"
    max_wait_duration_seconds: int | None = Field(None, ge=0)
    """with FLEX_START: how long to wait for machines; null leaves it to Vertex AI"""
    restart_job_on_worker_restart: bool = False
    disable_retries: bool = False


class Training(Machine):
    """One TrainingPipeline whose CustomJob runs a Python package (google.cloud.aiplatform.v1.CustomJobSpec)."""

    python_module: ModuleName
    """run as `python -m MODULE --data URI ARGS`"""
    dataset: str
    """key of a data set; its gs:// URI is the value of --data"""
    image_uri: ImageUri
    machine_type: str = Field("n1-standard-4", min_length=1)
    boot_disk_size_gb: int = Field(100, ge=100, le=64_000)
    replica_count: int = Field(1, ge=1)
    """one chief, the others workers; all run the same module"""
    timeout_seconds: int = Field(3600, ge=1)
    experiment: ExperimentId | None = None
    """experiment of which every training is a run; null records none"""
    scheduling: Scheduling = Scheduling()
    args: tuple[str, ...] = ()
    env: dict[VariableName, str] = Field(default_factory=dict)
    labels: Labels = Field(default_factory=dict)
    network: str | None = Field(None, min_length=1)
    """full name of the network to peer with: projects/NUMBER/global/networks/NAME"""
    persistent_resource_id: str | None = Field(None, min_length=1)
    """machines kept between trainings"""


class Serving(Settings):
    """The container that answers for a model (google.cloud.aiplatform.v1.ModelContainerSpec)."""

    image_uri: ImageUri
    env: dict[VariableName, str] = Field(default_factory=dict)


class Model(Settings):
    """A model of the registry; each training gives it a version."""

    display_name: str | None = Field(None, min_length=1, max_length=128)
    """null: the key"""
    description: str = ""
    bucket: str
    """key of the bucket for packages and artifacts"""
    training: Training
    serving: Serving
    instances: ModuleName
    """module run as `python -m MODULE --data FILE --limit N`; prints one JSON instance a line"""
    labels: Labels = Field(default_factory=dict)


class DeployedModel(Machine):
    """One version of a model on an endpoint (google.cloud.aiplatform.v1.DeployedModel)."""

    model: str
    """key of a model"""
    version: Version = "default"
    """number or alias"""
    machine_type: str = Field("n1-standard-2", min_length=1)
    min_replica_count: int = Field(1, ge=1)
    max_replica_count: int = Field(1, ge=1)
    traffic_percentage: int = Field(100, ge=0, le=100)

    @model_validator(mode="after")
    def _replica_counts_in_order(self) -> Self:
        if self.max_replica_count < self.min_replica_count:
            raise ValueError(
                f"max_replica_count {self.max_replica_count} is below min_replica_count {self.min_replica_count}"
            )
        return self


class Endpoint(Settings):
    """google.cloud.aiplatform.v1.Endpoint."""

    display_name: str | None = Field(None, min_length=1, max_length=128)
    """null: the key"""
    description: str = ""
    deployed_models: tuple[DeployedModel, ...] = Field(min_length=1)
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _traffic_is_whole(self) -> Self:
        total = sum(deployed.traffic_percentage for deployed in self.deployed_models)
        if total != 100:
            raise ValueError(f"the traffic_percentage of deployed_models adds up to {total}, not 100")
        pairs = [(deployed.model, deployed.version) for deployed in self.deployed_models]
        if len(set(pairs)) != len(pairs):
            raise ValueError("deployed_models names the same model and version twice")
        return self


class Gate(Settings):
    """When a model that a pipeline trained takes the place of the one before: `ml.comparison.compare`."""

    metric: Literal["accuracy", "auc_pr", "auc_roc", "log_loss", "precision", "recall"] = "auc_roc"
    """measured of both on the same test rows; of log_loss less is better, of the others more"""
    margin: float = 0.0
    """by how much the new one must be better; with 0 a tie keeps the old one, below 0 it may be worse by that"""


class Schedule(Settings):
    """google.cloud.aiplatform.v1.Schedule of pipeline runs."""

    cron: str = Field(min_length=9)
    """five fields, with `TZ=Area/City ` before them for another zone than UTC"""
    max_concurrent_run_count: int = Field(1, ge=1)
    allow_queueing: bool = False
    """whether a run whose time has come waits while as many as may run at a time do; else it is left out"""


class Pipeline(Settings):
    """A Kubeflow pipeline that trains a model (google.cloud.aiplatform.v1.PipelineJob)."""

    module: ModuleName
    """compiled by `python -m MODULE --code PATH --out FILE`"""
    model: str
    """key of the model that it trains; its bucket takes code and artifacts"""
    endpoint: str | None = None
    """key of the endpoint on which a version that is accepted is deployed; null for none"""
    gate: Gate = Gate()
    parameters: dict[VariableName, bool | int | float | str] = Field(default_factory=dict)
    """further parameters of the pipeline, by name"""
    enable_caching: bool = True
    failure_policy: Literal["slow", "fast"] = "slow"
    """fast: after a failure no further step is begun"""
    service_account: ServiceAccount | None = None
    """null: the project's default"""
    labels: Labels = Field(default_factory=dict)
    schedule: Schedule | None = None


class Config(Settings):
    """Everything that an environment declares."""

    environment: str = Field(exclude=True)
    """name of the overlay; set by `load_config`, never written in a file"""
    world: World
    """`emulator`: the local Google Cloud; `google`: the real one"""
    project: ProjectId
    location: str = Field("us-central1", pattern=r"^[a-z]+(-[a-z]+\d+)?$")
    api_transport: Literal["grpc", "rest"] = "grpc"
    confirm: bool = True
    """whether tasks that change something ask first"""
    emulator: Emulator = Emulator()
    buckets: dict[ResourceId, Bucket] = Field(default_factory=dict)
    datasets: dict[ResourceId, Dataset] = Field(default_factory=dict)
    models: dict[ResourceId, Model] = Field(default_factory=dict)
    endpoints: dict[ResourceId, Endpoint] = Field(default_factory=dict)
    pipelines: dict[ResourceId, Pipeline] = Field(default_factory=dict)

    @property
    def parent(self) -> str:
        """Resource name of the location."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def emulator_state(self) -> Path:
        return ROOT / Path(self.emulator.state).expanduser()

    def bucket_name(self, key: str) -> str:
        """The bucket's name in Cloud Storage."""
        return self.buckets[key].name or f"{self.project}-{key}"

    def dataset_uri(self, key: str) -> str:
        dataset = self.datasets[key]
        return f"gs://{self.bucket_name(dataset.bucket)}/{dataset.object}"

    def model(self, key: str | None) -> tuple[str, Model]:
        """The model of that key, or the only one."""
        return _one(self.models, key, "model")

    def endpoint(self, key: str | None) -> tuple[str, Endpoint]:
        """The endpoint of that key, or the only one."""
        return _one(self.endpoints, key, "endpoint")

    def dataset(self, key: str | None) -> tuple[str, Dataset]:
        """The data set of that key, or the only one."""
        return _one(self.datasets, key, "data set")

    def pipeline(self, key: str | None) -> tuple[str, Pipeline]:
        """The pipeline of that key, or the only one."""
        return _one(self.pipelines, key, "pipeline")

    def experiment(self, name: str | None) -> str:
        """The experiment of that name, declared or not, or the only one that trainings declare."""
        declared = {model.training.experiment for model in self.models.values()} - {None}
        return name or _one({str(one): one for one in sorted(map(str, declared))}, None, "experiment")[0]

    def model_name(self, key: str) -> str:
        """Resource name; the key is the id."""
        return f"{self.parent}/models/{key}"

    def endpoint_name(self, key: str) -> str:
        """Resource name; the key is the id."""
        return f"{self.parent}/endpoints/{key}"


def load_config(
    environment: str = "local", *, folder: Path = CONFIG, environ: Mapping[str, str] | None = None
) -> Config:
    """The environment's configuration: base.yaml, its overlay, then the SELFLOOP_ variables.

    Raises EnvironmentNotFound, and ConfigError with one line for each thing that is wrong: file, line, key,
    what is wrong, what to write.
    """
    overlay = folder / f"{environment}.yaml"
    known = environments(folder)
    if environment not in known:
        raise EnvironmentNotFound(environment, known)
    document = read_yaml(folder / "base.yaml", "config/base.yaml").overlaid(
        read_yaml(overlay, f"config/{overlay.name}")
    )
    if "environment" in document.values:
        raise ConfigError(
            f"{document.position(('environment',))}: environment: comes from the file's name; remove the key"
        )
    for variable, path, kind in OVERRIDES:
        value = (os.environ if environ is None else environ).get(variable)
        if value:
            document.set(path, _override(variable, value, kind), Position(f"variable {variable}"))
    document.values["environment"] = environment
    try:
        # As JSON: strict mode then takes a list for a tuple, which is all that YAML has.
        config = Config.model_validate_json(json.dumps(document.values))
    except ValidationError as error:
        raise ConfigError("\n".join(messages(error, Config, document))) from None
    dangling = list(_dangling_references(config, document))
    if dangling:
        raise ConfigError("\n".join(dangling))
    return config


def environments(folder: Path = CONFIG) -> list[str]:
    """Names of the overlays."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "base")


def json_schema() -> dict[str, Any]:
    """JSON Schema of base.yaml and of an overlay, for editors: either may leave any key to the other."""
    schema = Config.model_json_schema()
    schema["properties"].pop("environment")
    schema.pop("required", None)
    for definition in schema.get("$defs", {}).values():
        definition.pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "selfloop configuration",
        **schema,
    }


def write_schema() -> Path:
    """Write the schema where editors find it; gives back the file."""
    SCHEMA.write_text(_schema_text(), "utf-8")
    return SCHEMA


def schema_is_current() -> bool:
    """Whether the file says what the models say."""
    return SCHEMA.exists() and SCHEMA.read_text("utf-8") == _schema_text()


def shown(config: Config, output: str) -> str:
    """The configuration with everything filled in, as `yaml` or `json`."""
    values = config.model_dump(mode="json")
    if output == "json":
        return json.dumps(values, indent=2) + "\n"
    from ruamel.yaml import YAML

    buffer = io.StringIO()
    YAML(typ="safe", pure=True).dump(values, buffer)
    return buffer.getvalue()


def _schema_text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


OVERRIDES: tuple[tuple[str, tuple[str, ...], type], ...] = (
    ("SELFLOOP_PROJECT", ("project",), str),
    ("SELFLOOP_STATE", ("emulator", "state"), str),
    ("SELFLOOP_PORT", ("emulator", "port"), int),
    ("SELFLOOP_SANDBOX", ("emulator", "sandbox"), str),
)


def _override(variable: str, value: str, kind: type) -> object:
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"variable {variable}: {value!r} is no whole number; set it to a port such as 0") from None


_Item = TypeVar("_Item")


def _one(items: Mapping[str, _Item], key: str | None, kind: str) -> tuple[str, _Item]:
    known = ", ".join(items) or "none"
    if key is None:
        if len(items) != 1:
            raise ConfigError(f"the configuration declares {len(items)} {kind}s; name one of: {known}")
        return next(iter(items.items()))
    if key not in items:
        raise ConfigError(f"the configuration declares no {kind} {key!r}; {kind}s: {known}")
    return key, items[key]


def _dangling_references(config: Config, document: Document) -> Iterator[str]:
    """One message for each key that names a bucket, data set or model which is not declared."""
    references: list[tuple[KeyPath, str, str, Mapping[str, object]]] = []
    for key, dataset in config.datasets.items():
        references.append((("datasets", key, "bucket"), dataset.bucket, "buckets", config.buckets))
    for key, model in config.models.items():
        training = model.training.dataset
        references.append((("models", key, "bucket"), model.bucket, "buckets", config.buckets))
        references.append((("models", key, "training", "dataset"), training, "datasets", config.datasets))
    for key, endpoint in config.endpoints.items():
        for index, deployed in enumerate(endpoint.deployed_models):
            at: KeyPath = ("endpoints", key, "deployed_models", index, "model")
            references.append((at, deployed.model, "models", config.models))
    for key, pipeline in config.pipelines.items():
        references.append((("pipelines", key, "model"), pipeline.model, "models", config.models))
        if pipeline.endpoint is not None:
            references.append((("pipelines", key, "endpoint"), pipeline.endpoint, "endpoints", config.endpoints))
    for path, name, section, declared in references:
        if name not in declared:
            yield (
                f"{document.position(path)}: {dotted(path)}: there is no {name!r} under {section}; "
                f"write one of: {', '.join(declared) or 'none is declared'}"
            )
