"""Waiting for what SageMaker makes, without a panel on the screen."""

from __future__ import annotations

import time

from sagemaker.core.resources import Endpoint, TrainingJob, TransformJob

_LONGEST_PAUSE = 10.0  # seconds between two questions
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "InProgress", "Stopping", "Deleting")


class SageMakerError(RuntimeError):
    """What was asked of SageMaker did not come about; the text gives its reason."""


def wait(resource: Endpoint | TransformJob | TrainingJob) -> None:
    """Wait until it is in service or completed. Raises SageMakerError with SageMaker's reason."""
    kind = {Endpoint: "endpoint", TransformJob: "transform_job", TrainingJob: "training_job"}[type(resource)]
    pause = 0.2  # and then twice as long each time
    while (status := getattr(resource.refresh(), f"{kind}_status")) in _BUSY:
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    if status not in ("InService", "Completed"):
        raise SageMakerError(
            f"{resource.get_name()} is {status}: {resource.failure_reason or 'SageMaker gives no reason'}."
        )
