"""Every error of a configuration names file, line, key, what is wrong and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.config import CONFIG, environments, load_config, schema_is_current, shown
from ops.errors import ConfigError, EnvironmentNotFound
from tests.ops.conftest import MakeConfig


@pytest.mark.parametrize("environment", environments())
def test_load_config_reads_every_environment_of_the_repository(environment: str) -> None:
    config = load_config(environment, environ={})
    assert config.environment == environment
    assert config.project.startswith("selfloop-")


def test_load_config_lays_the_overlay_over_the_base(make_config: MakeConfig) -> None:
    config = make_config("models:\n  taxi-tips:\n    training:\n      machine_type: e2-standard-4\n")
    training = config.models["taxi-tips"].training
    assert training.machine_type == "e2-standard-4"
    assert training.python_module == "ml.taxi_tips.train"


def test_load_config_replaces_a_list_whole(make_config: MakeConfig) -> None:
    assert make_config("emulator:\n  egress: []\n").emulator.egress == ()


def test_load_config_takes_null_as_a_value(make_config: MakeConfig) -> None:
    assert make_config("datasets:\n  taxi-trips:\n    generator: null\n").datasets["taxi-trips"].generator is None


def test_bucket_name_begins_with_the_project_unless_it_is_given(make_config: MakeConfig) -> None:
    assert make_config("").bucket_name("loop") == "my-project-loop"
    assert make_config("buckets:\n  loop:\n    name: elsewhere\n").bucket_name("loop") == "elsewhere"


def test_load_config_of_an_unknown_environment_names_the_known_ones() -> None:
    with pytest.raises(EnvironmentNotFound) as caught:
        load_config("devv")
    assert str(caught.value) == "config/devv.yaml does not exist; environments: dev, local, prod, staging"


def test_variables_override_the_files(config_folder: Path) -> None:
    (config_folder / "test.yaml").write_text("world: emulator\nproject: my-project\n")
    variables = {
        "SELFLOOP_PROJECT": "another-project",
        "SELFLOOP_STATE": "/somewhere",
        "SELFLOOP_PORT": "8123",
        "SELFLOOP_SANDBOX": "none",
    }
    config = load_config("test", folder=config_folder, environ=variables)
    assert config.project == "another-project"
    assert config.emulator_state == Path("/somewhere")
    assert (config.emulator.port, config.emulator.sandbox) == (8123, "none")


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("modles: {}\n", "config/test.yaml:3: modles: there is no such key; did you mean models?"),
        (
            "models:\n  taxi-tips:\n    training:\n      machinetype: x\n",
            "config/test.yaml:6: models.taxi-tips.training.machinetype: there is no such key; "
            "did you mean machine_type?",
        ),
        (
            "models:\n  taxi-tips:\n    training:\n      replica_count: two\n",
            "config/test.yaml:6: models.taxi-tips.training.replica_count: is 'two'; "
            "write a whole number without quotes",
        ),
        ("confirm: 'yes'\n", "config/test.yaml:3: confirm: is 'yes'; write true or false"),
        ("emulator:\n  port: 99999\n", "config/test.yaml:4: emulator.port: is 99999; write less than or equal"),
        ("emulator:\n  sandbox: medium\n", "config/test.yaml:4: emulator.sandbox: is 'medium'; write 'full' or 'none'"),
        ("emulator:\n  port: 1\n\tsandbox: full\n", "config/test.yaml:5: the line is indented with a tab"),
        ("models:\n\ttaxi-tips: {}\n", "config/test.yaml:4: the line is indented with a tab; YAML takes spaces only"),
        ("project: other-project\n", "config/test.yaml:3: key project is written twice; keep one of the two"),
        (
            "buckets:\n  loop:\n",
            "config/test.yaml:4: buckets.loop: is empty; write a mapping: `key: value` lines, indented below it",
        ),
        ("datasets: [1]\n", "config/test.yaml:3: datasets: is a list; write a mapping: `key: value` lines"),
        ("1: 2\n", "config/test.yaml:3: 1: a key must be text; write it in quotes"),
        ("confirm: !!python/name:os.system x\n", "config/test.yaml:3: confirm: tags such as"),
        (
            "endpoints:\n  taxi-tips:\n    deployed_models:\n      - {model: taxi-tips, traffic_percentage: 90}\n",
            "config/test.yaml:4: endpoints.taxi-tips: the traffic_percentage of deployed_models adds up to 90, not 100",
        ),
        (
            "endpoints:\n  taxi-tips:\n    deployed_models:\n      - {model: taxi}\n",
            "config/test.yaml:6: endpoints.taxi-tips.deployed_models.0.model: there is no 'taxi' under models; "
            "write one of: taxi-tips",
        ),
        (
            "models:\n  taxi-tips:\n    training:\n      dataset: trips\n",
            "config/test.yaml:6: models.taxi-tips.training.dataset: there is no 'trips' under datasets; "
            "write one of: taxi-trips",
        ),
        (
            "models:\n  taxi-tips:\n    training:\n      accelerator_type: NVIDIA_TESLA_T4\n",
            "config/test.yaml:5: models.taxi-tips.training: accelerator_type and accelerator_count go together; "
            "set both or neither",
        ),
        (
            "models:\n  taxi-tips:\n    training:\n      scheduling: {strategy: CHEAP}\n",
            "config/test.yaml:6: models.taxi-tips.training.scheduling.strategy: is 'CHEAP'; write 'ON_DEMAND', ",
        ),
        (
            "models:\n  taxi-tips:\n    training:\n      service_account: trainer\n",
            "config/test.yaml:6: models.taxi-tips.training.service_account: is 'trainer'; write what matches",
        ),
        ("a: [1, 2\n", "config/test.yaml:4: is not YAML"),
        ("environment: prod\n", "config/test.yaml:3: environment: comes from the file's name; remove the key"),
    ],
)  # fmt: skip
def test_load_config_says_where_and_what_is_wrong(make_config: MakeConfig, overlay: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(overlay)
    assert str(caught.value).startswith(message)


def test_load_config_tells_every_finding_at_once(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config("modles: {}\nconfirm: 3\n")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["- a\n", "text\n", "3\n"])
def test_load_config_of_a_file_that_is_no_mapping_says_so(config_folder: Path, text: str) -> None:
    (config_folder / "test.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config/test.yaml:1: holds a .*, not a mapping; begin with"):
        load_config("test", folder=config_folder, environ={})


def test_load_config_of_an_empty_overlay_misses_what_base_lacks(config_folder: Path) -> None:
    (config_folder / "test.yaml").write_text("")
    with pytest.raises(ConfigError, match="project: is missing; add it"):
        load_config("test", folder=config_folder, environ={})


def test_load_config_of_bytes_that_are_no_text_says_so(config_folder: Path) -> None:
    (config_folder / "test.yaml").write_bytes(b"project: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"config/test\.yaml: is not UTF-8 text"):
        load_config("test", folder=config_folder, environ={})


def test_load_config_of_a_value_that_holds_itself_ends(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"buckets\.loop: is empty"):
        make_config("buckets: &all\n  loop: *all\n")


def test_a_wrong_variable_is_named(config_folder: Path) -> None:
    (config_folder / "test.yaml").write_text("world: emulator\nproject: my-project\n")
    with pytest.raises(ConfigError, match="variable SELFLOOP_PROJECT: project: is 'No'"):
        load_config("test", folder=config_folder, environ={"SELFLOOP_PROJECT": "No"})
    with pytest.raises(ConfigError, match="variable SELFLOOP_PORT: 'http' is no whole number"):
        load_config("test", folder=config_folder, environ={"SELFLOOP_PORT": "http"})


def test_schema_of_the_repository_is_current() -> None:
    assert schema_is_current(), "run: inv config.schema"


def test_shown_config_can_be_read_again(config_folder: Path) -> None:
    config = load_config("local", environ={})
    (config_folder / "again.yaml").write_text(shown(config, "yaml"))
    again = load_config("again", folder=config_folder, environ={})
    assert again.model_copy(update={"environment": "local"}) == config


def test_base_configuration_names_no_project() -> None:
    assert "project:" not in (CONFIG / "base.yaml").read_text().replace("<project>", "")
