"""The emulator as the tasks start, find and stop it."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops import emulator
from ops.config import ROOT, Config, StandIn, load_config
from ops.control import find_control, running_control
from ops.errors import EmulatorNotRunning, OpsError

MakeConfig = Callable[..., Config]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeConfig]:
    """The local configuration on a state directory of this test; what runs there is stopped at the end."""
    used: list[Config] = []

    def making(**variables: str) -> Config:
        state = {"SELFLOOP_STATE": str(tmp_path / "state"), "SELFLOOP_PORT": "0"}
        config = load_config("local", environ=state | variables)
        used.append(config)
        return config

    yield making
    for config in used:
        emulator.stop(config)


def test_ensure_starts_one_emulator_and_finds_it_again(make: MakeConfig) -> None:
    config = make()
    control, started = emulator.ensure(config)
    assert started
    assert control.get("health")["state"] == str(config.emulator_state)
    again, started = emulator.ensure(config)
    assert not started
    assert again == control
    assert stat.S_IMODE((config.emulator_state / "token").stat().st_mode) == 0o600


def test_ensure_twice_at_once_ends_in_one_emulator(make: MakeConfig) -> None:
    config = make()
    with ThreadPoolExecutor(max_workers=3) as threads:
        found = list(threads.map(lambda _: emulator.ensure(config), range(3)))
    assert len({control.pid for control, _ in found}) == 1
    assert [started for _, started in found].count(True) == 1


def test_stop_ends_it_and_a_second_stop_finds_none(make: MakeConfig) -> None:
    config = make()
    control, _ = emulator.ensure(config)
    assert emulator.stop(config) == control
    assert emulator.stop(config) is None
    with pytest.raises(EmulatorNotRunning, match=r"start it with: inv emulator\.up"):
        running_control(config.emulator_state)


def test_in_the_foreground_a_second_one_is_refused(make: MakeConfig) -> None:
    config = make()
    emulator.ensure(config)
    with pytest.raises(OpsError, match=r"an emulator runs on .*; stop it with: inv emulator\.down"):
        emulator.run_in_foreground(config)


def test_variables_name_the_configurations_project(make: MakeConfig) -> None:
    emulator.ensure(make())
    variables = emulator.variables(make(SELFLOOP_PROJECT="another-project"))
    assert variables["GOOGLE_CLOUD_PROJECT"] == variables["CLOUDSDK_CORE_PROJECT"] == "another-project"
    assert variables["https_proxy"] == variables["HTTPS_PROXY"]


def test_exports_survive_a_shell(make: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "variables", lambda _: {"A": "it's $HOME `x`", "B": ""})
    assert emulator.exports(make()) == "export A='it'\"'\"'s $HOME `x`'\nexport B=''"


def test_a_busy_port_is_one_line(make: MakeConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(OpsError, match=rf"the emulator did not start: .*{port}.*SELFLOOP_PORT=0") as caught:
            emulator.ensure(make(SELFLOOP_PORT=port))
    assert "\n" not in str(caught.value)


def test_a_state_directory_that_cannot_be_made_is_one_line(make: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OpsError, match=r"cannot be written .*; set SELFLOOP_STATE to another folder"):
        emulator.ensure(make(SELFLOOP_STATE=str(tmp_path / "file" / "state")))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"port": "x", "pid": 1}', '{"port": 1, "pid": 999999999}'])
def test_an_address_that_nobody_holds_is_no_emulator(tmp_path: Path, content: str) -> None:
    (tmp_path / "address.json").write_text(content)
    assert find_control(tmp_path) is None


def test_an_address_of_a_process_that_is_no_emulator_is_left_alone(make: MakeConfig) -> None:
    # A number that the system gave to another program since: this test's own process.
    config = make()
    config.emulator_state.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = {"host": "127.0.0.1", "port": other.getsockname()[1], "pid": os.getpid()}
        (config.emulator_state / "address.json").write_text(json.dumps(address))
        (config.emulator_state / "token").write_text("x")
        other.close()
        assert emulator.stop(config) is None


@pytest.mark.parametrize("isolated", [False, True])
def test_execute_runs_a_command_word_by_word_and_gives_back_its_exit_code(
    make: MakeConfig, tmp_path: Path, isolated: bool
) -> None:
    config = make()
    emulator.ensure(config)
    script = 'printf "%s|" "$@" "$GOOGLE_CLOUD_PROJECT" > "$0"; exit 7'
    told = tmp_path / "told"
    code = emulator.execute(config, ["sh", "-c", script, str(told), "a b", "$HOME"], isolated=isolated)
    if isolated and not told.exists():
        pytest.skip("this machine does not let bubblewrap make a private network")
    assert code == 7
    assert told.read_text() == f"a b|$HOME|{config.project}|"


def test_execute_gives_a_killed_command_the_exit_code_of_shells(make: MakeConfig) -> None:
    config = make()
    emulator.ensure(config)
    assert emulator.execute(config, ["sh", "-c", "kill -TERM $$"], isolated=False) == 128 + 15


def test_execute_of_nothing_and_of_what_is_not_there_says_so(make: MakeConfig) -> None:
    config = make()
    emulator.ensure(config)
    with pytest.raises(OpsError, match="no command was given"):
        emulator.execute(config, [], isolated=False)
    with pytest.raises(OpsError, match="no-such-program is not installed"):
        emulator.execute(config, ["no-such-program"], isolated=False)


def test_a_reset_comes_back_on_the_same_address(make: MakeConfig) -> None:
    control, _ = emulator.ensure(make())
    control.post("clock", {"advance_seconds": 3600})
    control.post("reset")
    after = emulator.restarted(control)
    assert (after.address, after.pid) == (control.address, control.pid)
    assert after.get("clock")["offset_seconds"] == 0


def test_the_control_api_answers_errors_in_its_own_words(make: MakeConfig) -> None:
    control, _ = emulator.ensure(make())
    with pytest.raises(OpsError, match="the emulator answered 404: There is no snapshot nothing"):
        control.post("snapshots/nothing/restore")


def test_command_passes_what_the_configuration_says(make: MakeConfig) -> None:
    config = make(SELFLOOP_SANDBOX="none")
    words = emulator.command(config)
    assert words[words.index("--sandbox") + 1] == "none"
    assert words[words.index("--egress") + 1] == "package-index"
    closed = config.model_copy(update={"emulator": config.emulator.model_copy(update={"egress": ()})})
    assert "--no-egress" in emulator.command(closed)


def test_command_passes_what_stands_in_for_images(make: MakeConfig) -> None:
    config = make()
    assert "--image-table" not in emulator.command(config)
    table = {"gcr.io/p/trainer": StandIn(environment="sklearn-cpu.1-6", entrypoint=("python3", "-m", "trainer"))}
    other = config.model_copy(update={"emulator": config.emulator.model_copy(update={"image_table": table})})
    words = emulator.command(other)
    passed = json.loads(words[words.index("--image-table") + 1])
    entry = {"environment": "sklearn-cpu.1-6", "entrypoint": ["python3", "-m", "trainer"]}
    assert passed == {"gcr.io/p/trainer": entry}


def test_command_passes_the_folder_of_an_image_as_an_absolute_path(make: MakeConfig) -> None:
    config = make()
    table = {"gcr.io/p/server": StandIn(environment="sklearn-cpu.1-6", folder="containers/server")}
    other = config.model_copy(update={"emulator": config.emulator.model_copy(update={"image_table": table})})
    words = emulator.command(other)
    passed = json.loads(words[words.index("--image-table") + 1])
    assert passed["gcr.io/p/server"]["folder"] == str(ROOT / "containers/server")


def test_coverage_is_told_by_service_and_by_method() -> None:
    levels = {"a.B": {"Get": "behaves", "List": "absent", "Put": "behaves"}}
    assert emulator.coverage_text(levels, by_method=False) == "a.B: 2 behaves, 1 absent"
    assert emulator.coverage_text(levels, by_method=True).splitlines()[1] == "absent   a.B.List"
