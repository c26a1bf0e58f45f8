"""Calls to a running emulator's control API: plain HTTP on loopback, with its state directory's token."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ops.errors import EmulatorNotRunning, OpsError


@dataclass(frozen=True)
class Control:
    """An emulator that left its address in a state directory; it may have ended since."""

    state: Path
    host: str
    port: int
    pid: int
    started: float
    """when this process took up its state; another value after a restart on the same address"""

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    def get(self, path: str, query: Mapping[str, str] | None = None, timeout_seconds: float = 30) -> Any:
        """The decoded JSON of `/emulator/<path>`."""
        suffix = f"?{urlencode(query)}" if query else ""
        return self._call("GET", path + suffix, None, timeout_seconds)

    def post(self, path: str, body: Mapping[str, object] | None = None, timeout_seconds: float = 600) -> Any:
        """The decoded JSON of the answer; a reset or a long advance takes its time."""
        return self._call("POST", path, body or {}, timeout_seconds)

    def answers(self) -> bool:
        """Whether the emulator of this state directory is there and well."""
        try:
            self.get("health", timeout_seconds=5)
        except OpsError:
            return False
        return True

    def _call(self, method: str, path: str, body: Mapping[str, object] | None, timeout_seconds: float) -> Any:
        # http.client heeds no proxy variables: the call goes to loopback whatever a shell exports.
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_seconds)
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            connection.request(method, f"/emulator/{path}", data, headers)
            response = connection.getresponse()
            payload = response.read()
        except (OSError, http.client.HTTPException):
            raise EmulatorNotRunning(str(self.state)) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise OpsError(f"the emulator answered {response.status}: {_error_text(payload)}")
        return json.loads(payload) if payload else {}

    def _token(self) -> str:
        try:
            return (self.state / "token").read_text("utf-8").strip()
        except FileNotFoundError:
            raise EmulatorNotRunning(str(self.state)) from None
        except PermissionError:
            raise OpsError(
                f"{self.state / 'token'} belongs to another user; run the task as the one who ran `up`"
            ) from None


def find_control(state: Path) -> Control | None:
    """The emulator whose address stands in a state directory; None when none was left there."""
    try:
        address = json.loads((state / "address.json").read_text("utf-8"))
        control = Control(
            state=state,
            host=str(address.get("host", "127.0.0.1")),
            port=int(address["port"]),
            pid=int(address["pid"]),
            started=float(address.get("started", 0)),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    except PermissionError:
        raise OpsError(f"{state} cannot be read; set SELFLOOP_STATE to a folder of your own") from None
    return control if _alive(control.pid) else None


def running_control(state: Path) -> Control:
    """The emulator that answers on a state directory.

    Raises EmulatorNotRunning when there is none.
    """
    control = find_control(state)
    if control is None or not control.answers():
        raise EmulatorNotRunning(str(state))
    return control


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _error_text(payload: bytes) -> str:
    try:
        error = json.loads(payload)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return payload.decode("utf-8", "replace").strip()[:300] or "nothing more"
