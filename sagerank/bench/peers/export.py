"""An artefact's weights as the folder that peers load: float32 safetensors, tokenizer, class and padded ONNX graph.

Made once for each set of weights, with PyTorch's own exporter. int8 and 16-bit weights become float32, which changes no
value.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagerank_inference.artefact import Manifest
from sagerank_inference.checkpoint import JinaBertConfig

from ...models.extras import install
from .catalogue import PeerError
from .once import once

if TYPE_CHECKING:
    from torch import nn

MODELLING = ("dense.py", "modeling_jina_bert.py")
GRAPH = "onnx/model.onnx"
_HERE = Path(__file__).parent


def export(artefact: Path, cache: Path) -> Path:
    """The folder under `cache` for the weights of an artefact, made where it is missing.

    Raises PeerError where PyTorch or onnx is missing, and what reading the artefact raises.
    """
    manifest = Manifest.read(artefact)
    names = ("config.json", "model.safetensors", "tokenizer.json")
    parts = [manifest.files[name] for name in names if name in manifest.files]
    if len(parts) < len(names):
        raise PeerError(f"{artefact} does not hold the weights of one model: peers run one model at a time.")
    parts += [(_HERE / name).read_text(encoding="utf-8") for name in (*MODELLING, "export.py")]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return once(cache / "models" / key, lambda folder: _write(artefact, folder))


def _write(artefact: Path, folder: Path) -> None:
    try:
        import onnx  # noqa: F401 - PyTorch's exporter needs it, and says so late
        from safetensors.torch import save_file
    except ImportError as error:
        raise PeerError(
            f"Exporting weights for peers needs PyTorch and onnx ({error.name} is missing): {install('build')}."
        ) from None
    config = JinaBertConfig.read(artefact)
    model = _load(artefact, config)
    weights = {f"dense.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name in MODELLING:
        shutil.copyfile(_HERE / name, folder / name)
    shutil.copyfile(artefact / "tokenizer.json", folder / "tokenizer.json")
    _json(
        folder / "config.json",
        {
            **config.to_json(),
            "auto_map": {
                "AutoModelForSequenceClassification": "modeling_jina_bert.JinaBertForSequenceClassification"
            },
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
            "torch_dtype": "float32",
        },
    )
    # The published tokenizer_config.json says 512 tokens and a class that newer versions of transformers rebuild wrongly.
    padding = {"pad_token": _padding(artefact / "tokenizer.json")}
    _json(folder / "special_tokens_map.json", padding)
    _json(
        folder / "tokenizer_config.json",
        {
            **padding,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.max_position_embeddings,
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )
    _graph(model, folder / GRAPH)


def _load(artefact: Path, config: JinaBertConfig) -> nn.Module:
    import torch

    from sagerank_inference.checkpoint import SCALE, check_tensors
    from sagerank_inference.jina_bert import read_tensors

    from .dense import DenseJinaBert

    stored = read_tensors(artefact)
    tensors = {name: tensor.float() for name, tensor in stored.items() if not name.endswith(SCALE)}
    for name in tensors:
        if name + SCALE in stored:  # int8, with a scale for each row
            tensors[name] = tensors[name] * stored[name + SCALE][:, None]
    check_tensors(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    with torch.device("meta"):
        model = DenseJinaBert(config)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _graph(model: nn.Module, path: Path) -> None:
    import torch

    path.parent.mkdir()
    example = torch.ones(2, 5, dtype=torch.long)
    axes = {0: "batch", 1: "sequence"}
    with warnings.catch_warnings(), torch.inference_mode():
        # The newer exporter needs a package more; the published graphs of this family are of this one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example, example),
            str(path),
            dynamo=False,
            opset_version=17,  # from here on, LayerNormalization is one node
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}},
        )


def _padding(tokenizer: Path) -> str:
    """The token that pads. Which one it is does not matter, since it is masked; libraries want its name."""
    added: list[dict[str, Any]] = json.loads(tokenizer.read_text(encoding="utf-8"))["added_tokens"]
    names: list[str] = [token["content"] for token in added if token["special"]]
    for name in names:
        if "pad" in name.lower():
            return name
    if not names:
        raise PeerError("tokenizer.json has no special token to pad with, which every peer needs.")
    return names[0]


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
