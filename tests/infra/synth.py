"""The configurations in infra/examples, one of each mode and kind of machine: the tests look at them, and
`python -m tests.infra.synth FOLDER` (`make synth`) writes them with every preset into FOLDER/EXAMPLE-PRESET.
"""

from __future__ import annotations

import sys
from pathlib import Path

import aws_cdk as cdk

from sagerank_infra import rules
from sagerank_infra.app import build
from sagerank_infra.config import PRESETS, DeployConfig

_FOLDER = Path(__file__).parents[2] / "infra/examples"
_ARTEFACT = "s3://example-models/tiny/model.tar.gz"  # in place of the one that `sagerank deploy` would build
EXAMPLES = sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def example(name: str, preset: str = "dev", /, **options: str) -> DeployConfig:
    """The example with `preset` and other options, two underscores for a dot: autoscaling__max="8"."""
    given = {key.replace("__", "."): text for key, text in options.items()}
    return rules.read(_FOLDER / f"{name}.yaml", {"artefact": _ARTEFACT, "preset": preset, **given})


def write(folder: Path) -> None:
    for preset in PRESETS:
        for name in EXAMPLES:
            app = cdk.App(outdir=str(folder / f"{name}-{preset}"))
            build(app, example(name, preset))
            app.synth()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
