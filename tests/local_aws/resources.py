"""CloudFormation types that moto skips in silence or makes up, created as CloudFormation does: by calling the service's API.

boto3 checks every property's name and type on the way, so a template that AWS would refuse for one fails here too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from moto.applicationautoscaling import models as applicationautoscaling
from moto.applicationautoscaling import responses as applicationautoscaling_responses
from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.core.common_models import CloudFormationModel

from .updates import REPLACED

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Created:
    """id: what Ref gives; attributes: what GetAtt gives."""

    id: str
    attributes: Mapping[str, str]


@cache
def client(service: str, region: str) -> Any:
    """Of this very server, which is threaded."""
    return boto3.client(service, region_name=region, endpoint_url=os.environ["AWS_ENDPOINT_URL"])


def _api(shape_of: str, service: str, properties: Properties) -> dict[str, Any]:
    """Those properties that the API's operation has; CloudFormation's own (such as retention of an update) are left out."""
    operation = client(service, "us-east-1").meta.service_model.operation_model(shape_of)
    return {name: value for name, value in properties.items() if name in operation.input_shape.members}


def _key(region: str, name: str, given: Properties) -> Created:
    kms = client("kms", region)
    tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in given.get("Tags", ())]
    made = kms.create_key(
        Policy=json.dumps(given["KeyPolicy"]), Description=given.get("Description", ""), Tags=tags
    )["KeyMetadata"]
    if given.get("EnableKeyRotation"):
        kms.enable_key_rotation(KeyId=made["KeyId"])
    return Created(made["KeyId"], {"Arn": made["Arn"], "KeyId": made["KeyId"]})


def _alarm(region: str, name: str, given: Properties) -> Created:
    cloudwatch, name = client("cloudwatch", region), given.get("AlarmName", name)
    cloudwatch.put_metric_alarm(**{**given, "AlarmName": name})
    return Created(
        name, {"Arn": cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"]}
    )


def _target(region: str, name: str, given: Properties) -> Created:
    scaling = client("application-autoscaling", region)
    tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", ())}
    scaling.register_scalable_target(
        **{**_api("RegisterScalableTarget", "application-autoscaling", given), "Tags": tags}
    )
    where = {key: given[key] for key in ("ServiceNamespace", "ResourceId", "ScalableDimension")}
    for action in given.get("ScheduledActions", ()):
        scaling.put_scheduled_action(**action, **where)
    return Created("|".join((given["ResourceId"], given["ScalableDimension"], given["ServiceNamespace"])), {})


def _where(target: str) -> dict[str, str]:
    return dict(zip(("ResourceId", "ScalableDimension", "ServiceNamespace"), target.split("|"), strict=True))


def _policy(region: str, name: str, given: Properties) -> Created:
    asked = {key: value for key, value in given.items() if key != "ScalingTargetId"}
    if "ScalingTargetId" in given:
        asked |= _where(given["ScalingTargetId"])
    arn = client("application-autoscaling", region).put_scaling_policy(**asked)["PolicyARN"]
    return Created(arn, {"Arn": arn})


def _no_policy(region: str, id: str, given: Properties) -> None:
    where = (
        _where(given["ScalingTargetId"])
        if "ScalingTargetId" in given
        else _api("DeleteScalingPolicy", "application-autoscaling", given)
    )
    client("application-autoscaling", region).delete_scaling_policy(
        **{**where, "PolicyName": given["PolicyName"]}
    )


def _no_target(region: str, id: str, given: Properties) -> None:
    scaling = client("application-autoscaling", region)
    for action in given.get("ScheduledActions", ()):
        scaling.delete_scheduled_action(ScheduledActionName=action["ScheduledActionName"], **_where(id))
    scaling.deregister_scalable_target(**_where(id))


def _filter(region: str, name: str, given: Properties) -> Created:
    name = given.get("FilterName", name)
    shape = _transformations(given["MetricTransformations"])
    client("logs", region).put_metric_filter(
        logGroupName=given["LogGroupName"],
        filterName=name,
        filterPattern=given["FilterPattern"],
        metricTransformations=shape,
    )
    return Created(name, {})


def _transformations(given: list[Properties]) -> list[dict[str, Any]]:
    return [
        {
            key[0].lower() + key[1:]: str(value) if key == "MetricValue" else value
            for key, value in each.items()
        }
        for each in given
    ]


def _topic_policy(region: str, name: str, given: Properties) -> Created:
    for topic in given["Topics"]:
        client("sns", region).set_topic_attributes(
            TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(given["PolicyDocument"])
        )
    return Created(name, {})


def _subscription(region: str, name: str, given: Properties) -> Created:
    arn = client("sns", region).subscribe(**_api("Subscribe", "sns", given), ReturnSubscriptionArn=True)[
        "SubscriptionArn"
    ]
    return Created(arn, {})


def _budget(region: str, name: str, given: Properties) -> Created:
    name = given["Budget"].setdefault("BudgetName", name)
    own = {key: value for key, value in given["Budget"].items() if key != "BudgetLimit"}
    if "BudgetLimit" in given["Budget"]:
        own["BudgetLimit"] = {
            "Amount": str(given["Budget"]["BudgetLimit"]["Amount"]),
            "Unit": given["Budget"]["BudgetLimit"]["Unit"],
        }
    client("budgets", region).create_budget(
        AccountId=_account(region),
        Budget=own,
        NotificationsWithSubscribers=given.get("NotificationsWithSubscribers", []),
    )
    return Created(name, {})


def _parameter(region: str, name: str, given: Properties) -> Created:
    """Its tags are a mapping, unlike those of most types."""
    tags = [{"Key": key, "Value": value} for key, value in given.get("Tags", {}).items()]
    name = given.get("Name", name)
    client("ssm", region).put_parameter(**{**_api("PutParameter", "ssm", given), "Name": name, "Tags": tags})
    return Created(name, {"Type": given["Type"], "Value": given["Value"]})


def _managed_policy(region: str, name: str, given: Properties) -> Created:
    iam = client("iam", region)
    arn = iam.create_policy(
        PolicyName=given.get("ManagedPolicyName", name),
        PolicyDocument=json.dumps(given["PolicyDocument"]),
        Description=given.get("Description", ""),
        Tags=given.get("Tags", []),
    )["Policy"]["Arn"]
    for role in given.get("Roles", ()):
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    return Created(arn, {"PolicyArn": arn})


def _no_managed_policy(region: str, arn: str, given: Properties) -> None:
    """The stack takes it from the roles that it gave it to; whoever else has it stands in the way, as with AWS. moto would not mind."""
    iam = client("iam", region)
    for role in given.get("Roles", ()):
        iam.detach_role_policy(RoleName=role, PolicyArn=arn)
    held = iam.list_entities_for_policy(PolicyArn=arn)
    if any(held[kind] for kind in ("PolicyRoles", "PolicyUsers", "PolicyGroups")):
        raise ValidationError(message="Cannot delete a policy attached to entities.")
    iam.delete_policy(PolicyArn=arn)


@cache
def _account(region: str) -> str:
    return str(client("sts", region).get_caller_identity()["Account"])


def _sagemaker(kind: str) -> Callable[[str, str, Properties], Created]:
    """Create by the API; the physical id is the ARN, as SageMaker's types have it."""
    operation, own = f"Create{kind}", f"{kind}Name"

    def create(region: str, name: str, given: Properties) -> Created:
        from botocore import xform_name

        asked = {own: name[:63], **_api(operation, "sagemaker", given)}
        arn = getattr(client("sagemaker", region), xform_name(operation))(**asked)[f"{kind}Arn"]
        if kind == "Endpoint":
            client("sagemaker", region).get_waiter("endpoint_in_service").wait(
                EndpointName=asked[own], WaiterConfig={"Delay": 0.2, "MaxAttempts": 600}
            )
        if kind == "InferenceComponent":
            _await_component(region, asked[own])
        return Created(arn, {own: asked[own], f"{kind}Arn": arn})

    return create


def _await_component(region: str, name: str) -> None:
    """boto3 has no waiter for it."""
    sagemaker = client("sagemaker", region)
    while True:
        found = sagemaker.describe_inference_component(InferenceComponentName=name)
        if found["InferenceComponentStatus"] == "InService":
            return
        if found["InferenceComponentStatus"] == "Failed":
            raise ValidationError(message=f"Inference component {name} failed: {found['FailureReason']}")
        time.sleep(0.2)


def _delete(service: str, operation: str, argument: str) -> Callable[[str, str, Properties], None]:
    def delete(region: str, id: str, given: Properties) -> None:
        getattr(client(service, region), operation)(
            **{argument: id.rsplit("/")[-1] if service == "sagemaker" else id}
        )

    return delete


# type -> name of the attribute that names it, how it comes, how it goes. A bucket policy is recorded, not applied: moto would
# enforce it, and it refuses plain HTTP, which is all there is on loopback.
_TYPES: dict[
    str, tuple[Callable[[str, str, Properties], Created], Callable[[str, str, Properties], None]]
] = {
    "AWS::SageMaker::Model": (_sagemaker("Model"), _delete("sagemaker", "delete_model", "ModelName")),
    "AWS::SageMaker::EndpointConfig": (
        _sagemaker("EndpointConfig"),
        _delete("sagemaker", "delete_endpoint_config", "EndpointConfigName"),
    ),
    "AWS::SageMaker::Endpoint": (
        _sagemaker("Endpoint"),
        _delete("sagemaker", "delete_endpoint", "EndpointName"),
    ),
    "AWS::SageMaker::InferenceComponent": (
        _sagemaker("InferenceComponent"),
        _delete("sagemaker", "delete_inference_component", "InferenceComponentName"),
    ),
    "AWS::KMS::Key": (
        _key,
        lambda region, id, given: client("kms", region).schedule_key_deletion(
            KeyId=id, PendingWindowInDays=given.get("PendingWindowInDays", 30)
        ),
    ),
    "AWS::CloudWatch::Alarm": (
        _alarm,
        lambda region, id, _: client("cloudwatch", region).delete_alarms(AlarmNames=[id]),
    ),
    "AWS::ApplicationAutoScaling::ScalableTarget": (_target, _no_target),
    "AWS::ApplicationAutoScaling::ScalingPolicy": (_policy, _no_policy),
    "AWS::Logs::MetricFilter": (
        _filter,
        lambda region, id, given: client("logs", region).delete_metric_filter(
            logGroupName=given["LogGroupName"], filterName=id
        ),
    ),
    "AWS::SNS::TopicPolicy": (_topic_policy, lambda *_: None),
    "AWS::SNS::Subscription": (_subscription, _delete("sns", "unsubscribe", "SubscriptionArn")),
    "AWS::SSM::Parameter": (_parameter, _delete("ssm", "delete_parameter", "Name")),
    "AWS::IAM::ManagedPolicy": (_managed_policy, _no_managed_policy),
    "AWS::Budgets::Budget": (
        _budget,
        lambda region, id, _: client("budgets", region).delete_budget(
            AccountId=_account(region), BudgetName=id
        ),
    ),
    "AWS::S3::BucketPolicy": (
        lambda region, name, given: Created(f"{given['Bucket']}-policy", {}),
        lambda *_: None,
    ),
}


def _change_endpoint(region: str, name: str, given: Properties) -> None:
    sagemaker, name = client("sagemaker", region), given["EndpointName"]
    sagemaker.update_endpoint(**_api("UpdateEndpoint", "sagemaker", given))
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 600}
    )
    found = sagemaker.describe_endpoint(EndpointName=name)
    if found["EndpointConfigName"] != given["EndpointConfigName"]:
        raise ValidationError(message=f"Endpoint {name} was rolled back: {found.get('FailureReason')}")


def _change_component(region: str, name: str, given: Properties) -> None:
    sagemaker, name = client("sagemaker", region), given["InferenceComponentName"]
    sagemaker.update_inference_component(
        **_api(
            "UpdateInferenceComponent", "sagemaker", {k: v for k, v in given.items() if k != "RuntimeConfig"}
        )
    )
    _await_component(region, name)
    if why := sagemaker.describe_inference_component(InferenceComponentName=name).get("FailureReason"):
        raise ValidationError(message=f"Inference component {name} was rolled back: {why}")


# Types that an update changes in place; others are deleted and made anew.
_CHANGES: dict[str, Callable[[str, str, Properties], object]] = {
    "AWS::SageMaker::Endpoint": _change_endpoint,
    "AWS::SageMaker::InferenceComponent": _change_component,
    "AWS::ApplicationAutoScaling::ScalableTarget": _target,
}


def _detach(region: str, association: Any) -> None:
    ec2 = client("ec2", region)
    for table in ec2.describe_route_tables(
        Filters=[{"Name": "route-table-id", "Values": [association.route_table_id]}]
    )["RouteTables"]:
        for each in table["Associations"]:
            if each.get("SubnetId") == association.subnet_id:
                ec2.disassociate_route_table(AssociationId=each["RouteTableAssociationId"])


def _drop_table(region: str, table: Any) -> None:
    ec2 = client("ec2", region)
    users = [
        each["VpcEndpointId"]
        for each in ec2.describe_vpc_endpoints()["VpcEndpoints"]
        if table.id in each.get("RouteTableIds", ()) and each["State"] != "deleted"
    ]
    if users:  # as AWS says; moto tries again when the others are gone
        raise ValidationError(message=f"The routeTable '{table.id}' has dependencies and cannot be deleted.")
    ec2.delete_route_table(RouteTableId=table.id)


# Types that moto creates and never deletes.
_DELETES: dict[str, Callable[[str, Any], object]] = {
    "AWS::EC2::RouteTable": _drop_table,
    "AWS::Logs::LogGroup": lambda region, group: client("logs", region).delete_log_group(
        logGroupName=group.name
    ),
    "AWS::EC2::SubnetRouteTableAssociation": _detach,
    "AWS::EC2::VPCEndpoint": lambda region, endpoint: client("ec2", region).delete_vpc_endpoints(
        VpcEndpointIds=[endpoint.id]
    ),
    "AWS::EC2::FlowLog": lambda region, flow: client("ec2", region).delete_flow_logs(FlowLogIds=[flow.id]),
}


def _let_delete(kind: str, delete: Callable[[str, Any], object]) -> None:
    def gone(self: Any, account_id: str, region_name: str) -> None:
        delete(region_name, self)

    parsing.get_model_map()[kind].delete = gone


def _delete_stack(self: Any, name_or_stack_id: str) -> None:
    """A stack is there, and has events, until it is gone. Afterwards it must not be asked for outputs: moto makes a resource
    anew when an output names it.
    """
    for stack in [each for each in self.stacks.values() if name_or_stack_id in (each.stack_id, each.name)]:
        exports = [export.name for export in stack.exports]
        stack.delete()
        stack.output_map = parsing.OutputMap(stack.resource_map, {}, stack.stack_id)
        stack.resource_map._resource_json_map = {}
        self.deleted_stacks[stack.stack_id] = self.stacks.pop(stack.stack_id)
        for name in exports:
            self.exports.pop(name)


def _know_every_dimension() -> None:
    """moto's list stops at the instances of a variant."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("application-autoscaling")
    known = [SimpleNamespace(value=text) for text in model.shape_for("ScalableDimension").enum]
    for module in (applicationautoscaling, applicationautoscaling_responses):
        module.ScalableDimensionValueSet = known
    applicationautoscaling._target_params_are_valid = lambda namespace, resource, dimension: True


def install() -> None:
    CloudFormationBackend.delete_stack = _delete_stack
    _know_every_dimension()
    for kind, gone in _DELETES.items():
        _let_delete(kind, gone)
    for kind, (create, delete) in _TYPES.items():
        _define(kind, create, delete)
    for lookup in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        lookup.cache_clear()


def _define(
    kind: str,
    create: Callable[[str, str, Properties], Created],
    delete: Callable[[str, str, Properties], None],
) -> None:
    """moto finds direct subclasses of CloudFormationModel; the last one of a type is taken."""

    def from_json(
        cls: Any, /, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> Any:
        resource = cls()
        resource.properties = cloudformation_json["Properties"]
        try:
            resource.created = create(region_name, resource_name, resource.properties)
        except (BotoCoreError, ClientError) as error:
            raise ValidationError(message=f"Resource handler returned message: {kind}: {error}") from None
        return resource

    def update(
        cls: Any,
        /,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Any:
        if change := _CHANGES.get(kind):
            original_resource.properties = cloudformation_json["Properties"]
            change(region_name, new_resource_name, original_resource.properties)
            return original_resource
        if kind not in REPLACED:  # those go when nothing refers to them any more
            original_resource.delete(account_id, region_name)
        return from_json(cls, new_resource_name, cloudformation_json, account_id, region_name)

    def gone(self: Any, account_id: str, region_name: str) -> None:
        delete(region_name, self.created.id, self.properties)

    type(
        kind.replace("::", ""),
        (CloudFormationModel,),
        {
            "__module__": __name__,
            "cloudformation_type": staticmethod(lambda: kind),
            "cloudformation_name_type": staticmethod(lambda: ""),
            "has_cfn_attr": classmethod(lambda cls, attribute: True),
            "physical_resource_id": property(lambda self: self.created.id),
            "get_cfn_attribute": lambda self, attribute: self.created.attributes[attribute],
            "is_created": lambda self: True,
            "create_from_cloudformation_json": classmethod(from_json),
            "update_from_cloudformation_json": classmethod(update),
            "delete": gone,
        },
    )
