"""Containers as processes: how they end, what they print, what limits them, at both levels."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from uuid import uuid4

import pytest

from emulator.core.interfaces import ExitReason, OutputLine
from emulator.runners import limits as limits_module
from emulator.runners import sandbox_process
from emulator.runners.limits import Limits, process_tree
from emulator.settings import SandboxLevel
from tests.conftest import wait_until
from tests.emulator.runners.conftest import BUCKET, IMAGE, MIB, MakeRuntime, Runtime, processes_with, tarball


def test_container_that_exits_with_0_succeeds(runtime: Runtime) -> None:
    job = runtime.run(runtime.container("sh", "-c", "echo hello; echo trouble >&2"))
    assert job.result.succeeded
    assert OutputLine("hello", is_error=False) in job.lines
    assert OutputLine("trouble", is_error=True) in job.lines
    assert job.result.stderr_tail == "trouble"


def test_exit_status_of_the_program_is_the_container_s(runtime: Runtime) -> None:
    result = runtime.python("import sys; sys.exit(137)").result
    assert (result.exit_code, result.reason) == (137, ExitReason.EXITED)


def test_death_by_signal_is_128_and_its_number(runtime: Runtime) -> None:
    result = runtime.python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").result
    assert (result.exit_code, result.reason) == (137, ExitReason.EXITED)


def test_sandbox_that_is_killed_from_outside_is_lost(runtime: Runtime) -> None:
    mark = f"mark-{uuid4()}"
    handle = runtime.runner.start(runtime.container("python3", "-c", "import time; time.sleep(600)", mark), print)
    (pid,) = wait_until(lambda: processes_with(f"{mark}\0"))
    parents = {child: parent for parent, children in process_tree().items() for child in children}
    while parents[pid] != os.getpid():
        pid = parents[pid]
    os.kill(pid, signal.SIGKILL)
    result = handle.wait()
    assert (result.exit_code, result.reason) == (137, ExitReason.LOST)
    wait_until(lambda: not processes_with(f"{mark}\0"))


def test_unknown_command_is_a_failed_start(runtime: Runtime) -> None:
    result = runtime.run(runtime.container("no-such-program")).result
    assert (result.exit_code, result.reason) == (128, ExitReason.START_FAILED)
    assert result.message == "no-such-program: No such file or directory"


def test_container_without_command_is_a_failed_start(runtime: Runtime) -> None:
    result = runtime.run(runtime.container(args=("--epochs=3",))).result
    assert result.reason is ExitReason.START_FAILED
    assert "no command" in result.message


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("gcr.io/my-project/trainer:1", "Only Docker could run it"),
        ("us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-99:latest", "There is one for scikit-learn-cpu.0-23, sklearn"),
    ],
)
def test_image_without_environment_is_a_failed_start(runtime: Runtime, image: str, said: str) -> None:
    job = runtime.run(runtime.container("true", image=image))
    assert job.result.reason is ExitReason.START_FAILED
    assert said in job.result.message
    assert runtime.runner.check_image(image) == job.result.message


def test_check_image_of_a_prebuilt_one_is_none(runtime: Runtime) -> None:
    assert runtime.runner.check_image(IMAGE) is None


def test_log_names_the_environment_and_in_what_it_differs(runtime: Runtime) -> None:
    text = runtime.python("pass").text
    assert f"{IMAGE} runs as a local process with Python" in text
    assert "scikit-learn 1.6.1" in text


def test_program_sees_the_libraries_of_the_image(runtime: Runtime) -> None:
    job = runtime.python("import sklearn, numpy, pandas; print(sklearn.__version__, numpy.__version__)")
    assert job.lines[-1].text == "1.6.1 1.26.4"


def test_program_gets_the_container_s_variables_and_none_of_the_emulator_s(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_EMULATOR", "hush")
    job = runtime.python(
        "import json, os; print(json.dumps(dict(os.environ)))", env={"AIP_MODEL_DIR": "x y\nz", "PATH_TO": "ü"}
    )
    variables = json.loads(job.lines[-1].text)
    assert variables["AIP_MODEL_DIR"] == "x y\nz"
    assert variables["PATH_TO"] == "ü"
    assert variables["PYTHONUNBUFFERED"] == "1"
    assert "SECRET_OF_THE_EMULATOR" not in variables
    assert "PYTHONDONTWRITEBYTECODE" not in variables


def test_what_the_object_store_says_of_a_run_is_in_its_log(runtime: Runtime) -> None:
    runtime.objects.words.append("/gcs/bucket/object was put back.")
    job = runtime.python("print('done')")
    assert [line.text for line in job.lines[-2:]] == ["done", "/gcs/bucket/object was put back."]


def test_network_variables_win_over_the_container_s(runtime: Runtime) -> None:
    job = runtime.python("import os; print(os.environ['HTTPS_PROXY'])", env={"HTTPS_PROXY": "http://elsewhere:1"})
    assert job.lines[-1].text == f"http://127.0.0.1:{runtime.network.port}"


def test_lines_of_a_stream_keep_their_order(runtime: Runtime) -> None:
    job = runtime.python("for i in range(20000): print(i)")
    numbers = [int(line.text) for line in job.lines if line.text.isdigit()]
    assert numbers == list(range(20000))


@pytest.mark.parametrize("size", [10 * MIB, pytest.param(100 * MIB, marks=pytest.mark.long)])
def test_large_output_arrives_whole_in_flat_memory(runtime: Runtime, size: int) -> None:
    received = 0
    most = 0

    def count(lines: Sequence[OutputLine]) -> None:
        nonlocal received, most
        texts = [line.text for line in lines]
        received += sum(len(text) + 1 for text in texts if text[:1] == "x")
        most = max(most, len(texts))

    source = f"import sys\nfor _ in range({size // 128}): sys.stdout.write('x' * 127 + '\\n')"
    container = runtime.container("python3", "-c", source, env={"PYTHONUNBUFFERED": ""})
    assert runtime.runner.start(container, count).wait().succeeded
    assert received == size
    assert most <= 2 * MIB // 128


def test_slow_consumer_slows_the_program_down(runtime: Runtime) -> None:
    gate = threading.Event()
    done = runtime.objects.tree / BUCKET / "done"
    source = f"print('x' * {8 * MIB}); open('/gcs/{BUCKET}/done', 'w').close()"
    waiting = threading.Event()

    def consume(lines: Sequence[OutputLine]) -> None:
        if lines[0].text[:1] == "x":
            waiting.set()
            assert gate.wait(30)

    handle = runtime.runner.start(runtime.container("python3", "-c", source), consume)
    assert waiting.wait(30)
    assert not done.exists()
    gate.set()
    assert handle.wait().succeeded
    assert done.exists()


def test_line_without_end_comes_in_pieces(runtime: Runtime) -> None:
    job = runtime.python(f"print('é' * {MIB}, end='')")
    pieces = [line.text for line in job.lines if line.text.startswith("é")]
    assert "".join(pieces) == "é" * MIB
    assert max(len(piece.encode()) for piece in pieces) <= 256 << 10


def test_stderr_tail_is_the_last_4_kib(runtime: Runtime) -> None:
    result = runtime.python("import sys\nfor i in range(2000): print('line', i, file=sys.stderr)\nsys.exit(1)").result
    assert result.stderr_tail.endswith("line 1999")
    assert 3000 < len(result.stderr_tail) <= 4096


def test_consumer_that_raises_ends_the_container(runtime: Runtime) -> None:
    mark = f"mark-{uuid4()}"

    def fail(lines: Sequence[OutputLine]) -> None:
        if any(line.text == "go" for line in lines):
            raise ValueError("no room")

    source = "import time; print('go'); time.sleep(600)"
    container = runtime.container("python3", "-c", source, mark)
    result = runtime.runner.start(container, fail).wait()
    assert "no room" in result.message
    assert processes_with(mark) == []


def test_program_that_closes_its_output_runs_on(runtime: Runtime) -> None:
    job = runtime.run(runtime.container("sh", "-c", "exec >/dev/null 2>&1; sleep 1; exit 3"))
    assert (job.result.exit_code, job.result.reason) == (3, ExitReason.EXITED)


CHILDREN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]])
    os._exit(0)
os.wait()
print("ready", flush=True)
"""


def test_children_do_not_outlive_the_program(runtime: Runtime) -> None:
    mark = f"mark-{uuid4()}"
    job = runtime.python(CHILDREN, mark)
    assert job.result.succeeded
    assert job.lines[-1].text == "ready"
    assert processes_with(mark) == []


def test_cancel_ends_a_tree_that_ignores_sigterm(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_process, "GRACE_SECONDS", 0.5)
    mark = f"mark-{uuid4()}"
    ready = threading.Event()
    container = runtime.container("python3", "-c", CHILDREN + "time.sleep(600)", mark)

    def look(lines: Sequence[OutputLine]) -> None:
        if any(line.text == "ready" for line in lines):
            ready.set()

    handle = runtime.runner.start(container, look)
    assert ready.wait(30)
    started = time.monotonic()
    handle.cancel()
    handle.cancel()
    result = handle.wait()
    assert (result.exit_code, result.reason) == (137, ExitReason.CANCELLED)
    assert time.monotonic() - started < 10
    assert processes_with(mark) == []


def test_cancel_lets_the_program_clean_up(runtime: Runtime) -> None:
    source = (
        "import signal, sys, time\n"
        "def end(*_): print('cleaned'); sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\ntime.sleep(600)"
    )
    lines: list[OutputLine] = []
    handle = runtime.runner.start(runtime.container("python3", "-c", source), lines.extend)
    wait_until(lambda: any(line.text == "ready" for line in lines))
    handle.cancel()
    result = handle.wait()
    assert (result.exit_code, result.reason) == (3, ExitReason.CANCELLED)
    assert lines[-1].text == "cleaned"


def test_cancel_reaches_the_program_behind_a_shell(runtime: Runtime) -> None:
    lines: list[OutputLine] = []
    command = ("sh", "-c", "echo ready; sleep 600; echo late")
    handle = runtime.runner.start(runtime.container(*command), lines.extend)
    wait_until(lambda: any(line.text == "ready" for line in lines))
    started = time.monotonic()
    handle.cancel()
    assert handle.wait().exit_code == 143
    assert time.monotonic() - started < 5


def test_cancel_before_the_program_runs_is_heeded(runtime: Runtime) -> None:
    handle = runtime.runner.start(runtime.container("sleep", "600"), lambda _: None)
    handle.cancel()
    assert handle.wait().reason is ExitReason.CANCELLED


def test_timeout_ends_the_container(runtime: Runtime) -> None:
    job = runtime.python("import time; print('started', flush=True); time.sleep(600)", timeout_seconds=2.0)
    assert job.result.reason is ExitReason.TIMED_OUT
    assert job.lines[-1].text == "started"


def test_disk_quota_ends_the_container(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level, Limits(disk_bytes=30 * MIB))
    source = (
        "import os, time\n"
        "for i in range(1000):\n"
        "    open(os.path.expanduser(f'~/{i}'), 'wb').write(b'x' * 2**20)\n"
        "    time.sleep(0.02)"
    )
    job = runtime.python(source)
    assert job.result.reason is ExitReason.DISK_QUOTA
    assert "30 MiB" in job.result.message


def test_single_file_beyond_the_quota_is_refused_by_the_system(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level, Limits(disk_bytes=10 * MIB))
    job = runtime.run(runtime.container("sh", "-c", "head -c 50M /dev/zero > $HOME/big; exit 1"))
    assert job.result.reason is ExitReason.DISK_QUOTA


def test_objects_do_not_count_as_scratch(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level, Limits(disk_bytes=10 * MIB))
    source = (
        "import sys, time\n"
        "for i in range(4):\n"
        "    with open(f'/gcs/{sys.argv[1]}/{i}', 'wb') as file: file.write(b'x' * 5 * 2**20)\n"
        "time.sleep(1.5)"
    )
    assert runtime.python(source, BUCKET).result.succeeded


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="memory is watched through /proc")
def test_memory_of_the_whole_tree_is_limited(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level, Limits(memory_bytes=150 * MIB))
    source = (
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0: hold = bytearray(os.urandom(1024)) * 60 * 1024; time.sleep(600)\n"
        "time.sleep(600)"
    )
    result = runtime.python(source, timeout_seconds=60.0).result
    assert result.reason is ExitReason.OUT_OF_MEMORY
    assert "150 MiB" in result.message


def test_shared_pages_of_forked_children_count_once(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level, Limits(memory_bytes=150 * MIB))
    source = (
        "import os, time\nhold = bytearray(os.urandom(1024)) * 60 * 1024\n"
        "for _ in range(4):\n    if os.fork() == 0: time.sleep(2.5); os._exit(0)\n"
        "for _ in range(4): os.wait()"
    )
    assert runtime.python(source).result.succeeded


def test_written_objects_are_published_at_the_end(runtime: Runtime) -> None:
    job = runtime.python(f"import os; os.makedirs('/gcs/{BUCKET}/a'); open('/gcs/{BUCKET}/a/b', 'w').write('c')")
    assert job.result.succeeded, job.text
    assert (runtime.objects.tree / BUCKET / "a" / "b").read_text() == "c"
    assert runtime.objects.published == 1


def test_program_that_kills_its_supervisor_is_ended(make_runtime: MakeRuntime) -> None:
    mark = f"mark-{uuid4()}"
    runtime = make_runtime("none")
    runtime.python("import os, time; os.kill(os.getppid(), 9); time.sleep(600)", mark)
    assert processes_with(mark) == []


def test_store_that_cannot_publish_leaves_nothing_behind(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[str]:
        raise OSError("the disk is full")

    monkeypatch.setattr(runtime.objects, "end_job", fail)
    result = runtime.python("pass").result
    assert "the disk is full" in result.message
    assert list(runtime.settings.jobs.iterdir()) == []


def test_scratch_is_gone_afterwards(runtime: Runtime) -> None:
    source = "import os; d = os.path.expanduser('~/a/b'); os.makedirs(d); open(d + '/c', 'w'); os.chmod(d, 0)"
    assert runtime.python(source).result.succeeded
    assert list(runtime.settings.jobs.iterdir()) == []


def test_close_ends_what_runs(runtime: Runtime) -> None:
    mark = f"mark-{uuid4()}"
    lines: list[OutputLine] = []
    source = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(600)"
    handle = runtime.runner.start(runtime.container("python3", "-c", source, mark), lines.extend)
    wait_until(lambda: any(line.text == "ready" for line in lines))
    started = time.monotonic()
    runtime.runner.close()
    assert time.monotonic() - started < limits_module.GRACE_SECONDS / 2
    assert handle.wait().reason is ExitReason.CANCELLED
    assert processes_with(mark) == []


def test_packages_that_a_program_installs_win_and_stay_in_its_sandbox(runtime: Runtime) -> None:
    command = (
        f"pip install -q --no-index --user /gcs/{BUCKET}/joblib-9.tar.gz && "
        "python3 -c 'import joblib; print(joblib.__file__, joblib.MARK)'"
    )
    setup = "from setuptools import setup; setup(name='joblib', version='9', packages=['joblib'])"
    package = tarball({"joblib-9/setup.py": setup, "joblib-9/joblib/__init__.py": "MARK = 9"})
    runtime.objects.write(f"gs://{BUCKET}/joblib-9.tar.gz", [package])
    job = runtime.run(runtime.container("sh", "-c", command))
    assert job.result.succeeded, job.text
    path, mark = job.lines[-1].text.split()
    assert "/root/.local/lib/python3" in path
    assert mark == "9"
    assert runtime.python("import joblib; print(joblib.__version__)").lines[-1].text != "9"
