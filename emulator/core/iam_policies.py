"""IAM policies by resource name: what getIamPolicy, setIamPolicy and testIamPermissions of every API share.

Policies are kept and given back, not enforced: whoever may call the emulator may do everything.
Source: https://cloud.google.com/iam/docs/reference/rest/v1/Policy
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from google.api_core.exceptions import Aborted, InvalidArgument
from selfloop_apis import iam_v1

from emulator.core.state import Database

#: The etag of a policy that was never set (base64: ACAB).
_UNSET = b"\x00\x20\x01"
_MASKABLE = frozenset({"bindings", "etag", "version", "auditConfigs", "audit_configs"})


class IamPolicies:
    """Every policy that a client has set."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create("CREATE TABLE IF NOT EXISTS iam_policies (resource TEXT PRIMARY KEY, policy BLOB NOT NULL)")

    def get(self, resource: str, owner: str = "") -> Any:
        """The policy; where none was set an empty one, or one that makes `owner` (`user:x@y`) the owner."""
        rows = self._database.query("SELECT policy FROM iam_policies WHERE resource = ?", (resource,))
        if rows:
            return iam_v1.Policy.FromString(rows[0]["policy"])
        policy = iam_v1.Policy(etag=_UNSET)
        if owner:
            policy.version = 1
            policy.bindings.add(role="roles/owner", members=[owner])
        return policy

    def set(self, resource: str, policy: Any, mask: Sequence[str] = (), owner: str = "") -> Any:
        """Replace the policy, or the fields of a mask, and give it back with its new etag.

        Raises Aborted when the policy carries an etag that is not the current one, InvalidArgument for a binding
        without role or with a member that is none, and for an unknown field in the mask.
        """
        _check(policy, mask)
        with self._database.transaction() as connection:
            current = self.get(resource, owner)
            if policy.etag and policy.etag != current.etag:
                raise Aborted(
                    "There were concurrent policy changes. Please retry the whole read-modify-write with exponential "
                    "backoff."
                )
            stored = iam_v1.Policy()
            stored.CopyFrom(policy)
            fields = {"audit_configs" if field == "auditConfigs" else field for field in mask}
            if fields and "bindings" not in fields:
                stored.ClearField("bindings")
                stored.bindings.extend(current.bindings)
            if "audit_configs" not in fields:
                # Without a mask it is `bindings, etag`: audit configuration stays as it is.
                stored.ClearField("audit_configs")
                stored.audit_configs.extend(current.audit_configs)
            # Version 3 is that of policies with conditions; clients ask for it whether there are any or not.
            stored.version = 3 if any(binding.HasField("condition") for binding in stored.bindings) else 1
            stored.etag = b"\x07" + secrets.token_bytes(7)
            connection.execute(
                "INSERT OR REPLACE INTO iam_policies VALUES (?, ?)", (resource, stored.SerializeToString())
            )
        return stored

    @staticmethod
    def test(permissions: Sequence[str]) -> list[str]:
        """Those of the permissions that the caller has: all. Raises InvalidArgument for wildcards and non-names."""
        for permission in permissions:
            if "*" in permission or permission.count(".") < 2:
                raise InvalidArgument(f"Permission {permission} is not valid for this resource.")
        return list(permissions)


def _check(policy: Any, mask: Sequence[str]) -> None:
    for field in mask:
        if field not in _MASKABLE:
            raise InvalidArgument(f"Invalid update mask: {field} is no field of a policy.")
    for binding in policy.bindings:
        if not binding.role:
            raise InvalidArgument("Binding role is missing.")
        for member in binding.members:
            if ":" not in member and member not in ("allUsers", "allAuthenticatedUsers"):
                raise InvalidArgument(
                    f"Invalid member {member}: expected allUsers, allAuthenticatedUsers or a type such as user: or "
                    "serviceAccount: before a name."
                )
