"""What a person sees of a verdict, a status, idle endpoints and remains: lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from sagerank_cost.text import fit, hang, record, width

from .posture import posture

if TYPE_CHECKING:
    from pathlib import Path

    from .deploy import Plan
    from .destroy import Doomed, Left
    from .endpoint import Variant
    from .idle import Quiet
    from .status import Status
    from .verify import Pin, Verdict


_AT_ZERO = " (the next request starts the first, in minutes)"


def plan(planned: Plan) -> Iterator[str]:
    """The cost first, then what is made, and where."""
    config, place = planned.config, planned.place
    where = f"{config.mode}{f' on {config.instance}' if config.instance else ''}"
    yield f"{config.name}: {config.model}, {where}, preset {config.preset}, {place.region}"
    cost, *lines = (part.strip() for part in planned.assembly.estimate.split(";"))
    yield f"Estimated cost: {cost}"
    yield from (f"  {line}" for line in lines)
    if planned.assembly.activation:
        yield _budget(planned.assembly.activation)
    stacks = planned.assembly.stacks
    yield f"{len(stacks)} stacks, {sum(sum(types.values()) for types in stacks.values())} resources:"
    room = max(map(len, stacks))
    for name, types in stacks.items():
        kinds = [
            type.rpartition("::")[2] + (f" x {count}" if count > 1 else "") for type, count in types.items()
        ]
        yield hang(f"  {name:<{room}}  ", ", ".join(kinds), width())
    yield "For a security reviewer:"
    for what, words in posture(config, planned.assembly).items():
        yield hang(f"  {what.replace('_', ' '):<9} ", words, width())
    if place.unknown:
        yield f"Account unknown: {place.unknown}"
    else:
        ready = "is set up" if place.bootstrapped else "is not set up there yet: --bootstrap does it"
        yield f"Account {place.account}: the CDK {ready}"


def _budget(activation: str) -> str:
    return (
        "The budget counts nothing until the account that pays activates its tag, once, a day after the first "
        f"deployment: {activation}"
    )


def dry(*, assumed: str, kept: Path | None) -> Iterator[str]:
    if assumed:
        yield f"Region {assumed}, as none is set: give --region, or set AWS_REGION."
    if kept:
        yield f"Templates: {kept}, by the model's shape; the artefact is built at `sagerank deploy`."
    yield "Nothing was built, uploaded or deployed, or compared with what is deployed: `--plan FILE` compares."


def verdict(result: Verdict) -> Iterator[str]:
    """The verdict first, and then what it rests on."""
    yield f"{'ok  ' if result.ok else 'FAIL'}  {_verdict(result)}"
    if result.rolled_back:
        stack = f" ({result.stack})" if result.stack else ""
        reason = f": {result.reason}" if result.reason else ""
        yield _line("FAIL", "configuration", f"SageMaker rolled the update back{reason}")
        yield _line("", f"it runs {result.config}; its stack{stack} wants {result.wanted}")
        yield _line("", "see the alarms in `sagerank status`, mend the cause, and deploy again")
    elif result.wanted:
        yield _line("ok", "configuration", result.config)
    else:
        unsure = f"{result.config}; no stack says which it should be: give --expect-config"
        yield _line("?", "configuration", unsure)
    yield from map(_pin, result.pins)
    for judged in result.judged:
        worst = max(score.drift for score in judged.scores)
        pairs = f"{len(judged.scores)} golden pairs, worst drift {worst:.2g} of a logit ({judged.tolerance:g} allowed)"
        yield _line("ok" if judged.ok else "FAIL", judged.target, f"{judged.model}: {pairs}")
        for score in judged.scores:
            if not score.drift <= judged.tolerance:
                wrong = score.error or f"logit {score.logit:.4f}, the reference has {score.expected:.4f}"
                yield _line("", f"{score.query!r}: {wrong}")
    for line in result.not_judged:
        yield _line("-", line)


def _verdict(result: Verdict) -> str:
    if result.rolled_back:
        return f"{result.endpoint} does not run what was deployed last"
    if not all(pin.ok for pin in result.pins):
        return f"the artefact of {result.endpoint} was replaced in S3: instances that start now refuse it"
    if not result.ok:
        return f"{result.endpoint} does not score as the reference did"
    asked = sum(len(judged.scores) for judged in result.judged)
    return f"{result.endpoint} runs what was deployed: {asked} golden pairs score as the reference did"


def _pin(pin: Pin) -> str:
    if not pin.ok:
        replaced = f"{pin.address} has the manifest {pin.manifest_sha256} now, and the server takes {pin.pinned} alone"
        return _line("FAIL", pin.target, f"{replaced}: put that artefact back, or deploy the new one")
    pinned = "pinned" if pin.pinned else "not pinned: deploy with artefact_sha256"
    return _line("ok" if pin.pinned else "-", pin.target, f"manifest {pin.manifest_sha256}, {pinned}")


def _line(state: str, *parts: str) -> str:
    """A state, and what it is of; below one another they are columns."""
    *names, text = parts
    return hang("".join([f"{state:<6}", *(f"{name:<16} " for name in names)]), text, width())


def status(report: Status) -> str:
    endpoint = report.endpoint
    ringing = ", ".join(name for name, state in report.alarms.items() if state == "ALARM")
    undone = ", but an update was ROLLED BACK" if report.rolled_back else ""
    alarm = f", in alarm: {ringing}" if ringing else ""
    cost = f"{_money(report.usd_per_hour)} an hour"
    heading = f"{endpoint.name}: {endpoint.status}, {endpoint.mode}, {cost}{undone}{alarm}"
    return record(heading, _fields(report), width())


def _fields(report: Status) -> Iterator[tuple[str, str]]:
    endpoint = report.endpoint
    yield "reason", endpoint.failure
    for variant in endpoint.variants:
        shadow = ", shadow" if variant.shadow else ""
        yield "variant", f"{variant.name}: {_size(variant)}, weight {variant.weight:g}{shadow}"
    for part in endpoint.components:
        yield (
            "component",
            f"{part.name}: {part.status}, {part.copies} copies on {part.variant}{'' if part.copies else _AT_ZERO}",
        )
    for scaling in report.scaling:
        where, policies = scaling.resource.partition("/")[2], "; ".join(scaling.policies) or "no policy"
        yield "scaling", f"{where}: {scaling.least} to {scaling.most}, {policies}"
    if report.unscaled:
        yield "scaling", "OFF since an update that was cut short: `sagerank deploy` puts it back"
    elif not report.scaling:
        yield "scaling", "none"
    updated = f"last update {endpoint.modified:%Y-%m-%d %H:%M %Z}"
    yield "created", f"{endpoint.created:%Y-%m-%d %H:%M %Z}; {updated}"
    wanted = f", but its stack wants {report.wanted}" if report.rolled_back else ""
    yield "config", f"{endpoint.config}{wanted}"
    for part_name, state in report.stacks.items():
        yield "stack", f"{part_name}: {state}"
    ringing = ", ".join(name for name, state in report.alarms.items() if state == "ALARM")
    yield "alarms", f"{len(report.alarms)}, {f'in alarm: {ringing}' if ringing else 'none in alarm'}"
    yield "estimated", report.estimate.partition(";")[0]
    yield "budget", _budget(report.activation) if report.activation else ""


def idle(endpoints: Sequence[Quiet], number: int, region: str, days: int) -> str:
    if not endpoints:
        return fit(f"None of {number} endpoints in {region} has been without a call for {days} days.")
    known = sum((quiet.usd_per_month or Decimal(0) for quiet in endpoints), Decimal(0))
    cells = [("endpoint", "mode", "runs", "an hour", "USD/month")]
    for quiet in endpoints:
        month = "" if quiet.usd_per_month is None else f"{quiet.usd_per_month:.2f}"
        cells.append(
            (quiet.endpoint, quiet.mode, ", ".join(quiet.variants), _money(quiet.usd_per_hour), month)
        )
    return fit(
        f"{len(endpoints)} of {number} endpoints in {region} had no call for {days} days: together USD {known:.2f} a month, as far as prices are known.",
        "",
        cells,
        "",
        *(f"{quiet.endpoint}: {note}" for quiet in endpoints for note in quiet.notes),
        f"Delete one of ours with `sagerank destroy NAME --region {region}`.",
    )


def doomed(deployment: Doomed, account: str, region: str) -> Iterator[str]:
    stacks = ", ".join(stack.name for stack in deployment.stacks.values())
    yield f"{deployment.name} in account {account}, {region}: {stacks}, {len(deployment.resources)} resources"
    for bucket, objects in deployment.objects.items():
        yield f"The bucket {bucket} goes with its {objects} objects."
    for resource in deployment.resources:
        if resource.kept:
            yield f"Kept by its deletion policy: {resource.type} {resource.id}"


def left(deployment: Doomed, rest: Left) -> Iterator[str]:
    yield from (_line("LEFT", line) for line in rest.left)
    yield from (_line("kept", line) for line in rest.kept)
    gone = len(deployment.resources) - len(rest.kept) - len(rest.left)
    yield f"{f'Not everything of {deployment.name} is gone' if rest.left else f'Nothing is left of {deployment.name}'}: {gone} resources are gone."
    if rest.unchecked:
        yield f"Left to CloudFormation's word: {', '.join(rest.unchecked)}."
    yield "Artefact and image stay in the CDK's own bucket and repository, until `npx cdk gc --unstable=gc`."


def _size(variant: Variant) -> str:
    if variant.memory_mb:
        return f"serverless, {variant.memory_mb} MB, {variant.provisioned} kept warm"
    at_zero = "" if variant.current or variant.desired else _AT_ZERO
    return f"{variant.current} of {variant.desired} x {variant.instance or 'an unknown type'}{at_zero}"


def _money(usd: Decimal | None) -> str:
    return "price not known" if usd is None else f"USD {float(usd):.4g}"
