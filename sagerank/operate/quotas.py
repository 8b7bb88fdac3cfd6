"""Whether the account's quotas leave room for an endpoint: a quota of 0 is what most first deployments fail at, after minutes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import OperateError
from .account import Account, sentences
from .occupied import CONCURRENCY, of_instance, of_region

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig

# Where the console of a partition is, by how its regions begin.
_CONSOLES = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
_MEMORY = "Memory size in MB per serverless endpoint"  # not in every account's list
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a deployment takes of a quota, or of any of several where instance types stand in for one another.

    least: to be deployed; most: when it has scaled out. option: what else could be given. doubles: an update starts the new ones
    before the old ones go. kept: as many as had been scaled out. each: the quota is of one endpoint, whatever others have.
    """

    names: tuple[str, ...]
    least: int
    most: int
    option: str
    doubles: bool = False
    kept: bool = False
    each: bool = False


@dataclass(frozen=True, slots=True)
class Quota:
    code: str
    value: int


def check(config: DeployConfig, account: Account) -> list[str]:
    """Raise OperateError where the deployment's least is more than a quota leaves; return what else is to be said.

    Others' endpoints are counted, and its own is not: it is replaced. Nothing is refused for what may not be asked.
    """
    if not config.traits.endpoint:
        return []
    needs = tuple(wanted(config))
    try:
        with sentences():
            quotas = _listed(account, {name for need in needs for name in need.names})
            own, others = of_region(account, config.name)
    except OperateError as error:
        return [f"The account's quotas for SageMaker are not checked: {error}"]
    return [note for need in needs for note in _judged(need, quotas, own, others, account.region)]


def wanted(config: DeployConfig) -> Iterator[Need]:
    """What an endpoint takes of the quotas, by their names."""
    from sagerank_infra import fleet
    from sagerank_infra.estimate import serverless_memory
    from sagerank_infra.standing import scales

    if not config.traits.instances:
        most = config.serverless.max_concurrency
        yield Need(names=(CONCURRENCY,), least=most, most=most, option="serverless.max_concurrency")
        memory = serverless_memory(config)
        yield Need(names=(_MEMORY,), least=memory, most=memory, option="serverless.memory_mb", each=True)
        return
    fewest, greatest = Counter[str](), Counter[str]()
    main = config.instance
    lowest, highest = fleet.bounds(config)
    fewest[main] = max(1, lowest)
    greatest[main] = max(1, highest, *(schedule.max for schedule in config.autoscaling.schedules))
    for variant in config.variants:
        fewest[variant.instance or main] += variant.count
        greatest[variant.instance or main] += variant.count
    for instance in fewest:
        stand_ins = [pool.instance for pool in config.pools] if instance == main else []
        yield Need(
            names=tuple(map(of_instance, (instance, *stand_ins))),
            least=fewest[instance],
            most=greatest[instance],
            option="instance",
            doubles=True,
            kept=scales(config) and not config.variants,
        )


def _listed(account: Account, names: set[str]) -> dict[str, Quota]:
    """The account's quotas of these names. Their codes differ by type and are in no rule, so that the list is read until all are found."""
    found: dict[str, Quota] = {}
    for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
        # A quota that nobody has changed is in the second list alone, in some regions.
        page = {"PageSize": _PAGE}
        for each in account.pages(
            "service-quotas", operation, "Quotas", ServiceCode="sagemaker", PaginationConfig=page
        ):
            if each["QuotaName"] in names and "Value" in each:  # else AWS says why it has none
                found.setdefault(each["QuotaName"], Quota(each["QuotaCode"], int(each["Value"])))
            if found.keys() == names:
                return found
    return found


def _judged(
    need: Need, quotas: Mapping[str, Quota], own: Mapping[str, int], others: Mapping[str, int], region: str
) -> Iterator[str]:
    known = {name: quotas[name] for name in need.names if name in quotas}
    if len(known) < len(need.names):
        if not need.each:
            unknown = ", ".join(name for name in need.names if name not in quotas)
            yield f"Service Quotas lists no quota {unknown!r} in {region}, and it is not checked."
        return
    used = {name: 0 if need.each else others.get(name, 0) for name in known}
    free = sum(max(0, quota.value - used[name]) for name, quota in known.items())
    here = sum(own.get(name, 0) for name in known)
    running = sum(count for name, count in own.items() if name != CONCURRENCY)
    fresh = max(need.least, running) if need.kept else need.least
    name, quota = next(iter(known.items()))
    has = " and ".join(
        f"{each.value} of {name!r}" + (f", of which others use {used[name]}" if used[name] else "")
        for name, each in known.items()
    )
    enough = used[name] + max(need.most, need.least)
    if need.least > free:
        raise OperateError(
            f"The account may have {has} in {region}, and this deployment needs {need.least}: give another {need.option}, or {_ask(quota, enough, region)}"
        )
    if running and need.doubles and fresh + here > free:
        enough = max(enough, used[name] + fresh + here)
        yield f"The account may have {has} in {region}: an update that replaces the instances starts {fresh} beside the {here} there are, and AWS would refuse it: {_ask(quota, enough, region)}"
    elif need.most > free:
        yield f"The account may have {has} in {region}, and scaling may ask for {need.most}: scaling ends at {free}. To have more, {_ask(quota, enough, region)}"


def _ask(quota: Quota, value: int, region: str) -> str:
    """How to ask for a quota of that value."""
    command = f"aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code {quota.code} --desired-value {value} --region {region}"
    return f"ask AWS for {value}, at {link(quota.code, region)} or with `{command}`."


def link(code: str, region: str) -> str:
    """The page of the console where a quota is asked for."""
    own = (host for prefix, host in _CONSOLES.items() if region.startswith(prefix))
    host = next(own, "console.aws.amazon.com")
    return f"https://{region}.{host}/servicequotas/home/services/sagemaker/quotas/{code}"
