"""google.iam.v1.IAMPolicy: the policies of resources whose API has no RPCs of its own for them."""

from __future__ import annotations

from typing import Any

from selfloop_apis import iam_v1

from emulator.core.iam_policies import IamPolicies
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService


class IamPolicyService(GapicService):
    api = "google.iam.v1.IAMPolicy"

    def __init__(self, policies: IamPolicies, projects: Projects) -> None:
        self._policies = policies
        self._projects = projects

    def get_iam_policy(self, request: Any, context: Context) -> Any:
        return self._policies.get(self._projects.canonical(request.resource))

    def set_iam_policy(self, request: Any, context: Context) -> Any:
        """Replace a policy. Raises Aborted when it changed since it was read."""
        return self._policies.set(self._projects.canonical(request.resource), request.policy, request.update_mask.paths)

    def test_iam_permissions(self, request: Any, context: Context) -> Any:
        self._projects.canonical(request.resource)
        return iam_v1.TestIamPermissionsResponse(permissions=self._policies.test(request.permissions))
