"""ONNX Runtime, imported with its telemetry off. Where a program imported it before us, it is that program's."""

from __future__ import annotations

from . import quiet

quiet.switch_off(quiet.ONNX_RUNTIME)

import onnxruntime  # noqa: E402

__all__ = ["onnxruntime"]
