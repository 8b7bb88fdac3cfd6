"""What a person sees of a verdict, a status, idle endpoints and remains: lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .deploy import Plan
    from .destroy import Doomed, Left
    from .endpoint import Variant
    from .idle import Quiet
    from .status import Status
    from .verify import Verdict


def plan(planned: Plan) -> Iterator[str]:
    """The cost first, then what is made, and where."""
    config, place = planned.config, planned.place
    where = f"{config.mode}{f' on {config.instance}' if config.instance else ''}"
    yield f"{config.name}: {config.model}, {where}, preset {config.preset}, {place.region}"
    cost, *lines = (part.strip() for part in planned.assembly.estimate.split(";"))
    yield f"Estimated cost: {cost}"
    yield from (f"  {line}" for line in lines)
    stacks = planned.assembly.stacks
    yield f"{len(stacks)} stacks, {sum(sum(types.values()) for types in stacks.values())} resources:"
    width = max(map(len, stacks))
    for name, types in stacks.items():
        kinds = [
            type.rpartition("::")[2] + (f" x {count}" if count > 1 else "") for type, count in types.items()
        ]
        yield from wrap(
            ", ".join(kinds), 98, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4)
        )
    if place.unknown:
        yield f"Account unknown: {place.unknown}"
    else:
        ready = "is set up" if place.bootstrapped else "is not set up there yet: --bootstrap does it"
        yield f"Account {place.account}: the CDK {ready}"


def dry(*, assumed: str, kept: Path | None) -> Iterator[str]:
    if assumed:
        yield f"Region {assumed}, as none is set: give --region, or set AWS_REGION."
    if kept:
        yield f"Templates: {kept}, by the model's shape; the artefact is built at `sagerank deploy`."
    yield "Nothing was built, uploaded or deployed."


def verdict(result: Verdict) -> Iterator[str]:
    """The verdict first, and then what it rests on."""
    asked = sum(len(judged.scores) for judged in result.judged)
    if result.ok:
        yield f"ok    {result.endpoint} runs what was deployed: {asked} golden pairs score as the reference did"
    elif result.rolled_back:
        yield f"FAIL  {result.endpoint} does not run what was deployed last"
    else:
        yield f"FAIL  {result.endpoint} does not score as the reference did"
    if result.rolled_back:
        stack = f" ({result.stack})" if result.stack else ""
        yield f"FAIL  configuration    SageMaker rolled the update back{f': {result.reason}' if result.reason else ''}"
        yield f"      it runs {result.config}; its stack{stack} wants {result.wanted}"
        yield "      see the alarms in `sagerank status`, mend the cause, and deploy again"
    elif result.wanted:
        yield f"ok    configuration    {result.config}"
    else:
        yield f"?     configuration    {result.config}; no stack says which it should be: give --expect-config"
    for judged in result.judged:
        worst = max(score.drift for score in judged.scores)
        pairs = f"{len(judged.scores)} golden pairs, worst drift {worst:.2g} of a logit ({judged.tolerance:g} allowed)"
        yield f"{'ok  ' if judged.ok else 'FAIL'}  {judged.target:<16} {judged.model}: {pairs}"
        for score in judged.scores:
            if not score.drift <= judged.tolerance:
                yield f"      {score.query!r}: {score.error or f'logit {score.logit:.4f}, the reference has {score.expected:.4f}'}"
    for line in result.not_judged:
        yield f"-     {line}"


def status(report: Status) -> Iterator[str]:
    endpoint = report.endpoint
    ringing = ", ".join(name for name, state in report.alarms.items() if state == "ALARM")
    undone = ", but an update was ROLLED BACK" if report.rolled_back else ""
    alarm = f", in alarm: {ringing}" if ringing else ""
    yield f"{endpoint.name}: {endpoint.status}, {endpoint.mode}, {_money(report.usd_per_hour)} an hour{undone}{alarm}"
    if endpoint.failure:
        yield f"  reason      {endpoint.failure}"
    for variant in endpoint.variants:
        shadow = ", shadow" if variant.shadow else ""
        yield f"  variant     {variant.name}: {_size(variant)}, weight {variant.weight:g}{shadow}"
    for part in endpoint.components:
        yield f"  component   {part.name}: {part.status}, {part.copies} copies on {part.variant}"
    for scaling in report.scaling:
        where, policies = scaling.resource.partition("/")[2], "; ".join(scaling.policies) or "no policy"
        yield f"  scaling     {where}: {scaling.least} to {scaling.most}, {policies}"
    if not report.scaling:
        yield "  scaling     none"
    yield f"  created     {endpoint.created:%Y-%m-%d %H:%M %Z}; last update {endpoint.modified:%Y-%m-%d %H:%M %Z}"
    wanted = f", but its stack wants {report.wanted}" if report.rolled_back else ""
    yield f"  config      {endpoint.config}{wanted}"
    for part_name, state in report.stacks.items():
        yield f"  stack       {part_name}: {state}"
    yield f"  alarms      {len(report.alarms)}, {f'in alarm: {ringing}' if ringing else 'none in alarm'}"
    if report.estimate:
        yield f"  estimated   {report.estimate.partition(';')[0]}"


def idle(endpoints: Sequence[Quiet], number: int, region: str, days: int) -> Iterator[str]:
    if not endpoints:
        yield f"None of {number} endpoints in {region} has been without a call for {days} days."
        return
    yield f"{len(endpoints)} of {number} endpoints in {region} had no call for {days} days:"
    for quiet in endpoints:
        month = "" if quiet.usd_per_month is None else f", USD {quiet.usd_per_month:.2f} a month"
        yield f"  {quiet.endpoint:<32} {quiet.mode:<14} {', '.join(quiet.variants)}: {_money(quiet.usd_per_hour)} an hour{month}"
        yield from (f"      {note}" for note in quiet.notes)
    known = sum((quiet.usd_per_month or Decimal(0) for quiet in endpoints), Decimal(0))
    yield f"Together USD {known:.2f} a month, as far as prices are known. Delete one of ours with `sagerank destroy NAME --region {region}`."


def doomed(deployment: Doomed, account: str, region: str) -> Iterator[str]:
    stacks = ", ".join(stack.name for stack in deployment.stacks.values())
    yield f"{deployment.name} in account {account}, {region}: {stacks}, {len(deployment.resources)} resources"
    for bucket, objects in deployment.objects.items():
        yield f"The bucket {bucket} goes with its {objects} objects."
    for resource in deployment.resources:
        if resource.kept:
            yield f"Kept by its deletion policy: {resource.type} {resource.id}"


def left(deployment: Doomed, rest: Left) -> Iterator[str]:
    yield from (f"LEFT  {line}" for line in rest.left)
    yield from (f"kept  {line}" for line in rest.kept)
    gone = len(deployment.resources) - len(rest.kept) - len(rest.left)
    yield f"{f'Not everything of {deployment.name} is gone' if rest.left else f'Nothing is left of {deployment.name}'}: {gone} resources are gone."
    if rest.unchecked:
        yield f"Left to CloudFormation's word: {', '.join(rest.unchecked)}."
    yield "Artefact and image stay in the CDK's own bucket and repository, until `npx cdk gc --unstable=gc`."


def _size(variant: Variant) -> str:
    if variant.memory_mb:
        return f"serverless, {variant.memory_mb} MB, {variant.provisioned} kept warm"
    return f"{variant.current} of {variant.desired} x {variant.instance}"


def _money(usd: Decimal | None) -> str:
    return "price not known" if usd is None else f"USD {float(usd):.4g}"
