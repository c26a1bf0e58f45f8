"""What is wrong with this machine or shell for each client, and how to mend it. One line a finding."""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ops import worlds
from ops.config import ROOT, Config
from ops.control import Control, find_control

Level = Literal["ok", "note", "wrong"]

PYTHONS = ((3, 11), (3, 12))
CA_VARIABLES = {
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "gRPC",
    "REQUESTS_CA_BUNDLE": "requests, gcloud",
    "CURL_CA_BUNDLE": "curl",
    "SSL_CERT_FILE": "httpx, aiohttp, Go",
    "HTTPLIB2_CA_CERTS": "google-api-python-client",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": "gcloud, gsutil, bq",
    "NODE_EXTRA_CA_CERTS": "Node",
    "GIT_SSL_CAINFO": "git",
    "AWS_CA_BUNDLE": "boto3",
    "PIP_CERT": "pip",
}
"""variable -> who reads it"""
PROGRAMS = {
    "gcloud": "HTTPS_PROXY or https_proxy, CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE, CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "gsutil": "https_proxy, and gcloud's variables when it is gcloud's own",
    "bq": "https_proxy, CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE alone of the certificates",
}
DEAF = {
    "java": "ignores proxy variables; JAVA_TOOL_OPTIONS takes -Dhttps.proxyHost, .proxyPort and a trust store",
    "node": "fetch ignores proxy variables; Google's libraries heed HTTPS_PROXY",
}
"""programs that go around the proxy unless they are told otherwise"""
EXPORT = 'eval "$(inv emulator.env)"'
SKEW_SECONDS = 300
"""what Google tolerates between a token's clock and its own"""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:5} {self.subject}: {self.text}"


def examine(config: Config, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Findings about Python, packages, the emulator, the shell's variables, certificates, the clock and programs."""
    yield from _python()
    yield from _packages()
    control = find_control(config.emulator_state)
    health = _health(control)
    yield from _emulator(config, control, health)
    yield from _sandbox(health)
    yield from _proxies(environ, control, config)
    yield from _certificates(environ, config)
    yield from _clock(config)
    yield from _programs()


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in PYTHONS:
        yield Finding("ok", "Python", f"{version} on {platform.system()} {platform.machine()}")
    else:
        yield Finding("wrong", "Python", f"{version}, but 3.11 or 3.12 is needed; run: make setup PYTHON=python3.11")
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield Finding("note", "byte code", "PYTHONDONTWRITEBYTECODE slows every start; unset it")


def _packages() -> Iterator[Finding]:
    """Each dependency of the project against its pin."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = [Requirement(line) for line in _lines(ROOT / "constraints" / "main.txt")]
    pinned = {pin.name.lower(): pin.specifier for pin in pins if pin.marker is None or pin.marker.evaluate()}
    wrong = 0
    requirements = [Requirement(text) for text in project["dependencies"]]
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        wanted = pinned.get(requirement.name.lower(), requirement.specifier)
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong += 1
            yield Finding("wrong", requirement.name, "is not installed; run: make setup")
            continue
        if not wanted.contains(version, prereleases=True):
            wrong += 1
            yield Finding("wrong", requirement.name, f"is {version}, pinned is {wanted}; run: make setup")
    if not wrong:
        yield Finding("ok", "packages", f"all {len(requirements)} dependencies are as pinned, PySocks among them")


def _health(control: Control | None) -> dict[str, Any]:
    if control is None or not control.answers():
        return {}
    answer: dict[str, Any] = control.get("health")
    return answer


def _emulator(config: Config, control: Control | None, health: Mapping[str, Any]) -> Iterator[Finding]:
    if control is not None and health:
        told = f"{control.address} (pid {control.pid}), state in {control.state}"
        yield Finding("ok", "emulator", told)
    elif control is not None:
        yield Finding("wrong", "emulator", f"pid {control.pid} left an address but does not answer; see emulator.log")
    elif config.world == "emulator":
        yield Finding("note", "emulator", f"none runs on {config.emulator_state}; start it with: inv emulator.up")
    if not config.emulator_state.exists() and not os.access(_existing(config.emulator_state), os.W_OK):
        told = f"{config.emulator_state} cannot be written; set SELFLOOP_STATE to another folder"
        yield Finding("wrong", "state", told)


def _sandbox(health: Mapping[str, Any]) -> Iterator[Finding]:
    level, why = health.get("sandbox"), health.get("sandbox_reason")
    if level:
        text = f"level {level}" + (f", because {why}" if why else "")
        yield Finding("ok" if level == "full" else "note", "sandbox", text)
    elif not shutil.which("bwrap"):
        text = "bubblewrap (bwrap) is not installed: jobs run at level none, and --isolated does not work"
        yield Finding("note", "sandbox", text)


def _proxies(environ: Mapping[str, str], control: Control | None, config: Config) -> Iterator[Finding]:
    """Whether this shell leads every client to one place: the emulator, or Google."""
    both = (("https_proxy", "HTTPS_PROXY"), ("http_proxy", "HTTP_PROXY"), ("no_proxy", "NO_PROXY"))
    for lower, upper in both:
        if environ.get(lower, "") != environ.get(upper, ""):
            yield Finding(
                "wrong", lower, f"differs from {upper}, and clients disagree which to read (gRPC: lower case); {EXPORT}"
            )
    leading = worlds.emulator_variables(environ)
    if not leading:
        where = f"this shell leads to Google itself; for the emulator: {EXPORT}"
        yield Finding("note" if config.world == "emulator" else "ok", "shell", where)
        return
    if config.world == "google":
        told = (
            f"{leading[0]} leads to an emulator while config/{config.environment}.yaml names Google; open a fresh shell"
        )
        yield Finding("wrong", "shell", told)
    for name in (name for name in leading if name.lower().endswith("proxy")):
        target = urlsplit(environ[name])
        if control is None or target.port != control.port:
            yield Finding("wrong", name, f"leads to {environ[name]}, where this emulator is not; {EXPORT}")
            break
    else:
        yield Finding("ok", "shell", "leads to the emulator")
    for name in ("no_proxy", "NO_PROXY"):
        if "127.0.0.1" not in environ.get(name, ""):
            yield Finding("wrong", name, f"does not hold 127.0.0.1: servers of your own become unreachable; {EXPORT}")
        if "googleapis.com" in environ.get(name, ""):
            yield Finding("wrong", name, f"lets googleapis.com past the emulator; {EXPORT}")
    for name in worlds.DIRECT_HOSTS:
        if environ.get(name):
            yield Finding("note", name, "is set: its client goes there and not through the proxy")


def _certificates(environ: Mapping[str, str], config: Config) -> Iterator[Finding]:
    """Each bundle can be read and, when the shell leads to the emulator, holds its authority."""
    authority = config.emulator_state / "ca" / "ca.pem"
    ours = ssl.PEM_cert_to_DER_cert(authority.read_text("ascii")) if authority.exists() else None
    emulated = bool(worlds.emulator_variables(environ))
    good = 0
    for name, readers in CA_VARIABLES.items():
        path = environ.get(name)
        if not path:
            if emulated:
                yield Finding("wrong", name, f"is not set, so {readers} do not trust the emulator; {EXPORT}")
            continue
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(path)
        except ssl.SSLError:
            yield Finding("wrong", name, f"{path} is no bundle of certificates ({readers}); unset it, or {EXPORT}")
            continue
        except OSError as error:
            yield Finding("wrong", name, f"{path}: {error.strerror} ({readers}); unset it, or {EXPORT}")
            continue
        if emulated and ours is not None and ours not in context.get_ca_certs(binary_form=True):
            yield Finding("wrong", name, f"{path} lacks this emulator's authority ({readers}); {EXPORT}")
            continue
        good += 1
    if good:
        yield Finding("ok", "certificates", f"{good} variables name a bundle that can be read")


def _clock(config: Config) -> Iterator[Finding]:
    """The machine's clock against the authority's own dates: tokens and certificates go by it."""
    from cryptography import x509

    file = config.emulator_state / "ca" / "ca.pem"
    if not file.exists():
        return
    authority = x509.load_pem_x509_certificate(file.read_bytes())
    now = datetime.now(UTC)
    if (authority.not_valid_before_utc - now).total_seconds() > SKEW_SECONDS:
        told = f"{now:%Y-%m-%d %H:%M} UTC, before the emulator's authority was made; set the machine's clock"
        yield Finding("wrong", "clock", told)
    elif now > authority.not_valid_after_utc:
        told = f"{now:%Y-%m-%d %H:%M} UTC, after the emulator's authority expired; run: inv emulator.reset"
        yield Finding("wrong", "clock", told)
    else:
        yield Finding("ok", "clock", f"{now:%Y-%m-%d %H:%M} UTC")


def _programs() -> Iterator[Finding]:
    for program, reads in PROGRAMS.items():
        path = shutil.which(program)
        if path:
            yield Finding("ok", program, f"{path}; reads {reads}")
        else:
            yield Finding("note", program, "is not installed; only the commands that use it need it")
    for program, told in DEAF.items():
        if shutil.which(program):
            yield Finding("note", program, told)


def _lines(path: Path) -> list[str]:
    text = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in text if line]


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
