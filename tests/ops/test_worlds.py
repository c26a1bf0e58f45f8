"""Which world a task reaches, and what is refused."""

from __future__ import annotations

import pytest

from ops import emulator, worlds
from ops.config import Config, load_config
from ops.errors import EmulatorNotRunning, OpsError
from tests.ops.conftest import MakeConfig

EXPORTS = {"https_proxy": "http://127.0.0.1:4000", "HTTPS_PROXY": "http://127.0.0.1:4000", worlds.MARKER: ""}


@pytest.fixture
def dev() -> Config:
    return load_config("dev", environ={})


def test_connect_to_the_emulator_exports_its_variables(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "variables", lambda _: EXPORTS)
    environ = {"STORAGE_EMULATOR_HOST": "http://elsewhere", "HOME": "/home/me"}
    assert worlds.connect(config, environ=environ) == "emulator"
    assert environ == {**EXPORTS, "HOME": "/home/me"}


def test_connect_without_a_running_emulator_says_how_to_start_it(make_config: MakeConfig) -> None:
    config = make_config("emulator:\n  state: /nonexistent/state\n")
    with pytest.raises(EmulatorNotRunning, match=r"no emulator runs on /nonexistent/state; start it with"):
        worlds.connect(config, environ={})


def test_connect_to_google_leaves_the_variables_alone(dev: Config) -> None:
    environ = {"https_proxy": "http://proxy.example:3128"}
    assert worlds.connect(dev, environ=environ) == "google"
    assert environ == {"https_proxy": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("variables", "named"),
    [(EXPORTS, "https_proxy"), ({"STORAGE_EMULATOR_HOST": "http://localhost:1"}, "STORAGE_EMULATOR_HOST")],
)
def test_connect_to_google_under_an_emulators_variables_is_refused(
    dev: Config, variables: dict[str, str], named: str
) -> None:
    with pytest.raises(
        OpsError, match=f"config/dev.yaml names the real Google Cloud, but {named} leads to an emulator"
    ):
        worlds.connect(dev, environ=dict(variables))


def test_connect_emulated_rehearses_an_environment_of_google(dev: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "variables", lambda _: EXPORTS)
    environ: dict[str, str] = {}
    assert worlds.connect(dev, emulated=True, environ=environ) == "emulator"
    assert environ["https_proxy"] == EXPORTS["https_proxy"]


def test_a_local_proxy_of_ones_own_is_no_emulator() -> None:
    assert worlds.emulator_variables({"https_proxy": "http://127.0.0.1:3128"}) == []


def test_announce_names_project_and_world(dev: Config, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    worlds.announce(dev)
    worlds.announce(config)
    worlds.announce(dev, emulated=True)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "project selfloop-dev on Google Cloud (dev, us-central1)"
    assert second == "project my-project on the emulator (test, us-central1)"
    assert third == "project selfloop-dev on the emulator (dev, us-central1)"


def test_confirm_without_anyone_to_answer_wants_yes(dev: Config) -> None:
    with pytest.raises(OpsError, match="say --yes"):
        worlds.confirm(dev, "Apply?", yes=False)
    worlds.confirm(dev, "Apply?", yes=True)


def test_confirm_asks_nothing_where_the_configuration_says_so(make_config: MakeConfig) -> None:
    worlds.confirm(make_config("confirm: false\n"), "Apply?", yes=False)


def test_shell_command_leads_to_the_emulator_from_a_fresh_shell() -> None:
    assert worlds.shell_command("gcloud ai models list", EXPORTS) == "inv emulator.exec -- gcloud ai models list"
    assert worlds.shell_command("gcloud ai models list", {}) == "gcloud ai models list"
