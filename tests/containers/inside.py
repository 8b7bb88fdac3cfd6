"""Runs one graph inside an image: what the processor that it sees can do, and what the graph computes there.

    python inside.py FOLDER [NAME=TEXT ...]

FOLDER holds graph.onnx and inputs.npz; outputs.npy is written there. NAME=TEXT: of the session's configuration. The abilities are
printed as JSON, as Linux tells them to programs on Arm (AT_HWCAP, AT_HWCAP2). It needs the image's packages and nothing of ours.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

# Which of the auxiliary vector's entries, and which of its bits.
ABILITIES = {"asimddp": (16, 20), "sve": (16, 22), "i8mm": (26, 13), "bf16": (26, 14)}


def main(folder: Path, *configuration: str) -> None:
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for entry in configuration:
        options.add_session_config_entry(*entry.split("=", 1))
    session = onnxruntime.InferenceSession(
        str(folder / "graph.onnx"), options, providers=["CPUExecutionProvider"]
    )
    with np.load(folder / "inputs.npz") as inputs:
        np.save(folder / "outputs.npy", session.run(None, dict(inputs))[0])
    sys.stdout.write(
        json.dumps({name: bool(getauxval(entry) >> bit & 1) for name, (entry, bit) in ABILITIES.items()})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
