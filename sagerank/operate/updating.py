"""From what is deployed to what is wanted: decided before anything changes, and done in the steps that AWS allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from . import OperateError, assembly, endpoint
from .account import Account
from .cdk import Assembly
from .stacks import PARTS, Stack, find, require_settled, template_of
from .terminal import say, watching
from .transitions import Transition, decide, retained
from .unscaled import is_off, put_back, told, unscaled


def outlook(account: Account, name: str, planned: Assembly) -> list[str]:
    """What is special about the update, to be shown before anybody agrees. Raises OperateError where it cannot be done."""
    deployed, transition, interrupted = _decided(account, name, planned)
    lines = []
    if transition.unscaled:
        lines.append(
            "Scaling is off while the instance type changes: the endpoint keeps the instances that it has."
        )
    if interrupted:
        lines.append("Scaling is off since an update that was cut short: it is on again after this one.")
    if "endpoint" in deployed:
        lines += [
            f"Variant {variant.name} gets {count} instances, in place of {variant.desired}: after the update, which leaves counts as they are."
            for variant, count in _other_counts(account, name, planned)
        ]
    lines += [
        f"The stack {name}-{part} is not needed any more and is deleted." for part in transition.abandoned
    ]
    lines += [
        f"The inference component {name} goes: whoever still names it gets errors."
        for name in transition.gone
    ]
    return lines


def update(
    account: Account, name: str, planned: Assembly, run: Callable[[], None], extra: Sequence[str] = ()
) -> None:
    """Let `run` deploy the planned stacks, with what AWS wants before and after. Raises OperateError.

    extra: more words for the CDK's command, where it is called beside `run`.
    """
    deployed, transition, interrupted = _decided(account, name, planned)
    off: AbstractContextManager[None] = nullcontext()
    if transition.unscaled:
        off = unscaled(account, name, deployed, planned.folder, extra)
    elif interrupted:
        off = put_back(account, name, planned.folder, extra)
    with off, told(name, account.region):
        run()
    if "endpoint" in deployed:
        _set_counts(account, name, planned)
    if abandoned := [deployed[part] for part in transition.abandoned]:
        say(f"Deleting {', '.join(stack.name for stack in abandoned)}")
        assembly.destroy(account, abandoned)


def _decided(account: Account, name: str, planned: Assembly) -> tuple[Mapping[str, Stack], Transition, bool]:
    """The stacks that are there, what it takes to change them, and whether an earlier update took the scaling off and was ended before it put it back."""
    deployed = find(account, name)
    require_settled(deployed)
    new = _templates(name, planned)
    for part, stack in deployed.items():
        if stack.status == "UPDATE_ROLLBACK_FAILED":
            raise OperateError(
                f"{stack.name} is {stack.status}, which only its owner can end: mend what its events name, and `aws cloudformation continue-update-rollback --stack-name {stack.name} --region {account.region}`."
            )
        # The CDK's command line deletes what failed to be made before it makes it again, but for these.
        hinders = stack.status in ("CREATE_FAILED", "DELETE_FAILED")
        if part in new and (hinders or (stack.protected and not stack.made and not stack.empty)):
            words = " --unprotect" if stack.protected else ""
            raise OperateError(f"{stack.name} is {stack.status}: `sagerank destroy {name}{words}` first.")
    made = {part: stack for part, stack in deployed.items() if stack.made}
    old = {part: template_of(account, stack) for part, stack in made.items()}
    transition = decide(old, new)
    if transition.refused:
        raise OperateError(f"{transition.refused} Nothing was changed.")
    if kept := [made[part].name for part in transition.abandoned if made[part].protected]:
        raise OperateError(
            f"{', '.join(kept)} would not be needed any more, and is protected from deletion: deploy once as it is with termination_protection=false, and then change it. Nothing was changed."
        )
    return made, transition, is_off(old.get("endpoint", {}))


def _templates(name: str, planned: Assembly) -> dict[str, Mapping[str, Any]]:
    found = {part: planned.templates.get(f"{name}-{part}") for part in PARTS}
    return {part: template for part, template in found.items() if template is not None}


def _other_counts(account: Account, name: str, planned: Assembly) -> list[tuple[endpoint.Variant, int]]:
    """Variants whose instances are not as many as planned, though nothing scales them, and how many that is.

    The endpoint itself is asked: a deployment that was cut short has left the counts of the one before it.
    """
    if not (counts := retained(_templates(name, planned))):
        return []
    return [
        (variant, counts[variant.name])
        for variant in endpoint.describe(account, name).variants
        if not variant.shadow and counts.get(variant.name, variant.desired) != variant.desired
    ]


def _set_counts(account: Account, name: str, planned: Assembly) -> None:
    """One variant after another, as SageMaker takes them."""
    sagemaker = account.client("sagemaker")
    where = f"{name} --region {account.region}"
    hint = f"Variants may have other counts than planned: `sagerank deploy` with the same options gives them theirs, and `sagerank status {where}` shows them."
    for variant, count in _other_counts(account, name, planned):
        say(f"Giving variant {variant.name} {count} instances, in place of {variant.desired}")
        with watching(name, "until the one before has its instances", hint) as progress:
            endpoint.wait(account, name, progress)
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": variant.name, "DesiredInstanceCount": count}],
        )
