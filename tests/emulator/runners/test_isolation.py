"""What code in a sandbox of level full cannot see or reach, and that nothing outlives the emulator at any level."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from uuid import uuid4

import pytest

from emulator.core.interfaces import ExitReason
from emulator.runners import bubblewrap
from emulator.runners.sandbox import Description, Sandboxes, StartFailed, choose_level
from emulator.settings import SandboxLevel
from tests.conftest import ROOT, wait_until
from tests.emulator.runners.conftest import IMAGE, MakeRuntime, Runtime, processes_with


@pytest.fixture
def full(make_runtime: MakeRuntime) -> Runtime:
    return make_runtime("full")


def test_home_and_state_of_the_machine_are_not_there(full: Runtime) -> None:
    (full.settings.state / "ca.key").write_text("hush")
    other = full.settings.jobs / "other-job"
    other.mkdir()
    (other / "secret").write_text("hush")
    paths = [
        "~/.ssh", "~/.bashrc", "~/.config", str(full.settings.state / "ca.key"), str(other / "secret"),
        str(Path.home() / ".bashrc"), str(ROOT / "pyproject.toml"), "/etc/shadow", "/etc/pip.conf", "/sys/kernel",
    ]  # fmt: skip
    source = "import os, sys; print([p for p in sys.argv[1:] if os.path.exists(os.path.expanduser(p))])"
    assert full.python(source, *paths).lines[-1].text == "[]"


def test_processors_can_be_counted_and_nothing_else_of_the_machine(full: Runtime) -> None:
    source = (
        "import os, warnings; warnings.simplefilter('error'); import joblib\n"
        "print(joblib.cpu_count(only_physical_cores=True), os.listdir('/sys'), os.listdir('/sys/devices/system'))"
    )
    counted, folders = full.python(source).lines[-1].text.split(" ", 1)
    assert 1 <= int(counted) <= (os.cpu_count() or 1)
    assert folders == "['devices'] ['cpu']"


def test_other_processes_are_not_there(full: Runtime) -> None:
    source = (
        "import os\n"
        "pids = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "print(sorted(os.readlink(f'/proc/{p}/exe').rpartition('/')[2] for p in pids if p != '1'), len(pids))"
    )
    executables, count = full.python(source).lines[-1].text.rsplit(" ", 1)
    assert int(count) == 2
    assert "python3" in executables
    assert not full.python(f"import os; os.kill({os.getpid()}, 0)").result.succeeded


def test_environment_of_the_first_process_holds_nothing(full: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_EMULATOR", "hush")
    job = full.run(full.container("sh", "-c", "cat /proc/*/environ; cat /proc/*/cmdline"))
    assert "hush" not in job.text


def test_no_capability_is_left(full: Runtime) -> None:
    job = full.run(full.container("grep", "Cap", "/proc/self/status"))
    sets = [line.text.split()[1] for line in job.lines if line.text.startswith("Cap")]
    assert sets == ["0" * 16] * 5


@pytest.mark.parametrize("path", ["/usr/evil", "/dev/evil", "{environment}/evil", "/run/selfloop/ca.pem"])
def test_what_is_shared_cannot_be_written(full: Runtime, path: str) -> None:
    path = path.format(environment=full.runner.environments.of_image(IMAGE).root)
    job = full.python(f"open({path!r}, 'w')")
    assert "Read-only file system" in job.result.stderr_tail
    assert full.network.ca_bundle.read_text() == "the emulator's certificate\n"


def test_machine_s_settings_cannot_be_written(full: Runtime) -> None:
    """As root the sandbox is the same root to the kernel, which lets it write to /proc/sys without a capability."""
    source = (
        "import os\n"
        "def writable(path):\n"
        "    try: os.close(os.open(path, os.O_WRONLY)); return True\n"
        "    except OSError: return False\n"
        "for folder, _, names in os.walk('/proc/sys'):\n"
        "    for name in names:\n"
        "        if writable(os.path.join(folder, name)): print('writable', folder, name)\n"
        "for name in ('/proc/sysrq-trigger', '/proc/kcore', '/proc/self/oom_score_adj'):\n"
        "    if writable(name): print('writable', name)"
    )
    job = full.python(source)
    assert job.result.succeeded
    assert "writable" not in job.text


def test_no_namespace_can_be_made_inside(full: Runtime) -> None:
    if not bubblewrap._nesting():
        pytest.skip("this bubblewrap cannot keep programs from it")
    source = (
        "import ctypes, os\n"
        "CLONE_NEWUSER = 0x10000000\n"
        "print(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER), ctypes.get_errno() != 0)"
    )
    assert full.python(source).lines[-1].text == "-1 True"


def test_connection_past_the_proxy_is_refused(full: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = (
            "import socket\n"
            f"for target in (('127.0.0.1', {port}), ('192.0.2.1', 443), ('storage.googleapis.com', 443)):\n"
            "    try: socket.create_connection(target, timeout=5); print('connected')\n"
            "    except OSError as error: print('refused')"
        )
        texts = [line.text for line in full.python(source).lines[-3:]]
    assert texts == ["refused"] * 3


def test_emulator_is_reached_and_knows_who_is_calling(full: Runtime) -> None:
    source = f"import socket; print(socket.create_connection(('127.0.0.1', {full.network.port})).recv(99).decode())"
    assert full.python(source).lines[-1].text == "customJobs/1/workerpool0-0"


def test_sandbox_without_caller_has_no_way_out(full: Runtime) -> None:
    with_sandbox = full.runner.sandboxes.open(Description("server", full.runner.environments.of_image(IMAGE)))
    source = f"import socket; socket.create_connection(('127.0.0.1', {full.network.port}), timeout=5)"
    ending = with_sandbox.start(["python3", "-c", source]).follow(lambda _: None)
    assert "ConnectionRefusedError" in ending.stderr_tail
    with_sandbox.close()


def test_program_is_root_in_a_place_like_the_image_s(full: Runtime) -> None:
    container = full.container(
        "sh", "-c", "id -u; pwd; echo ~; hostname; cat /etc/hostname", env={"HOSTNAME": "cmle-0"}
    )
    texts = [line.text for line in full.run(container).lines[-5:]]
    assert texts == ["0", "/", "/root", "cmle-0", "cmle-0"]


def test_mounts_are_seen_and_written(full: Runtime, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "in").write_text("given")
    job = full.run(full.container("sh", "-c", "cat /workspace/in > /workspace/out", mounts={"/workspace": workspace}))
    assert job.result.succeeded, job.text
    assert (workspace / "out").read_text() == "given"


def test_link_in_the_way_of_a_mount_is_refused(full: Runtime, tmp_path: Path) -> None:
    """Else bubblewrap would follow it and make folders on the machine."""
    outside = tmp_path / "outside"
    outside.mkdir()
    given = tmp_path / "given"
    given.mkdir()
    opened = full.runner.sandboxes.open(Description("two steps", writable={"/a/b/c": given}))
    command = f"mv /a /gone && ln -s /oldroot{outside} /a"
    assert opened.start(["sh", "-c", command]).follow(lambda _: None).code == 0
    with pytest.raises(StartFailed, match="put a link at /a/b/c"):
        opened.start(["true"])
    assert list(outside.iterdir()) == []
    opened.close()


def test_link_in_shared_memory_s_place_leads_nowhere(full: Runtime, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    opened = full.runner.sandboxes.open(Description("two steps"))
    command = f"mv /dev-shm /gone; ln -s {tmp_path} /dev-shm; ln -s {tmp_path} /shm; true"
    assert opened.start(["sh", "-c", command]).follow(lambda _: None).code == 0
    names: list[str] = []
    opened.start(["ls", "/dev/shm"]).follow(lambda lines: names.extend(line.text for line in lines))
    assert names == []
    opened.close()


def test_read_of_a_sandbox_s_file_follows_no_link(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    opened = runtime.runner.sandboxes.open(Description("reader"))
    folder = opened.seen("/opt")
    command = f"cd {folder}; echo fine > file; ln -s {tmp_path}/secret link; ln -s {tmp_path} way; mkfifo pipe"
    assert opened.start(["sh", "-c", command]).follow(lambda _: None).code == 0
    assert opened.read("/opt/file", 100) == b"fine\n"
    for path in ("/opt/link", "/opt/way/secret", "/opt/pipe", "/opt", "/opt/none"):
        with pytest.raises(OSError):  # noqa: PT011  # each has its own
            opened.read(path, 100)
    with pytest.raises(OSError, match="at most 3 bytes"):
        opened.read("/opt/file", 3)
    opened.close()


def test_level_none_is_announced_first(make_runtime: MakeRuntime) -> None:
    job = make_runtime("none").python("pass")
    assert job.lines[0].text.startswith("Sandbox level none (it was asked for): this process sees the machine's files")


def test_level_none_refuses_mounts_by_name(make_runtime: MakeRuntime, tmp_path: Path) -> None:
    runtime = make_runtime("none")
    result = runtime.run(runtime.container("true", mounts={"/workspace": tmp_path})).result
    assert result.reason is ExitReason.START_FAILED
    assert "/workspace" in result.message


def test_level_full_that_cannot_be_had_is_refused_and_else_none_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "why_unavailable", lambda: "no bwrap here")
    with pytest.raises(StartFailed, match="sandbox level full is not available: no bwrap here"):
        choose_level("full")
    assert choose_level(None) == ("none", "no bwrap here")


EMULATOR = """
import sys, threading, time
from pathlib import Path
from emulator.runners.environments import own
from emulator.runners.sandbox import Description, Sandboxes
from emulator.settings import Settings
from tests.emulator.runners.conftest import EchoNetwork
state, level, mark, program = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
sandboxes = Sandboxes(Settings(state=state, sandbox=level), state, EchoNetwork(state))
process = sandboxes.open(Description("job", own())).start(["python3", "-c", program, mark])
process.follow(lambda lines: [print(line.text, flush=True) for line in lines] and None)
"""


def test_nothing_outlives_a_killed_emulator(level: SandboxLevel, make_runtime: MakeRuntime, tmp_path: Path) -> None:
    make_runtime(level)  # skips where the level cannot be had
    mark = f"mark-{uuid4()}"
    program = textwrap.dedent(
        """
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0: time.sleep(600)
            os._exit(0)
        os.wait()
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    state = tmp_path / "state"
    state.mkdir()
    command = [sys.executable, "-c", EMULATOR, str(state), level, mark, program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout is not None
        assert emulator.stdout.readline() == "ready\n"
        assert len(processes_with(mark)) >= 3
        emulator.send_signal(signal.SIGKILL)
    wait_until(lambda: processes_with(mark) == [], 10)


def test_start_removes_what_a_killed_emulator_left(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level)
    left = runtime.settings.jobs / "left" / "root"
    left.mkdir(parents=True)
    left.chmod(0)
    Sandboxes(runtime.settings, runtime.objects.tree, runtime.network).close()
    assert list(runtime.settings.jobs.iterdir()) == []
