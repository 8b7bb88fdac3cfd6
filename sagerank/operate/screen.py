"""What a person sees of a verdict, a status, idle endpoints and remains: lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .destroy import Doomed, Left
    from .endpoint import Variant
    from .idle import Quiet
    from .status import Status
    from .verify import Verdict


def verdict(found: Verdict) -> Iterator[str]:
    if found.rolled_back:
        stack = f" ({found.stack})" if found.stack else ""
        yield f"FAIL  configuration    SageMaker rolled the update back{f': {found.reason}' if found.reason else ''}"
        yield f"      it runs {found.config}; its stack{stack} wants {found.wanted}"
        yield "      see the alarms in `sagerank status`, mend the cause, and deploy again"
    elif found.wanted:
        yield f"ok    configuration    {found.config}"
    else:
        yield f"?     configuration    {found.config}; no stack says which it should be: give --expect-config"
    for judged in found.judged:
        worst = max(score.drift for score in judged.scores)
        pairs = f"{len(judged.scores)} golden pairs, worst drift {worst:.2g} of a logit ({judged.tolerance:g} allowed)"
        yield f"{'ok  ' if judged.ok else 'FAIL'}  {judged.target:<16} {judged.model}: {pairs}"
        for score in judged.scores:
            if not score.drift <= judged.tolerance:
                yield f"      {score.query!r}: {score.error or f'logit {score.logit:.4f}, the reference has {score.expected:.4f}'}"
    for line in found.not_judged:
        yield f"-     {line}"


def status(found: Status) -> Iterator[str]:
    endpoint = found.endpoint
    yield f"{endpoint.name}: {endpoint.status}, {endpoint.mode}"
    if endpoint.failure:
        yield f"  reason      {endpoint.failure}"
    for variant in endpoint.variants:
        shadow = ", shadow" if variant.shadow else ""
        yield f"  variant     {variant.name}: {_size(variant)}, weight {variant.weight:g}{shadow}"
    for part in endpoint.components:
        yield f"  component   {part.name}: {part.status}, {part.copies} copies on {part.variant}"
    for scaling in found.scaling:
        where, policies = scaling.resource.partition("/")[2], "; ".join(scaling.policies) or "no policy"
        yield f"  scaling     {where}: {scaling.least} to {scaling.most}, {policies}"
    if not found.scaling:
        yield "  scaling     none"
    yield f"  created     {endpoint.created:%Y-%m-%d %H:%M %Z}; last update {endpoint.modified:%Y-%m-%d %H:%M %Z}"
    undone = f", but its stack wants {found.wanted}: an update was ROLLED BACK" if found.rolled_back else ""
    yield f"  config      {endpoint.config}{undone}"
    for part_name, state in found.stacks.items():
        yield f"  stack       {part_name}: {state}"
    ringing = ", ".join(name for name, state in found.alarms.items() if state == "ALARM")
    yield f"  alarms      {len(found.alarms)}, {f'in alarm: {ringing}' if ringing else 'none in alarm'}"
    yield f"  now         {_money(found.usd_per_hour)} an hour"
    if found.estimate:
        yield f"  estimated   {found.estimate.partition(';')[0]}"


def idle(found: Sequence[Quiet], number: int, region: str, days: int) -> Iterator[str]:
    if not found:
        yield f"None of {number} endpoints in {region} has been without a call for {days} days."
        return
    yield f"{len(found)} of {number} endpoints in {region} had no call for {days} days:"
    for quiet in found:
        month = "" if quiet.usd_per_month is None else f", USD {quiet.usd_per_month:.2f} a month"
        yield f"  {quiet.endpoint:<32} {quiet.mode:<14} {', '.join(quiet.variants)}: {_money(quiet.usd_per_hour)} an hour{month}"
        yield from (f"      {note}" for note in quiet.notes)
    known = sum((quiet.usd_per_month or Decimal(0) for quiet in found), Decimal(0))
    yield f"Together USD {known:.2f} a month, as far as prices are known. Delete one of ours with `sagerank destroy NAME --region {region}`."


def doomed(found: Doomed, account: str, region: str) -> Iterator[str]:
    stacks = ", ".join(stack.name for stack in found.stacks.values())
    yield f"{found.name} in account {account}, {region}: {stacks}, {len(found.resources)} resources"
    for bucket, objects in found.objects.items():
        yield f"The bucket {bucket} goes with its {objects} objects."
    for resource in found.resources:
        if resource.kept:
            yield f"Kept by its deletion policy: {resource.type} {resource.id}"


def left(found: Doomed, rest: Left) -> Iterator[str]:
    yield from (f"LEFT  {line}" for line in rest.left)
    yield from (f"kept  {line}" for line in rest.kept)
    gone = len(found.resources) - len(rest.kept) - len(rest.left)
    yield f"{f'Not everything of {found.name} is gone' if rest.left else f'Nothing is left of {found.name}'}: {gone} resources are gone."
    if rest.unchecked:
        yield f"Left to CloudFormation's word: {', '.join(rest.unchecked)}."
    yield "Artefact and image stay in the CDK's own bucket and repository, until `npx cdk gc --unstable=gc`."


def _size(variant: Variant) -> str:
    if variant.memory_mb:
        return f"serverless, {variant.memory_mb} MB, {variant.provisioned} kept warm"
    return f"{variant.current} of {variant.desired} x {variant.instance}"


def _money(usd: Decimal | None) -> str:
    return "price not known" if usd is None else f"USD {float(usd):.4g}"
