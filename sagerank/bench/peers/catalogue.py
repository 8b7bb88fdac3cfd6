"""The peers: what each one is, the packages it is made of, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from ...evaluation import EvaluationError


class PeerError(EvaluationError):
    """A peer that cannot be run here; one sentence, listed in its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSpec:
    """A peer. Peers with equal requirements share an environment."""

    name: str
    precision: Literal["fp32", "int8"] = "fp32"
    # Has the options `device` and `precision`: it runs where --device says, in what sagerank computes in.
    on_device: bool = False
    by_default: bool = True  # among all of those on a CPU
    requirements: tuple[str, ...]  # pinned together, as pip takes them
    without: tuple[str, ...] = ()  # removed again after the installation
    runner: str  # loader of runner.py
    options: Mapping[str, str] = field(default_factory=dict)  # of the loader; {STEP} is that step's output
    steps: tuple[str, ...] = ()  # of prepare.py, in order


# Where a peer does not allow the newest of its parts, it has what pip resolves for it.
_fastembed = partial(
    PeerSpec, runner="fastembed", requirements=("fastembed==0.9.1", "onnxruntime==1.32.0", "onnx==1.23.2")
)
_sentence_transformers = partial(
    PeerSpec,
    runner="sentence-transformers",
    requirements=(
        "sentence-transformers[openvino]==6.2.0",
        "torch==2.13.0",
        "transformers==5.5.4",  # optimum-intel allows no newer one
        "optimum-intel==2.2.0",
        "openvino==2026.4.1",
        "nncf==3.4.0",
    ),
    # Comes with optimum-intel for its vision models, compiled for the registry's own build of PyTorch: beside any other
    # build, importing it fails, and transformers imports it wherever it lies.
    without=("torchvision",),
)
_sentence_transformers_onnx = partial(
    PeerSpec,
    runner="sentence-transformers",
    # The newest pair that pip resolves: optimum-onnx wants transformers below 4.58, sentence-transformers 6 wants 5.
    requirements=(
        "sentence-transformers[onnx]==5.7.0",
        "torch==2.13.0",
        "transformers==4.57.6",
        "optimum-onnx==0.1.0",
        "onnxruntime==1.32.0",
        "onnx==1.23.2",
    ),
)

_ALL = (
    # TextCrossEncoder.rerank on a custom model: padded ONNX graph, arrival order.
    _fastembed(name="fastembed", options={"file": "onnx/model.onnx"}),
    # CrossEncoder.predict, sorted by length in characters, fused attention.
    _sentence_transformers(name="sentence-transformers-torch", options={"backend": "torch"}, on_device=True),
    # CrossEncoder.predict through optimum-onnx, sorted by length in characters.
    _sentence_transformers_onnx(
        name="sentence-transformers-onnx", options={"backend": "onnx", "file": "onnx/model.onnx"}
    ),
    # CrossEncoder.predict through optimum-intel's export, sorted by length in characters.
    _sentence_transformers(
        name="sentence-transformers-openvino",
        options={"backend": "openvino", "file": "{openvino}/openvino/openvino_model.xml"},
        steps=("openvino",),
    ),
    # Its engine without the HTTP server (torch; its optimum engine does not load local folders), batches of 32.
    PeerSpec(
        name="infinity",
        requirements=(
            "infinity-emb[torch,optimum]==0.0.78",
            "torch==2.13.0",
            "transformers==4.57.6",
            "sentence-transformers==3.4.1",
        ),
        runner="infinity",
        options={"engine": "torch"},
    ),
    # A hand-written handler: padded batches of 32 in arrival order, fused attention with dense ALiBi.
    _sentence_transformers(name="transformers", runner="transformers", on_device=True),
    # As Text Embeddings Inference batches where it has no kernel without padding: sorted by length, up to 16,384 tokens with padding
    # at once, fused attention with dense ALiBi. Its own server is no Python package.
    _sentence_transformers(name="padded", runner="padded", on_device=True, by_default=False),
    # fastembed on its graph after onnxruntime's dynamic quantisation, a scale for each channel.
    _fastembed(
        name="fastembed-int8",
        precision="int8",
        options={"file": "{onnxruntime-int8}/onnx/model_int8.onnx"},
        steps=("onnxruntime-int8",),
    ),
    # Its own export_dynamic_quantized_onnx_model, for the instructions of this processor.
    _sentence_transformers_onnx(
        name="sentence-transformers-onnx-int8",
        precision="int8",
        options={"backend": "onnx", "file": "{onnx-int8}/onnx/model_int8.onnx"},
        steps=("onnx-int8",),
    ),
    # Static quantisation by NNCF, as its own export does it, calibrated on 200 pairs of real text.
    _sentence_transformers(
        name="sentence-transformers-openvino-int8",
        precision="int8",
        options={"backend": "openvino", "file": "{openvino-int8}/openvino/openvino_model.xml"},
        steps=("openvino", "openvino-int8"),
    ),
)
PEERS: Mapping[str, PeerSpec] = {spec.name: spec for spec in _ALL}
