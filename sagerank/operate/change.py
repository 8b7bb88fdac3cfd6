"""What a deployment changes: which stacks are deployed now, what they cost, and the difference to the new ones in the CDK's own words."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import groupby, zip_longest

from . import OperateError, cdk, stacks
from .account import Account

_USD = re.compile(r"USD ([\d,]+(?:\.\d+)?) a month")
_OUTPUT = re.compile(r'\{"Fn::GetStackOutput":(\{[^{}]*\})\}')
_NARROWEST = 12  # a column of a table


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment's stacks as they are. state: by name, when each was last changed, and the SHA-256 of its template."""

    state: Mapping[str, Mapping[str, str]]
    estimate: str  # of the month's cost, as the stacks' own output states it; empty where there is none

    def require(self, state: Mapping[str, Mapping[str, str]]) -> None:
        """Raise OperateError unless the stacks are still as `state` says."""
        for name in sorted({*self.state, *state}):
            before, now = state.get(name), self.state.get(name)
            if before != now:
                was, found = (
                    f"of {each['changed']} with template {each['template'][:8]}" if each else "not there"
                    for each in (before, now)
                )
                raise OperateError(
                    f"The stack {name} is not what the difference was shown against (it was {was}, and is {found}): "
                    "somebody deployed meanwhile, this plan perhaps: deploy or plan again to see the difference to what is there now."
                )


def deployed(account: Account, name: str) -> Deployed:
    """Look at the stacks that a deployment of that name has."""
    found = [stack for stack in stacks.find(account, name).values() if not stack.empty]
    state = {stack.name: {"changed": stack.changed, "template": _sum(account, stack)} for stack in found}
    estimates = [text for stack in found if (text := stack.outputs.get("EstimatedMonthlyCost"))]
    return Deployed(state, next(iter(estimates), ""))


def _sum(account: Account, stack: stacks.Stack) -> str:
    return hashlib.sha256(json.dumps(stacks.template_of(account, stack), sort_keys=True).encode()).hexdigest()


def cost(before: Deployed, assembly: cdk.Assembly) -> str:
    """What is deployed now costs by its own estimate, and how much more or less the new estimate is, where both are known."""
    if not before.state:
        return "Deployed now: nothing"
    now = before.estimate.partition(" (")[0] or "its cost is not known"
    amounts = [_amount(text) for text in (before.estimate, assembly.estimate)]
    if None in amounts:
        return f"Deployed now: {now}"
    old, new = (amount or Decimal(0) for amount in amounts)
    return f"Deployed now: {now}; the new estimate is {_more(new - old)}"


def _amount(estimate: str) -> Decimal | None:
    """None where it is not known, or only a part of it."""
    found = _USD.match(estimate)
    return Decimal(found[1].replace(",", "")) if found else None


def _more(usd: Decimal) -> str:
    if not usd:
        return "the same"
    return f"USD {abs(usd):,.2f} {'more' if usd > 0 else 'less'}"


def difference(assembly: cdk.Assembly, account: Account, columns: int | None) -> str:
    """What `cdk diff` says: statements of IAM, rules of security groups, resources and outputs. Nothing is made, not even a change set.

    columns: of its tables; None: as wide as they are.
    """
    words = ["diff", "--app", str(assembly.folder), "--method", "template", "--no-color", "--ci"]
    text = _OUTPUT.sub(partial(_resource, assembly), cdk.read(words, account))
    lines: list[str] = []
    for is_table, group in groupby(text.splitlines(), lambda line: line[:1] in tuple("┌├│└")):
        found = list(group)
        lines += _narrowed(found, columns) if is_table else found
    return "\n".join(lines)


def _resource(assembly: cdk.Assembly, found: re.Match[str]) -> str:
    """What another stack's output stands for, in the CDK's own form."""
    try:
        named = json.loads(found[1])
        stack, output = named["StackName"], named["OutputName"]
        value = assembly.templates[stack]["Outputs"][output]["Value"]
    except (ValueError, LookupError, TypeError):
        return found[0]
    match value:
        case {"Ref": id}:
            return f"${{{stack}.{id}}}"
        case {"Fn::GetAtt": [id, attribute]}:
            return f"${{{stack}.{id}.{attribute}}}"
    return f"${{{stack}.{output}}}"


def _narrowed(lines: list[str], columns: int | None) -> list[str]:
    try:
        return list(_table(lines, columns))
    except (LookupError, ValueError):  # something in a cell that looks like its border
        return lines


def _table(lines: list[str], columns: int | None) -> Iterator[str]:
    """A table of the CDK's, as wide as its cells now are, or as may be: longer ones go on below."""
    rows: list[list[list[str]]] = []
    for line in lines:
        cells = [cell[1:-1].rstrip() for cell in line.strip("│").split("│")]
        if line[0] != "│":
            rows.append([])
        elif rows[-1]:
            for column, cell in zip(rows[-1], cells, strict=True):
                column.append(cell)
        else:
            rows[-1] = [[cell] for cell in cells]
    rows = [row for row in rows if row]
    widths = [max(len(cell) for cells in column for cell in cells) for column in zip(*rows, strict=True)]
    while columns and sum(widths) + 3 * len(widths) + 1 > columns and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1

    def rule(left: str, between: str, right: str) -> str:
        return f"{left}{between.join('─' * (width + 2) for width in widths)}{right}"

    yield rule("┌", "┬", "┐")
    for number, row in enumerate(rows):
        if number:
            yield rule("├", "┼", "┤")
        wrapped = [
            [cell[at : at + width] for cell in cells for at in range(0, max(len(cell), 1), max(width, 1))]
            for cells, width in zip(row, widths, strict=True)
        ]
        for parts in zip_longest(*wrapped, fillvalue=""):
            padded = (f" {part:<{width}} " for part, width in zip(parts, widths, strict=True))
            yield f"│{'│'.join(padded)}│"
    yield rule("└", "┴", "┘")
