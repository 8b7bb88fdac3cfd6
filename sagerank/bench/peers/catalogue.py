"""The peers: what each one is, the packages it is made of, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FP32_TOLERANCE = 1e-3  # of a logit; measured differences are near 1e-5

# Pinned together and installed together: peers with equal pins share an environment. Where a peer does not allow the newest
# of its parts, it has what pip resolves for it.
_FASTEMBED = ("fastembed==0.9.1", "onnxruntime==1.32.0", "onnx==1.23.2")
_SENTENCE_TRANSFORMERS = (
    "sentence-transformers[openvino]==6.2.0",
    "torch==2.13.0",
    "transformers==5.5.4",  # optimum-intel allows no newer one
    "optimum-intel==2.2.0",
    "openvino==2026.4.1",
    "nncf==3.4.0",
)
# The newest pair that pip resolves: optimum-onnx wants transformers below 4.58, sentence-transformers 6 wants 5.
_SENTENCE_TRANSFORMERS_ONNX = (
    "sentence-transformers[onnx]==5.7.0",
    "torch==2.13.0",
    "transformers==4.57.6",
    "optimum-onnx==0.1.0",
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
)
_INFINITY = (
    "infinity-emb[torch,optimum]==0.0.78",
    "torch==2.13.0",
    "transformers==4.57.6",
    "sentence-transformers==3.4.1",
)
# Comes with optimum-intel for its vision models, compiled for the registry's own build of PyTorch: beside any other build,
# importing it fails, and transformers imports it wherever it lies.
_WITHOUT_VISION = ("torchvision",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSpec:
    name: str
    precision: Literal["fp32", "int8"]
    requirements: tuple[str, ...]  # as pip takes them
    without: tuple[str, ...] = ()  # removed again after the installation
    runner: str  # loader of runner.py
    options: Mapping[str, str] = field(default_factory=dict)  # of the loader; {STEP} is that step's output
    steps: tuple[str, ...] = ()  # of prepare.py, in order
    tolerance: float | None  # of a logit against ours; None: reported, not judged
    note: str  # how it is run


_ALL = (
    PeerSpec(
        name="fastembed",
        precision="fp32",
        requirements=_FASTEMBED,
        runner="fastembed",
        options={"file": "onnx/model.onnx"},
        tolerance=FP32_TOLERANCE,
        note="TextCrossEncoder.rerank on a custom model: padded ONNX graph, arrival order",
    ),
    PeerSpec(
        name="sentence-transformers-torch",
        precision="fp32",
        requirements=_SENTENCE_TRANSFORMERS,
        without=_WITHOUT_VISION,
        runner="sentence-transformers",
        options={"backend": "torch"},
        tolerance=FP32_TOLERANCE,
        note="CrossEncoder.predict, sorted by length in characters, fused attention",
    ),
    PeerSpec(
        name="sentence-transformers-onnx",
        precision="fp32",
        requirements=_SENTENCE_TRANSFORMERS_ONNX,
        runner="sentence-transformers",
        options={"backend": "onnx", "file": "onnx/model.onnx"},
        tolerance=FP32_TOLERANCE,
        note="CrossEncoder.predict through optimum-onnx, sorted by length in characters",
    ),
    PeerSpec(
        name="sentence-transformers-openvino",
        precision="fp32",
        requirements=_SENTENCE_TRANSFORMERS,
        without=_WITHOUT_VISION,
        runner="sentence-transformers",
        options={"backend": "openvino", "file": "{openvino}/openvino/openvino_model.xml"},
        steps=("openvino",),
        tolerance=FP32_TOLERANCE,
        note="CrossEncoder.predict through optimum-intel's export, sorted by length in characters",
    ),
    PeerSpec(
        name="infinity",
        precision="fp32",
        requirements=_INFINITY,
        runner="infinity",
        options={"engine": "torch"},
        tolerance=FP32_TOLERANCE,
        note="its engine without the HTTP server (torch; its optimum engine does not load local folders), batches of 32",
    ),
    PeerSpec(
        name="transformers",
        precision="fp32",
        requirements=_SENTENCE_TRANSFORMERS,
        without=_WITHOUT_VISION,
        runner="transformers",
        tolerance=FP32_TOLERANCE,
        note="a hand-written handler: padded batches of 32 in arrival order, fused attention with dense ALiBi",
    ),
    PeerSpec(
        name="fastembed-int8",
        precision="int8",
        requirements=_FASTEMBED,
        runner="fastembed",
        options={"file": "{onnxruntime-int8}/onnx/model_int8.onnx"},
        steps=("onnxruntime-int8",),
        tolerance=None,
        note="fastembed on its graph after onnxruntime's dynamic quantisation, a scale for each channel",
    ),
    PeerSpec(
        name="sentence-transformers-onnx-int8",
        precision="int8",
        requirements=_SENTENCE_TRANSFORMERS_ONNX,
        runner="sentence-transformers",
        options={"backend": "onnx", "file": "{onnx-int8}/onnx/model_int8.onnx"},
        steps=("onnx-int8",),
        tolerance=None,
        note="its own export_dynamic_quantized_onnx_model, for the instructions of this processor",
    ),
    PeerSpec(
        name="sentence-transformers-openvino-int8",
        precision="int8",
        requirements=_SENTENCE_TRANSFORMERS,
        without=_WITHOUT_VISION,
        runner="sentence-transformers",
        options={"backend": "openvino", "file": "{openvino-int8}/openvino/openvino_model.xml"},
        steps=("openvino", "openvino-int8"),
        tolerance=None,
        note="static quantisation by NNCF, as its own export does it, calibrated on 200 pairs of real text",
    ),
)
PEERS: Mapping[str, PeerSpec] = {spec.name: spec for spec in _ALL}
