"""What a TLS client says before anything is encrypted: the host it wants and the protocols it speaks.

gRPC's core offers `h2` alone; curl and git offer `h2` and `http/1.1` and are served as REST.
Source: RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SERVER_NAME, _ALPN = 0, 16
#: A hello may span records; beyond this it is not one.
LONGEST = 64 * 1024


@dataclass(frozen=True)
class ClientHello:
    server_name: str
    """empty when the client sent none"""
    protocols: tuple[str, ...]

    @property
    def is_grpc(self) -> bool:
        return "h2" in self.protocols and "http/1.1" not in self.protocols


def parse(data: bytes) -> ClientHello | None:
    """The hello at the head of a connection, or None while it is not all there.

    Raises ValueError for what is no ClientHello.
    """
    handshake = b""
    at = 0
    while True:
        if len(data) < at + 5:
            return None
        kind, length = data[at], struct.unpack_from(">H", data, at + 3)[0]
        if kind != 22:
            raise ValueError("no TLS handshake")
        handshake += data[at + 5 : at + 5 + length]
        if len(handshake) >= 4 and len(handshake) >= 4 + int.from_bytes(handshake[1:4]):
            break
        if len(data) < at + 5 + length:
            return None
        at += 5 + length
    if handshake[0] != 1:
        raise ValueError("no ClientHello")
    try:
        return _read(handshake[4 : 4 + int.from_bytes(handshake[1:4])])
    except (IndexError, struct.error, UnicodeDecodeError):
        raise ValueError("a broken ClientHello") from None


def _read(body: bytes) -> ClientHello:
    at = 34  # version and random
    at += 1 + body[at]  # session id
    at += 2 + struct.unpack_from(">H", body, at)[0]  # cipher suites
    at += 1 + body[at]  # compression
    name, protocols = "", []
    end = at + 2 + struct.unpack_from(">H", body, at)[0] if at + 2 <= len(body) else at
    at += 2
    while at + 4 <= end:
        kind, length = struct.unpack_from(">HH", body, at)
        value = body[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == _SERVER_NAME and len(value) > 5:
            name = value[5 : 5 + struct.unpack_from(">H", value, 3)[0]].decode("ascii")
        elif kind == _ALPN:
            index = 2
            while index < len(value):
                protocols.append(value[index + 1 : index + 1 + value[index]].decode("ascii"))
                index += 1 + value[index]
    return ClientHello(name.lower(), tuple(protocols))
