"""What the doctor finds in a shell, and how it says to mend it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ops import doctor, worlds
from ops.config import Config, load_config
from ops.control import Control
from ops.doctor import Finding, examine

ADDRESS = "http://127.0.0.1:4321"


def days(count: int) -> datetime:
    """That many days from now."""
    return datetime.now(UTC) + timedelta(days=count)


def write_authority(file: Path) -> Path:
    """A certificate authority of its own, valid from yesterday to tomorrow."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(days(-1))
        .not_valid_after(days(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the certificate authority of an emulator."""
    write_authority(tmp_path / "ca" / "ca.pem")
    return tmp_path


@pytest.fixture
def config(state: Path) -> Config:
    return load_config("local", environ={"SELFLOOP_STATE": str(state)})


@pytest.fixture
def exported(state: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A shell that took the exports of a running emulator."""
    control = Control(state, "127.0.0.1", 4321, 1, 0.0)
    monkeypatch.setattr(doctor, "find_control", lambda _: control)
    monkeypatch.setattr(doctor, "_health", lambda _: {"sandbox": "none", "sandbox_reason": "bwrap is not installed"})
    bundle = str(state / "ca" / "ca.pem")
    proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "grpc_proxy"), ADDRESS)
    bypass = dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1,::1")
    return {**proxies, **bypass, **dict.fromkeys(doctor.CA_VARIABLES, bundle), worlds.MARKER: ""}


def wrong(config: Config, environ: dict[str, str]) -> list[Finding]:
    return [finding for finding in examine(config, environ) if finding.level == "wrong"]


def test_examine_of_a_shell_with_all_exports_finds_nothing_wrong(config: Config, exported: dict[str, str]) -> None:
    assert wrong(config, exported) == []


def test_examine_tells_the_sandbox_level_and_why(config: Config, exported: dict[str, str]) -> None:
    assert Finding("note", "sandbox", "level none, because bwrap is not installed") in examine(config, exported)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("https_proxy", "http://127.0.0.1:9", "leads to http://127.0.0.1:9, where this emulator is not"),
        ("HTTPS_PROXY", "", "clients disagree which to read"),
        ("no_proxy", "", "servers of your own become unreachable"),
        ("NO_PROXY", "127.0.0.1,.googleapis.com", "lets googleapis.com past the emulator"),
        ("REQUESTS_CA_BUNDLE", "", "requests, gcloud do not trust the emulator"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "No such file"),
        ("CURL_CA_BUNDLE", __file__, "is no bundle of certificates"),
        ("GIT_SSL_CAINFO", "OTHER", "lacks this emulator's authority (git)"),
    ],
)
def test_examine_finds_one_wrong_variable_and_says_how_to_mend_it(
    config: Config, exported: dict[str, str], *, variable: str, value: str, told: str
) -> None:
    if value == "OTHER":
        value = str(write_authority(config.emulator_state / "other.pem"))
    exported[variable] = value
    found = wrong(config, exported)
    assert any(told in finding.text for finding in found), found
    assert all("emulator.env" in finding.text for finding in found)


def test_examine_of_a_real_project_in_an_emulators_shell_is_wrong(state: Path, exported: dict[str, str]) -> None:
    dev = load_config("dev", environ={"SELFLOOP_STATE": str(state)})
    assert any("open a fresh shell" in finding.text for finding in wrong(dev, exported))


def test_examine_without_an_emulator_says_how_to_start_one(tmp_path: Path) -> None:
    config = load_config("local", environ={"SELFLOOP_STATE": str(tmp_path / "none")})
    assert any("inv emulator.up" in finding.text for finding in examine(config, {}))


def test_examine_of_a_clock_before_the_authority_is_wrong(
    config: Config, exported: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    early = days(-2)

    class EarlyClock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # called in one way only
            return early

    monkeypatch.setattr(doctor, "datetime", EarlyClock)
    assert any("set the machine's clock" in finding.text for finding in wrong(config, exported))
