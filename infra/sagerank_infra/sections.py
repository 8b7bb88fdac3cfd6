"""The sections of a DeployConfig: network, encryption, scaling, and what single modes want to know."""

from __future__ import annotations

from dataclasses import dataclass

from .options import option

INSTANCE = r"|ml\.[a-z0-9-]+\.[a-z0-9]+"
INSTANCE_FORM = "a SageMaker hosting type such as ml.c7i.xlarge, ml.c8g.xlarge or ml.g5.xlarge"
NAME, NAME_FORM = r"(?=.{1,63}$)[a-zA-Z0-9]+(-+[a-zA-Z0-9]+)*", "at most 63 letters, digits and inner hyphens"
_KEY, _KEY_FORM = (
    r"new|aws|arn:aws[a-z-]*:kms:[^:]+:\d{12}:key/.+",
    "new, aws (AWS's own keys) or the ARN of a KMS key",
)
SHA256, SHA256_FORM = r"|[0-9a-f]{64}", "the 64 hexadecimal digits that `sagerank build` prints"
S3 = r"s3://[a-z0-9.-]{3,63}/.+"
ARTEFACT, ARTEFACT_FORM = rf".*\.tar\.gz|{S3}", "a model.tar.gz or an s3:// address"
_PREFIX, _PREFIX_FORM = (
    r"s3://[a-z0-9.-]{3,63}/([^*?]+/)?",
    "s3:// prefixes that end with a slash, such as s3://bucket/folder/",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBuild:
    base: str = option(
        "",
        "image in FROM, such as a mirror's; empty: the one that the Dockerfile names, of Docker Hub",
        pattern=r"|[a-zA-Z0-9][\w./:@-]*",
        form="an image with Python 3.11 on Debian 12, such as public.ecr.aws/docker/library/python:3.11-slim-bookworm",
    )
    pip: str = option("", "pip.conf that names an index of yours; the image does not keep it")
    certificates: str = option("", "certificates (PEM) that pip trusts; the image does not keep them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    vpc: str = option(
        "",
        "new, none, or the id of your VPC (then with subnets and security groups); empty: new, and none in serverless",
        pattern=r"|new|none|vpc-[0-9a-f]+",
        form="new, none or a VPC id such as vpc-0a1b2c3d",
    )
    subnets: tuple[str, ...] = option(
        (),
        "private subnets of your VPC",
        pattern=r"subnet-[0-9a-f]+",
        form="subnet ids such as subnet-0a1b2c3d",
    )
    security_groups: tuple[str, ...] = option(
        (),
        "security groups of your VPC; they need port 443 outwards",
        pattern=r"sg-[0-9a-f]+",
        form="security group ids such as sg-0a1b2c3d",
    )
    cidr: str = option(
        "10.80.0.0/22",
        "addresses of a new VPC",
        pattern=r"(\d{1,3}\.){3}\d{1,3}/(1[6-9]|2[0-4])",
        form="an IPv4 block of /16 to /24",
    )
    zones: int = option(2, "availability zones of a new VPC", low=2, high=3)
    endpoints: tuple[str, ...] = option(
        (),
        "interface endpoints in your VPC, billed by the hour and subnet: runtime keeps its callers' calls inside it",
        choices=("runtime",),
    )
    callers: tuple[str, ...] = option(
        (),
        "who may call through the endpoint runtime",
        pattern=r"sg-[0-9a-f]+|(\d{1,3}\.){3}\d{1,3}/\d{1,2}",
        form="security group ids such as sg-0a1b2c3d, or IPv4 blocks such as 10.0.0.0/16",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    key: str = option("new", "KMS key of volumes, data in S3, topics and logs", pattern=_KEY, form=_KEY_FORM)
    artefact_key: str = option(
        "",
        "KMS key the artefact in S3 is encrypted with, where it is not the bucket's default",
        pattern=r"|arn:aws[a-z-]*:kms:[^:]+:\d{12}:key/.+",
        form="the ARN of a KMS key",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBuckets:
    """What requests and answers in other buckets than the deployment's own need."""

    read: tuple[str, ...] = option(
        (), "prefixes that input may come from", pattern=_PREFIX, form=_PREFIX_FORM
    )
    write: tuple[str, ...] = option((), "and answers may go to", pattern=_PREFIX, form=_PREFIX_FORM)
    keys: tuple[str, ...] = option(
        (),
        "KMS keys that those buckets are encrypted with",
        pattern=r"arn:aws[a-z-]*:kms:[^:]+:\d{12}:key/.+",
        form="ARNs of KMS keys",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    name: str = option("", "of the action", pattern=NAME, form=NAME_FORM)
    cron: str = option(
        "",
        "when, as AWS writes it: `cron(0 7 ? * MON-FRI *)`",
        pattern=r"cron\([^()]+\)|rate\([^()]+\)|at\([^()]+\)",
        form="cron(...), rate(...) or at(...)",
    )
    timezone: str = option("UTC", "of the cron expression")
    min: int = option(1, "instances from then on, at least", low=0)
    max: int = option(1, "instances from then on, at most", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    min: int = option(
        1,
        "instances (copies in scale-to-zero; in serverless what serverless.provisioned says), at least",
        low=0,
    )
    max: int = option(4, "and at most; equal to min: no scaling", low=1)
    target: float = option(
        0.0,
        "what scaling holds: invocations a minute and instance (async: queued requests an instance; serverless: share of provisioned concurrency in use); 0: from the estimated speed",
        low=0,
    )
    scale_in_seconds: int = option(600, "between two steps down", low=0, high=3600)
    scale_out_seconds: int = option(120, "between two steps up", low=0, high=3600)
    schedules: tuple[Schedule, ...] = option((), "actions at given times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    memory_mb: int = option(
        0, "1024 to 6144 in steps of 1024; 0: the smallest the model fits in", low=0, high=6144
    )
    max_concurrency: int = option(10, "requests at once; the account has a limit too", low=1, high=200)
    provisioned: int = option(
        0,
        "of them kept warm, and billed for it; autoscaling.max adds more when they are busy",
        low=0,
        high=200,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asynchronous:
    concurrency: int = option(4, "requests an instance takes at once", low=1, high=1000)
    timeout_seconds: int = option(900, "until a request fails", low=1, high=3600)
    days: int = option(7, "until requests and answers in S3 expire", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    days: int = option(30, "until input and output in S3 expire", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    policy: str = option(
        "all-at-once", "how an update moves traffic", choices=("all-at-once", "canary", "linear", "rolling")
    )
    percent: int = option(
        0, "of the instances in a step; 0: one instance of the smallest fleet, at most half", low=0, high=50
    )
    wait_seconds: int = option(300, "to watch the alarms after each step", low=0, high=3600)
    termination_seconds: int = option(120, "that the old fleet stays after the last step", low=0, high=3600)
    timeout_seconds: int = option(3600, "for the whole update", low=600, high=28800)
    rollback: bool = option(True, "go back when latency, errors or golden pairs raise an alarm")

    def step(self, fleet: int) -> int:
        """Percent of the instances in a step: of `fleet`, the smallest, one, at most half. A fleet may have grown when the update comes."""
        return self.percent or min(50, max(10, -(-100 // max(1, fleet))))

    def waits(self, fleet: int) -> int:
        """Seconds of an update that are spent watching, however fast instances start."""
        steps = -(-100 // self.step(fleet)) if self.policy in ("linear", "rolling") else 1
        return steps * self.wait_seconds + (0 if self.policy == "rolling" else self.termination_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    email: tuple[str, ...] = option(
        (),
        "addresses that hear of alarms and of the budget",
        pattern=r"[^@\s]+@[^@\s]+\.[^@\s]+",
        form="e-mail addresses",
    )
    p99_ms: int = option(
        0,
        "model latency at the 99th percentile; 0: from the estimated speed (async: half of asynchronous.timeout_seconds)",
        low=0,
    )
    errors: int = option(5, "5xx answers within five minutes", low=1)
    queue_seconds: int = option(
        1200, "age of the oldest waiting request (async), whose queue is kept at ten minutes of work", low=1
    )
    utilisation: int = option(90, "percent of memory or disk", low=1, high=100)
    idle_hours: int = option(24, "without an invocation while instances run; 0: no alarm", low=0, high=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What SageMaker tells CloudWatch beyond the metrics of the whole fleet, which are free."""

    enhanced: bool = option(
        False,
        "of every instance, copy and GPU on its own; each is a metric that CloudWatch bills by the month",
    )
    detailed: bool = option(
        False,
        "AWS's detailed observability: what the server's /metrics says, and the host's and GPUs' own, for PromQL; billed by the GB",
    )
    seconds: int = option(60, "from one value to the next: 10, 30 or 60", low=10, high=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    enabled: bool = option(True, "an AWS Budget over everything with this deployment's tag")
    monthly_usd: float = option(0.0, "its limit; 0: one and a half times the estimate", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    percent: int = option(
        0, "of requests and answers kept in S3, encrypted; they hold your users' texts", low=0, high=100
    )
    days: int = option(14, "until they expire", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The traffic that the estimated cost and speed are for."""

    requests_per_second: float = option(0.1, "on average", low=0.000001)
    documents: int = option(100, "in a request", low=1, high=10_000)
    tokens: int = option(150, "of a document", low=1, high=8192)
