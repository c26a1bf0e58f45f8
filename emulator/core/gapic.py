"""Services, methods and messages of an API, read from its official GAPIC package.

Used at generation time only: importing these packages costs seconds. The running server loads what
`generate.py` wrote. Source of the attributes read here: the transports of google-cloud-* packages.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

#: RPCs that every API mixes in; one generic rule serves them (`emulator/services/mixins`).
MIXINS = frozenset(
    {
        "GetOperation", "ListOperations", "CancelOperation", "DeleteOperation", "WaitOperation",
        "GetLocation", "ListLocations", "SetIamPolicy", "GetIamPolicy", "TestIamPermissions",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Binding:
    """One HTTP form of an RPC: `post /v1/{parent=projects/*}/customJobs`, body field `custom_job`."""

    verb: str
    uri: str
    body: str = ""


@dataclass(frozen=True)
class Method:
    """One RPC: its name, full message names, streaming kinds and HTTP bindings."""

    rpc: str
    input: str
    output: str
    client_streaming: bool = False
    server_streaming: bool = False
    bindings: tuple[Binding, ...] = field(default=())


@dataclass(frozen=True)
class Service:
    """One gRPC service of one version: `google.cloud.aiplatform.v1.JobService`."""

    name: str
    host: str
    methods: tuple[Method, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


_NOT_STUBS = frozenset({"host", "kind", "grpc_channel", "operations_client"})


class _Recorder:
    """A channel that notes what a GAPIC transport asks of it instead of connecting."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[bool, bool]] = {}

    def _record(self, client_streaming: bool, server_streaming: bool) -> Callable[..., Any]:
        def stub(path: str, **_: Any) -> Any:
            self.calls[path] = (client_streaming, server_streaming)
            return path

        return stub

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        requests, _, responses = kind.partition("_")
        return self._record(requests == "stream", responses == "stream")


def _message_name(message: Any) -> str:
    """Full name of a proto-plus or protobuf class."""
    if not hasattr(message, "DESCRIPTOR"):
        message = message.pb()
    return str(message.DESCRIPTOR.full_name)


def read_services(package: str) -> list[Service]:
    """Every service of a GAPIC package such as `google.cloud.aiplatform_v1`."""
    root = importlib.import_module(package)
    names = json.loads((Path(root.__path__[0]) / "gapic_metadata.json").read_text())
    prefix = names["protoPackage"]
    services = []
    for service, entry in names["services"].items():
        folder = _service_folder(package, entry["clients"]["grpc"]["libraryClient"])
        transport = importlib.import_module(f"{folder}.transports.grpc")
        transport_class = next(
            value for name, value in vars(transport).items() if name.endswith("GrpcTransport") and service in name
        )
        services.append(_read_service(f"{prefix}.{service}", transport_class, _rest_base(folder)))
    return services


def _service_folder(package: str, client: str) -> str:
    root = importlib.import_module(f"{package}.services")
    for module in pkgutil.iter_modules(root.__path__):
        folder = f"{package}.services.{module.name}"
        if hasattr(importlib.import_module(folder), client):
            return folder
    raise LookupError(f"{package} has no folder for {client}")


def _rest_base(folder: str) -> ModuleType | None:
    """The module that holds the REST bindings; Logging and Monitoring ship none."""
    try:
        return importlib.import_module(f"{folder}.transports.rest_base")
    except ModuleNotFoundError:
        return None


def _read_service(name: str, transport_class: Any, rest: ModuleType | None) -> Service:
    recorder = _Recorder()
    transport = transport_class.__new__(transport_class)
    transport._logged_channel = transport._grpc_channel = recorder
    transport._stubs = {}
    methods = []
    bindings = dict(_read_bindings(rest))
    for attribute in dir(transport_class):
        stub = getattr(transport_class, attribute)
        if not isinstance(stub, property) or attribute in _NOT_STUBS:
            continue
        path = getattr(transport, attribute)
        rpc = path.rpartition("/")[2]
        if rpc in MIXINS and not path.startswith(f"/{name}/"):
            continue
        # The annotation is the one place that names the messages of proto-plus and plain protobuf alike.
        (request,), response = get_args(get_type_hints(stub.fget)["return"])
        response = (get_args(response) or (response,))[0]
        methods.append(
            Method(rpc, _message_name(request), _message_name(response), *recorder.calls[path], bindings.get(rpc, ()))
        )
    return Service(name, transport_class.DEFAULT_HOST, tuple(sorted(methods, key=lambda method: method.rpc)))


def _read_bindings(rest: ModuleType | None) -> Iterator[tuple[str, tuple[Binding, ...]]]:
    """RPC name -> its HTTP bindings, out of `rest_base`."""
    if rest is None:
        return
    base = next(value for key, value in vars(rest).items() if re.fullmatch(r"_Base\w+RestTransport", key))
    for key, value in vars(base).items():
        if key.startswith("_Base") and hasattr(value, "_get_http_options"):
            yield (
                key.removeprefix("_Base"),
                tuple(
                    Binding(option["method"], option["uri"], option.get("body") or "")
                    for option in value._get_http_options()
                ),
            )


def read_descriptors(modules: Iterable[str]) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """File name -> descriptor of every file that these modules' messages need, dependencies first.

    modules: `google.cloud.aiplatform_v1.types`, whose submodules hold proto-plus messages, or plain
    protobuf ones such as `google.longrunning.operations_pb2`.
    """
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for name in modules:
        module = importlib.import_module(name)
        if hasattr(module, "DESCRIPTOR"):
            _add(module.DESCRIPTOR, files)
            continue
        for child in pkgutil.iter_modules(module.__path__):
            for value in vars(importlib.import_module(f"{name}.{child.name}")).values():
                if isinstance(value, type) and hasattr(value, "pb"):
                    _add(value.pb().DESCRIPTOR.file, files)
    return files


def _add(file: FileDescriptor, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    if file.name in files:
        return
    for dependency in file.dependencies:
        _add(dependency, files)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    files[file.name] = proto
