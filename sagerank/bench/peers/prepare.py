"""What a peer makes of the exported folder before it runs, with the peer's own tools.

Executed by the interpreter of the peer's environment, with the standard library and the peer's packages:

    python -I prepare.py STEP FOLDER OUTPUT EARLIER

EARLIER is the output of the step before, "" for the first. Pairs to calibrate with come on stdin, as JSON.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALIBRATION_PAIRS = 200


def openvino(folder: Path, output: Path, _earlier: Path) -> None:
    """Write output/openvino/openvino_model.xml, by optimum-intel from the PyTorch class."""
    _cross_encoder(folder, "openvino", {"export": True}).save_pretrained(str(output))


def openvino_int8(folder: Path, output: Path, earlier: Path) -> None:
    """Write output/openvino/openvino_model.xml, static int8 by NNCF.

    Quantiser and configuration are those of sentence-transformers' export_static_quantized_openvino_model, which takes
    its calibration text from a hub only.
    """
    import nncf
    from optimum.intel.openvino import OVConfig, OVQuantizationConfig, OVQuantizer
    from optimum.intel.openvino.quantization import OVCalibrationDataset

    file = earlier.relative_to(folder) / "openvino/openvino_model.xml"
    model = _cross_encoder(folder, "openvino", {"file_name": str(file)})
    pairs = json.load(sys.stdin)[:CALIBRATION_PAIRS]
    inputs = [dict(model.tokenizer(*pair, truncation=True, return_tensors="np")) for pair in pairs]
    OVQuantizer.from_pretrained(model.transformers_model).quantize(
        OVCalibrationDataset(nncf.Dataset(inputs)),
        save_directory=output,
        ov_config=OVConfig(quantization_config=OVQuantizationConfig(num_samples=len(inputs))),
    )


def onnx_int8(folder: Path, output: Path, _earlier: Path) -> None:
    """Write output/onnx/model_int8.onnx, dynamic int8 by sentence-transformers for the instructions of this processor."""
    from sentence_transformers import export_dynamic_quantized_onnx_model

    model = _cross_encoder(folder, "onnx", {"file_name": "onnx/model.onnx"})
    export_dynamic_quantized_onnx_model(model, _instructions(), str(output), file_suffix="int8")


def onnxruntime_int8(folder: Path, output: Path, _earlier: Path) -> None:
    """Write output/onnx/model_int8.onnx, dynamic int8 by onnxruntime, a scale for each channel.

    Unsigned weights: AVX2 multiplies signed ones into 16 bits that saturate, and the scores go far astray.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    (output / "onnx").mkdir()
    quantize_dynamic(
        folder / "onnx/model.onnx",
        output / "onnx/model_int8.onnx",
        per_channel=True,
        weight_type=QuantType.QUInt8,
    )


STEPS: dict[str, Callable[[Path, Path, Path], None]] = {
    "openvino": openvino,
    "openvino-int8": openvino_int8,
    "onnx-int8": onnx_int8,
    "onnxruntime-int8": onnxruntime_int8,
}


def _instructions() -> str:
    """The name that sentence-transformers has for this processor's instructions."""
    if platform.machine() in ("aarch64", "arm64"):
        return "arm64"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next(line for line in file if line.startswith("flags")).split()
    names = {"avx512_vnni": "avx512_vnni", "avx512f": "avx512", "avx2": "avx2"}
    return next((name for flag, name in names.items() if flag in flags), "avx2")


def _cross_encoder(folder: Path, backend: str, options: dict[str, Any]) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(
        str(folder), backend=backend, trust_remote_code=True, local_files_only=True, model_kwargs=options
    )


if __name__ == "__main__":
    step, folder, output, earlier = sys.argv[1:]
    STEPS[step](Path(folder), Path(output), Path(earlier))
