"""PythonPackageSpec: what is installed, what is refused, and what the log says."""

from __future__ import annotations

import tarfile
from uuid import uuid4

import pytest

from emulator.core.interfaces import ExitReason, OutputLine, PythonPackage
from emulator.runners import packages
from emulator.settings import SandboxLevel
from tests.emulator.runners.conftest import BUCKET, IMAGE, MakeRuntime, Runtime, source_distribution, tarball


def test_module_of_a_package_runs_with_its_arguments(runtime: Runtime) -> None:
    package = source_distribution("import sys; print('args', sys.argv[1:])")
    job = runtime.run_package(package, args=["--epochs=3", "two words"])
    assert job.result.succeeded, job.text
    assert job.lines[-2].text == "args ['--epochs=3', 'two words']"


def test_log_tells_the_steps_of_the_real_runner(runtime: Runtime) -> None:
    job = runtime.run_package(source_distribution("print('trained')"), args=["--epochs=3"])
    uri = f"gs://{BUCKET}/packages/trainer-0.1.tar.gz"
    steps = [
        "Running run_module.py",
        "Running module trainer.task.",
        f"Downloading the package: {uri}",
        f"Running command: gsutil -q cp {uri} trainer-0.1.tar.gz",
        f"Installing the package: {uri}",
        "Running command: pip3 install --user --upgrade --force-reinstall --no-deps trainer-0.1.tar.gz",
        "Running command: pip3 install --user trainer-0.1.tar.gz",
        "Running command: python3 -m trainer.task --epochs=3",
        "trained",
        "Task completed. Exit code (0). Exit reason (SUCCEEDED)",
    ]
    texts = [line.text for line in job.lines]
    positions = [texts.index(step) for step in steps]
    assert positions == sorted(positions)
    assert any(text.startswith('Running task with arguments: --cluster={"chief": ["cmle-training-') for text in texts)


def test_package_lands_in_the_user_s_folder(runtime: Runtime) -> None:
    job = runtime.run_package(source_distribution("print(__file__)"))
    assert "/root/.local/lib/python3." in job.lines[-2].text


def test_failing_module_fails_the_container_with_its_traceback(runtime: Runtime) -> None:
    job = runtime.run_package(source_distribution("raise ValueError('no data')"))
    assert (job.result.exit_code, job.result.reason) == (1, ExitReason.EXITED)
    assert "ValueError: no data" in job.result.stderr_tail
    assert job.lines[-2].text == "Command '['python3', '-m', 'trainer.task']' returned non-zero exit status 1."
    assert job.lines[-1].text == "Task completed. Exit code (1). Exit reason (SUBPROCESS_EXCEPTION)"


def test_module_that_is_missing_fails_the_container(runtime: Runtime) -> None:
    job = runtime.run_package(source_distribution("pass"), module="trainer.tusk")
    assert job.result.exit_code == 1
    assert "No module named trainer.tusk" in job.result.stderr_tail


def test_setup_that_fails_fails_the_container_with_its_output(runtime: Runtime) -> None:
    job = runtime.run_package(source_distribution("pass", setup="raise SystemExit('no compiler')"))
    assert (job.result.exit_code, job.result.reason) == (1, ExitReason.EXITED)
    assert "no compiler" in job.text
    assert "pip3" in job.lines[-2].text


def test_missing_package_is_a_failed_start(runtime: Runtime) -> None:
    result = runtime.run_package(f"gs://{BUCKET}/none.tar.gz").result
    assert result.reason is ExitReason.START_FAILED
    assert f"gs://{BUCKET}/none.tar.gz could not be downloaded: " in result.message


@pytest.mark.parametrize("name", ["..", "folder/", "nul\0byte.tar.gz"])
def test_package_whose_name_is_none_for_a_file_is_a_failed_start(
    runtime: Runtime, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.objects, "read", lambda uri: iter([b"x"]))
    result = runtime.run_package(f"gs://{BUCKET}/{name}").result
    assert result.reason is ExitReason.START_FAILED
    assert "could not be downloaded" in result.message


def test_second_run_of_a_package_builds_nothing(runtime: Runtime) -> None:
    package = source_distribution(f"print('ran')  # {uuid4()}")
    first = runtime.run_package(package)
    second = runtime.run_package(package)
    assert "Building wheel" in first.text
    assert "Building wheel" not in second.text
    assert second.lines[-2].text == "ran"


def test_several_packages_are_installed_in_order(runtime: Runtime) -> None:
    library = source_distribution("VALUE = 42", name="library")
    trainer = source_distribution("from library.task import VALUE; print(VALUE)", requires=["library"])
    job = runtime.run_package(library, trainer)
    assert job.result.succeeded, job.text
    assert job.lines[-2].text == "42"


def test_requirement_that_the_environment_meets_needs_no_network(runtime: Runtime) -> None:
    package = source_distribution("import pandas; print('ok')", requires=["pandas>=2", "nothing; extra == 'more'"])
    job = runtime.run_package(package)
    assert job.result.succeeded, job.text
    assert "Collecting" not in job.text


def test_missing_requirement_without_egress_names_the_setting(runtime: Runtime) -> None:
    result = runtime.run_package(source_distribution("pass", requires=["cowsay"])).result
    assert result.reason is ExitReason.START_FAILED
    assert result.message == (
        f"trainer needs cowsay, which the environment of {IMAGE} does not have, and emulator.egress in config lets "
        "nothing out: add package-index"
    )


def test_requirement_of_another_version_is_missing(runtime: Runtime) -> None:
    result = runtime.run_package(source_distribution("pass", requires=["pandas<2"])).result
    assert "trainer needs pandas<2, which" in result.message


def test_missing_requirement_is_installed_where_something_is_let_out(
    level: SandboxLevel, make_runtime: MakeRuntime
) -> None:
    runtime = make_runtime(level, egress=("package-index",))
    library = source_distribution("VALUE = 42", name="library")
    runtime.objects.write(f"gs://{BUCKET}/links/library-0.1.tar.gz", [library])
    trainer = source_distribution("from library.task import VALUE; print(VALUE)", requires=["library"])
    runtime.objects.write(f"gs://{BUCKET}/trainer-0.1.tar.gz", [trainer])
    container = runtime.container(
        package=PythonPackage((f"gs://{BUCKET}/trainer-0.1.tar.gz",), "trainer.task"),
        # Stands for the index: what pip is told where to look is its environment's business.
        env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"/gcs/{BUCKET}/links", "PIP_NO_BUILD_ISOLATION": "0"},
    )
    job = runtime.run(container)
    assert job.result.succeeded, job.text
    assert job.lines[-2].text == "42"


def test_pip_install_of_a_package_in_gcs_works_offline_with_build_isolation(runtime: Runtime) -> None:
    """What CustomJob.from_local_script sends for images that it does not know."""
    runtime.objects.write(f"gs://{BUCKET}/staging/trainer-0.1.tar.gz", [source_distribution("print('from script')")])
    command = f"pip3 install -q --user /gcs/{BUCKET}/staging/trainer-0.1.tar.gz && python3 -m trainer.task --epochs=3"
    job = runtime.run(runtime.container("sh", "-c", command, env={"PIP_NO_INDEX": "1"}))
    assert job.result.succeeded, job.text
    assert job.lines[-1].text == "from script"


SETUP = {"trainer-0.1/setup.py": "from setuptools import setup; setup(name='trainer', version='0.1')"}


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"just some bytes", "it is neither a tar nor a zip archive"),
        (b"", "it is neither a tar nor a zip archive"),
        (tarball(SETUP)[:-40], "it cannot be read"),
        (tarball({"trainer-0.1/README": "hello"}), "it has neither setup.py nor pyproject.toml in its first folder"),
        (tarball({**SETUP, "../../evil": "x"}), "its member '../../evil' would be written outside its folder"),
        (tarball({**SETUP, "/etc/evil": "x"}), "its member '/etc/evil' would be written outside its folder"),
        (tarball(SETUP, member("trainer-0.1/link", tarfile.SYMTYPE, "../../etc")), "is a link out of its folder"),
        (tarball(SETUP, member("trainer-0.1/link", tarfile.SYMTYPE, "/etc/passwd")), "is a link out of its folder"),
        (tarball(SETUP, member("trainer-0.1/link", tarfile.LNKTYPE, "../evil")), "is a link out of its folder"),
        (tarball(SETUP, member("trainer-0.1/null", tarfile.CHRTYPE)), "is neither a file nor a folder"),
        (tarball(SETUP, member("trainer-0.1/pipe", tarfile.FIFOTYPE)), "is neither a file nor a folder"),
    ],
)
def test_what_is_no_package_is_a_failed_start(runtime: Runtime, content: bytes, said: str) -> None:
    result = runtime.run_package(content).result
    assert result.reason is ExitReason.START_FAILED
    assert result.message.startswith(f"gs://{BUCKET}/packages/trainer-0.1.tar.gz is no Python package: ")
    assert said in result.message


def test_package_beyond_the_size_limit_is_refused(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_PACKAGE_BYTES", 100)
    result = runtime.run_package(source_distribution("pass")).result
    assert "is no Python package: it is larger than" in result.message


def test_package_cannot_make_the_emulator_read_through_a_link(runtime: Runtime) -> None:
    """A setup.py that puts a link where its wheel is expected gets no file of the machine into the cache."""
    secret = runtime.settings.state / "ca-key.pem"
    secret.write_text("hush")
    setup = (
        "import os, sys\n"
        "from setuptools import setup\n"
        "if 'bdist_wheel' in sys.argv:\n"
        "    folder = os.path.expanduser('~/../opt/packages/0/built')\n"
        "    os.makedirs(folder, exist_ok=True)\n"
        f"    os.symlink({str(secret)!r}, folder + '/evil-1-py3-none-any.whl')\n"
        "setup(name='trainer', version='0.1', packages=['trainer'])\n"
    )
    result = runtime.run_package(source_distribution("print('ran')", setup=setup)).result
    assert result.message.endswith("is no Python package: building it left 2 wheels")
    assert not any(b"hush" in path.read_bytes() for path in runtime.runner.wheels.folder.rglob("*.whl"))


def test_package_with_a_script_is_installed_by_pip(runtime: Runtime) -> None:
    setup = (
        "from setuptools import setup\nsetup(name='trainer', version='0.1', packages=['trainer'], "
        "entry_points={'console_scripts': ['train=trainer.task:main']})\n"
    )
    job = runtime.run_package(
        source_distribution("import shutil\ndef main(): ...\nprint(shutil.which('train'))", setup=setup)
    )
    assert job.result.succeeded, job.text
    assert job.lines[-2].text.endswith("/root/.local/bin/train")
    assert "Processing " in job.text


def test_package_for_another_python_is_refused(runtime: Runtime) -> None:
    setup = (
        "from setuptools import setup\nsetup(name='trainer', version='0.1', packages=['trainer'], "
        "python_requires='<3')\n"
    )
    job = runtime.run_package(source_distribution("pass", setup=setup))
    assert job.result.exit_code == 1
    assert "requires a different Python" in job.text


def test_installed_package_can_be_asked_for_its_version(runtime: Runtime) -> None:
    job = runtime.run_package(source_distribution("from importlib.metadata import version; print(version('trainer'))"))
    assert job.lines[-2].text == "0.1"
    assert "Successfully installed trainer-0.1" in job.text


def test_conflict_is_what_pip_says_of_its_cause() -> None:
    conflict = packages.Conflict()
    printed = ["Collecting a", "", "The conflict is caused by:", "    trainer 0.1 depends on urllib3==1.20"]
    conflict.read([OutputLine(text, is_error=False) for text in printed])
    rest = ["    requests 2.32.3 depends on urllib3>=1.21.1", "", "To fix this you could try to:"]
    conflict.read([OutputLine("ERROR: no", is_error=True), *(OutputLine(text, is_error=False) for text in rest)])
    assert conflict.text == (
        "The conflict is caused by:\n    trainer 0.1 depends on urllib3==1.20\n"
        "    requests 2.32.3 depends on urllib3>=1.21.1"
    )
