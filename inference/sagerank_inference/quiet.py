"""What the libraries below would report to their makers, switched off by the variables that they read when they are loaded.

What the environment says already holds, also where it says that reporting is wanted. An empty value says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# For any process that loads ONNX Runtime. Its import alone writes an identity of the machine and looks up its maker's
# host; `disable_telemetry_events()` can be called only then, and keeps it from neither.
ONNX_RUNTIME = {"ORT_DISABLE_TELEMETRY": "1"}
# For processes that are ours alone, and what they start. An application that imports us has its own say in these.
OURS = ONNX_RUNTIME | {
    "CDK_DISABLE_CLI_TELEMETRY": "true",
    "CDK_DISABLE_VERSION_CHECK": "1",  # asks the npm registry
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# For containers of images that are not ours. The last: AWS's own, some of which report their instance.
CONTAINER = ONNX_RUNTIME | {"HF_HUB_DISABLE_TELEMETRY": "1", "OPT_OUT_TRACKING": "true"}


def unset(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables of which the environment says nothing."""
    return {name: text for name, text in variables.items() if not os.environ.get(name)}


def switch_off(variables: Mapping[str, str]) -> None:
    """Set each of the variables that is not set yet, for this process and those that it starts."""
    os.environ.update(unset(variables))
