"""The configurations in infra/examples, one of each mode and kind of machine: what `make synth` writes and the tests look at."""

from __future__ import annotations

from pathlib import Path

from . import rules
from .config import DeployConfig

_FOLDER = Path(__file__).parent.parent / "examples"
_ARTEFACT = "s3://example-models/tiny/model.tar.gz"  # in place of the one that `sagerank deploy` would build
EXAMPLES = sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def example(name: str, preset: str = "dev", /, **options: str) -> DeployConfig:
    """The example with `preset` and other options, two underscores for a dot: autoscaling__max="8"."""
    given = {key.replace("__", "."): text for key, text in options.items()}
    return rules.read(_FOLDER / f"{name}.yaml", {"artefact": _ARTEFACT, "preset": preset, **given})
