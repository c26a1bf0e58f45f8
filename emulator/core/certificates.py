"""The emulator's certificate authority: it can vouch for Google's names and for nothing else.

It is made once per installation, never joins the system's trust, and is name-constrained: even somebody who
stole its key could not use it for another site. Leaves are made anew at each start. A leaf for gRPC carries DNS
names only, because gRPC rejects an IP name under such a constraint; HTTPS to 127.0.0.1 has one of its own.
Source: RFC 5280, 4.2.1.10.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from emulator.core.files import write_private, write_public

#: Every emulated host lies below one of these.
DOMAINS = (
    "googleapis.com", "google.com", "google.internal", "googleusercontent.com", "vertexai.goog", "pkg.dev", "gcr.io",
    "run.app", "cloudfunctions.net", "localhost",
)  # fmt: skip
#: What gRPC channels are opened to. A wildcard covers one label.
_GRPC_NAMES = ("googleapis.com", "*.googleapis.com", "*.rep.googleapis.com", "*.mtls.googleapis.com", "localhost")
_LIFETIME = timedelta(days=825)


def is_ours(host: str) -> bool:
    """Whether the emulator answers for a host, emulated or not: Google's names never leave the machine."""
    name = host.lower().rstrip(".")
    return any(name == domain or name.endswith(f".{domain}") for domain in DOMAINS)


class CertificateAuthority:
    """Signs leaves for Google's names; its key stays in its folder, mode 0600."""

    def __init__(self, folder: Path) -> None:
        self.certificate_file = folder / "ca.pem"
        self._key_file = folder / "ca.key"
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        if not (self.certificate_file.exists() and self._key_file.exists()):
            self._create()

    def write_bundle(self, path: Path) -> None:
        """The certificates in force on this machine with the emulator's own behind them: appended, never instead."""
        system = next((file for file in _bundles_in_force() if file.is_file()), None)
        known = system.read_bytes() if system else b""
        own = self.certificate_file.read_bytes()
        write_public(path, known if own in known else known.rstrip() + b"\n" + own)

    def context_for(self, host: str) -> ssl.SSLContext:
        """A server context for a host, http/1.1 only; for an empty one (no SNI) that of 127.0.0.1."""
        parent = host.lower().rstrip(".").partition(".")[2]
        names = [parent, f"*.{parent}"] if parent and is_ours(parent) else [host] if host else ["localhost"]
        key = names[-1] if host else ""
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._new_context(names, addresses=() if host else ("127.0.0.1", "::1"))
            return self._contexts[key]

    def grpc_credentials(self) -> Any:
        """Server credentials for every gRPC host."""
        import grpc

        key, chain = self._issue(_GRPC_NAMES, ())
        return grpc.ssl_server_credentials([(key, chain)])

    def _new_context(self, names: Sequence[str], addresses: Sequence[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        key, chain = self._issue(names, addresses)
        # The ssl module reads keys from files alone.
        descriptor, name = tempfile.mkstemp(suffix=".pem")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(key + chain)
            context.load_cert_chain(name)
        finally:
            Path(name).unlink()
        return context

    def _issue(self, names: Sequence[str], addresses: Sequence[str]) -> tuple[bytes, bytes]:
        """PEM of a new leaf's key, and of its certificate with the authority's."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID

        authority_key, authority = self._authority
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        certificate = (
            _builder(names[-1][:64], authority.subject, self._leaf_key.public_key())
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        return _pem_of_key(self._leaf_key), _pem(certificate) + self.certificate_file.read_bytes()

    @cached_property
    def _leaf_key(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def _authority(self) -> tuple[Any, Any]:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        return key, x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def _create(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in DOMAINS]
        permitted += [x509.IPAddress(ipaddress.ip_network(network)) for network in ("127.0.0.0/8", "::1/128")]
        certificate = (
            _builder("selfloop emulator", None, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        write_private(self._key_file, _pem_of_key(key))
        write_public(self.certificate_file, _pem(certificate))


def _builder(name: str, issuer: Any, public_key: Any) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    # A day back, for clients whose clock is a little behind; an authority lives as long as anyone keeps it.
    lifetime = _LIFETIME if issuer is not None else timedelta(days=3650)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer if issuer is not None else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + lifetime)
    )


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    data: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return data


def _pem_of_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    data: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return data


def _bundles_in_force() -> list[Path]:
    """Where clients of this machine find certificates now: a company's proxy may have put its own there."""
    named = [os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")]
    paths = ssl.get_default_verify_paths()
    candidates = [*named, paths.cafile, paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"]
    found = [Path(name) for name in candidates if name]
    try:
        import certifi
    except ImportError:
        return found
    return [*found, Path(certifi.where())]
