"""Probes of a container_spec, as the runner takes them. Pure functions."""

from __future__ import annotations

from google.api_core.exceptions import MethodNotImplemented
from selfloop_apis import aiplatform_v1

from emulator.core.interfaces import Probe

#: What a probe's kind is called in the API -> whether it is emulated.
_KINDS = {"http_get": True, "tcp_socket": True, "exec": False, "grpc": False}


def probe(container: aiplatform_v1.ModelContainerSpec, field: str) -> Probe | None:
    """`startup_probe`, `health_probe` or `liveness_probe` of a container; None where it has none."""
    if not container.HasField(field):  # type: ignore[arg-type]  # one of three names
        return None
    given: aiplatform_v1.Probe = getattr(container, field)
    kind = given.WhichOneof("probe_type")
    return Probe(
        path=(given.http_get.path or "/") if kind == "http_get" else None,
        initial_delay_seconds=given.initial_delay_seconds,
        period_seconds=given.period_seconds or Probe.period_seconds,
        timeout_seconds=given.timeout_seconds or Probe.timeout_seconds,
        failure_threshold=given.failure_threshold or Probe.failure_threshold,
        success_threshold=given.success_threshold or Probe.success_threshold,
    )


def check(container: aiplatform_v1.ModelContainerSpec) -> None:
    """Raises MethodNotImplemented for what is not emulated, by its name."""
    port = container.ports[0].container_port if container.ports else 8080
    for field in ("startup_probe", "health_probe", "liveness_probe"):
        kind = (getattr(container, field).WhichOneof("probe_type") or "").rstrip("_")
        if kind and not _KINDS[kind]:
            raise MethodNotImplemented(
                f"container_spec.{field}.{kind} is not emulated: http_get and tcp_socket are, "
                "in emulator/services/aiplatform/probes.py."
            )
        given: aiplatform_v1.Probe = getattr(container, field)
        ports = {given.http_get.port, given.tcp_socket.port} - {0, port}
        if ports or given.http_get.http_headers:
            raise MethodNotImplemented(
                f"container_spec.{field} of another port than {port}, or with http_headers, is not emulated."
            )
