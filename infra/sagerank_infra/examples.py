"""A smallest configuration of each mode and kind of machine: what `make synth` writes and the tests look at."""

from __future__ import annotations

from . import rules
from .config import DeployConfig

_COMMON = {"model": "tiny", "artefact": "s3://example-models/tiny/model.tar.gz"}
EXAMPLES: dict[str, dict[str, str]] = {
    "realtime": {"mode": "realtime", "instance": "ml.c7i.xlarge"},
    "graviton": {"mode": "realtime", "instance": "ml.c8g.xlarge"},
    "gpu": {"mode": "realtime", "instance": "ml.g5.xlarge"},
    "serverless": {"mode": "serverless"},
    "async": {"mode": "async", "instance": "ml.c7i.xlarge"},
    "scale-to-zero": {"mode": "scale-to-zero", "instance": "ml.c7i.xlarge"},
    "batch": {"mode": "batch", "instance": "ml.c7i.xlarge"},
    "marketplace": {
        "mode": "marketplace",
        "model": "base",
        "instance": "ml.g4dn.xlarge",
        "model_package": "arn:aws:sagemaker:us-east-1:123456789012:model-package/jina-reranker-v1-base-en",
    },
}


def example(name: str, preset: str = "dev", /, **options: str) -> DeployConfig:
    """`options` with two underscores for a dot: autoscaling__max="8"."""
    given = {key.replace("__", "."): text for key, text in options.items()}
    return rules.read(None, {**_COMMON, **EXAMPLES[name], "preset": preset, **given})
