"""What AWS refuses for want of a right: by the policies of the model's role, of a KMS key, and by a stack's termination protection.

A role that does not exist here is nobody's, and may do all: most tests name one and make none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult
from moto.iam.models import IAMBackend, iam_backends
from moto.iam.responses import IamResponse
from moto.kms.models import kms_backends
from moto.logs.exceptions import InvalidParameterException
from moto.logs.models import LogsBackend


def role_may(role: str, action: str, resource: str, **context: str) -> bool:
    """Whether IAM lets the role do it. context: condition keys with `__` for their colon, such as s3__prefix."""
    account, name = role.split(":")[4], role.rsplit("/", 1)[-1]
    backend = iam_backends[account]["aws"]
    if not any(each.name == name for each in backend.roles.values()):
        return True
    keys = {"aws:ResourceAccount": account}  # the only one there is here
    keys |= {key.replace("__", ":"): text for key, text in context.items()}
    return any(
        any(fnmatchcase(resource, each) for each in _listed(statement["Resource"]))
        and _matches(statement, action, keys)
        for statement in _statements(backend, name)
    )


def _statements(backend: IAMBackend, role: str) -> Iterator[Mapping[str, Any]]:
    found = next(each for each in backend.roles.values() if each.name == role)
    documents = [*found.policies.values(), *(policy.document for policy in found.managed_policies.values())]
    for document in documents:
        yield from _listed((json.loads(document) if isinstance(document, str) else document)["Statement"])


def key_may(region: str, arn: str, service: str, action: str, **context: str) -> bool:
    """Whether the policy of a key lets a service do it."""
    policy = kms_backends[arn.split(":")[4]][region].keys[arn.rsplit("/", 1)[-1]].policy
    keys = {key.replace("__", ":"): text for key, text in context.items()}
    for statement in _listed(json.loads(policy)["Statement"]):
        principal = statement.get("Principal", {})
        services = _listed(principal.get("Service", [])) if isinstance(principal, dict) else [principal]
        if service in services and _matches(statement, action, keys):
            return True
    return False


def _matches(statement: Mapping[str, Any], action: str, context: Mapping[str, str]) -> bool:
    conditions = statement.get("Condition", {}).values()
    return (
        statement["Effect"] == "Allow"
        and any(fnmatchcase(action, each) for each in _listed(statement["Action"]))
        and all(
            any(fnmatchcase(context.get(key, ""), str(each)) for each in _listed(values))
            for keys in conditions
            for key, values in keys.items()
        )
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def simulate_principal_policy(self: Any) -> ActionResult:
    role, context = self._get_param("PolicySourceArn"), self._get_param("ContextEntries") or []
    keys = {each["ContextKeyName"].replace(":", "__"): each["ContextKeyValues"][0] for each in context}
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": "allowed" if role_may(role, action, resource, **keys) else "implicitDeny",
            "MissingContextValues": [],
        }
        for action in self._get_param("ActionNames")
        for resource in self._get_param("ResourceArns") or ["*"]
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


_create_log_group = LogsBackend.create_log_group


def create_log_group(self: Any, log_group_name: str, tags: Any, **given: Any) -> Any:
    key, where = given.get("kmsKeyId") or given.get("KmsKeyId"), self.region_name
    group = f"arn:aws:logs:{where}:{self.account_id}:log-group:{log_group_name}"
    context = {"kms__EncryptionContext__aws__logs__arn": group}
    if key and not key_may(where, key, f"logs.{where}.amazonaws.com", "kms:Encrypt", **context):
        raise InvalidParameterException(
            msg=f"The specified KMS key does not exist or is not allowed to be used with LogGroup '{group}'."
        )
    return _create_log_group(self, log_group_name, tags, **given)


def update_termination_protection(self: Any) -> ActionResult:
    wanted = str(self._get_param("EnableTerminationProtection")).lower() == "true"
    stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
    stack.enable_termination_protection = wanted
    return ActionResult({"StackId": stack.stack_id})


def _guarded(delete: Any) -> Any:
    def delete_stack(self: Any, name_or_stack_id: str) -> None:
        for stack in self.stacks.values():
            named = name_or_stack_id in (stack.stack_id, stack.name)
            if named and str(stack.enable_termination_protection).lower() == "true":
                raise ValidationError(
                    message=f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
                )
        delete(self, name_or_stack_id)

    return delete_stack


def install() -> None:
    IamResponse.simulate_principal_policy = simulate_principal_policy
    LogsBackend.create_log_group = create_log_group
    CloudFormationResponse.update_termination_protection = update_termination_protection
    CloudFormationBackend.delete_stack = _guarded(CloudFormationBackend.delete_stack)
