"""Documents of the XML API: elements written and read, and errors in its words.

Source: https://cloud.google.com/storage/docs/xml-api/reference-status
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from xml.parsers import expat

from google.api_core.exceptions import BadRequest, GoogleAPICallError

from emulator.core import errors

CONTENT_TYPE = "application/xml; charset=UTF-8"
NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"
#: Multipart uploads came later, and Google's client looks for this one.
MULTIPART_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
Error = TypeVar("Error", bound=GoogleAPICallError)
_DEEPEST = 20
#: What text may not hold as it is: markup, and what XML takes for a line end or cannot hold at all.
_SPECIAL = re.compile("[&<>\"'\x00-\x1f\x7f\ufffe\uffff]")
#: The code of an error: by how its message begins, else by its status.
_CODES_BY_MESSAGE = (
    ("No such object", "NoSuchKey"),
    ("The specified bucket does not exist", "NoSuchBucket"),
    ("The resumable upload does not exist", "NoSuchUpload"),
    ("Your previous request to create", "BucketAlreadyOwnedByYou"),
    ("The requested bucket name is not", "BucketAlreadyExists"),
    ("The bucket you tried to delete", "BucketNotEmpty"),
    ("Invalid bucket name", "InvalidBucketName"),
    ("Provided CRC32C", "BadDigest"),
    ("Provided MD5", "BadDigest"),
    ("The maximum object length", "KeyTooLong"),
)
_CODES_BY_STATUS = {
    304: "NotModified", 400: "InvalidArgument", 401: "AuthenticationRequired", 403: "AccessDenied", 404: "NoSuchKey",
    405: "MethodNotAllowed", 409: "Conflict", 411: "MissingContentLength", 412: "PreconditionFailed",
    413: "EntityTooLarge", 416: "InvalidRange", 429: "SlowDown", 499: "RequestTimeout", 500: "InternalError",
    501: "NotImplemented", 503: "ServiceUnavailable", 507: "ServiceUnavailable",
}  # fmt: skip


@dataclass
class Element:
    """One element of a document that a client sent; names without their namespaces."""

    name: str
    children: list[Element] = field(default_factory=list)
    text: str = ""
    attributes: dict[str, str] = field(default_factory=dict)

    def child(self, name: str) -> Element | None:
        """The first child of a name."""
        return next((child for child in self.children if child.name == name), None)

    def raw(self, name: str) -> str:
        """As `find`, with the spaces that a name may begin and end with; empty for what is not there."""
        found = self.child(name)
        return "" if found is None else found.text

    def find(self, name: str) -> str | None:
        """The text of the first child of a name."""
        return next((child.text.strip() for child in self.children if child.name == name), None)


#: What is written: a name with text, or with more of the kind.
Node = tuple[str, "str | int | bool | Iterable[Node]"]


def write(name: str, content: str | Iterable[Node], namespace: str = "") -> bytes:
    """A document with one root. A name may have attributes behind it."""
    root = f'{name} xmlns="{namespace}"' if namespace else name
    return f'<?xml version="1.0" encoding="UTF-8"?>{_written((root, content))}'.encode()


def _written(node: Node) -> str:
    name, content = node
    if isinstance(content, bool):
        text = "true" if content else "false"
    elif isinstance(content, str | int):
        text = _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", str(content))
    else:
        text = "".join(_written(child) for child in content)
    return f"<{name}>{text}</{name.partition(' ')[0]}>"


def read(data: bytes) -> Element:
    """The root of a client's document. Raises BadRequest: MalformedXML, also for one that declares entities."""
    root = Element("")
    open_elements = [root]
    parser = expat.ParserCreate(namespace_separator=" ")

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > _DEEPEST:
            raise _malformed()
        element = Element(name.rpartition(" ")[2], attributes=attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_: str) -> None:
        open_elements.pop()

    def text(data: str) -> None:
        open_elements[-1].text += data

    def refuse(*_: Any) -> None:
        raise _malformed()

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError):
        raise _malformed() from None
    return root.children[0]


def _malformed() -> BadRequest:
    return xml_error(BadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate.")


def xml_error(kind: type[Error], code: str, message: str, details: str = "") -> Error:
    """An exception that this API tells by a code of its own."""
    return kind(message, errors=[{"reason": code, "details": details}])


def error_code(error: GoogleAPICallError) -> str:
    own = next((item["reason"] for item in error.errors if isinstance(item, dict) and item.get("reason")), "")
    if own[:1].isupper():
        return str(own)
    for beginning, code in _CODES_BY_MESSAGE:
        if error.message.startswith(beginning):
            return code
    return _CODES_BY_STATUS.get(errors.http_status(error), "InternalError")


def error_document(error: GoogleAPICallError) -> bytes:
    """Clients look for Details in answers of status 400, so it is always there."""
    details = next((item["details"] for item in error.errors if isinstance(item, dict) and item.get("details")), "")
    return write("Error", [("Code", error_code(error)), ("Message", error.message), ("Details", details)])
