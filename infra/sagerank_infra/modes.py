"""What SageMaker offers in each mode: one record a mode, so that no other file compares modes by name."""

from __future__ import annotations

from dataclasses import dataclass, field

MEGABYTE = 1_048_576
VARIANT = "AllTraffic"  # the main one of an endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """What Application Auto Scaling changes, and the metric it follows.

    target: of the metric; None: by the estimated speed. at_zero: shows requests without an instance.
    """

    id: str = "Invocations"
    dimension: str = "variant:DesiredInstanceCount"
    metric: str = "SAGEMAKER_VARIANT_INVOCATIONS_PER_INSTANCE"
    target: float | None = None
    at_zero: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """The facts of a mode; the defaults are those of a real-time endpoint of instances."""

    # Bytes of a request and seconds until its answer. Real-time bodies may have 25 MB by AWS's documentation, and 6 MB by
    # its API's model: the lower one is sure.
    max_bytes: int = 6 * MEGABYTE
    max_seconds: int = 60
    instances: bool = True  # of a type; without them no VPC, network isolation, capture, host metrics
    endpoint: bool = True  # else requests come as files to a job
    own_container: bool = True  # else a package brings image and artefact
    queued: bool = False  # requests wait in a queue until an instance is free
    in_s3: bool = False  # requests and answers are objects in S3
    components: bool = False  # hold the model, and instances come and go with their copies
    scales_to_zero: bool = False  # may have no instance while nothing is asked
    metered: bool = False  # has metrics of single instances (enhanced metrics, detailed observability)
    variants: bool = False  # others beside the main one
    staged: bool = False  # updates in parts, and not only all at once
    pools: bool = False  # of instance types to fall back to
    tracking: Tracking = field(default_factory=Tracking)


MODES = {
    "realtime": Mode(metered=True, variants=True, staged=True, pools=True),
    "serverless": Mode(
        max_bytes=4 * MEGABYTE,
        instances=False,
        tracking=Tracking(
            id="Warm",
            dimension="variant:DesiredProvisionedConcurrency",
            metric="SAGEMAKER_VARIANT_PROVISIONED_CONCURRENCY_UTILIZATION",
            target=0.7,
        ),
    ),
    "async": Mode(
        max_bytes=1024 * MEGABYTE,
        max_seconds=3600,
        queued=True,
        in_s3=True,
        scales_to_zero=True,
        staged=True,
        pools=True,
        # Requests wait in a queue: its length an instance says what is missing. A target of few requests, such as 5, is seconds of
        # work: less than an instance takes to come, so that the fleet would swing between nothing and its maximum.
        tracking=Tracking(
            id="Backlog",
            metric="ApproximateBacklogSizePerInstance",
            at_zero="HasBacklogWithoutCapacity",
        ),
    ),
    "scale-to-zero": Mode(
        components=True,
        metered=True,
        scales_to_zero=True,
        pools=True,
        tracking=Tracking(
            dimension="inference-component:DesiredCopyCount",
            metric="SAGEMAKER_INFERENCE_COMPONENT_INVOCATIONS_PER_COPY",
            at_zero="NoCapacityInvocationFailures",
        ),
    ),
    "batch": Mode(
        max_bytes=100 * MEGABYTE, max_seconds=3600, endpoint=False, in_s3=True, scales_to_zero=True
    ),
    "marketplace": Mode(metered=True, own_container=False),
}
