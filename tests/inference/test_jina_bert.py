"""The model against the formulas, written out densely here, and the loader against every way a checkpoint can
be wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sagerank.models import graph
from sagerank_inference import jina_bert
from sagerank_inference.artefact import ArtefactError, GoldenPair, Manifest
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig, alibi_slopes, tensor_shapes
from sagerank_inference.onnx_model import OnnxModel
from sagerank_inference.torch_model import TorchModel

from ..conftest import SMALL, random_model


def naive_logit(
    weights: dict[str, Tensor], config: JinaBertConfig, ids: Tensor, segments: Tensor | int = 0
) -> float:
    """One pair [S], every layer for every token, every bias and probability matrix whole. From the formulas,
    in float32.
    """
    n, eps = config.num_attention_heads, config.layer_norm_eps
    d = config.hidden_size // n

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = weights["bert.embeddings.word_embeddings.weight"][ids]
    x = norm(
        x + weights["bert.embeddings.token_type_embeddings.weight"][segments], "bert.embeddings.LayerNorm"
    )
    place = torch.arange(len(ids))
    distance = (place[:, None] - place[None, :]).abs().float()
    for i in range(config.num_hidden_layers):
        layer = f"bert.encoder.layer.{i}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value")
        )
        heads = []
        for head, slope in enumerate(alibi_slopes(n)):
            columns = slice(head * d, (head + 1) * d)
            scores = query[:, columns] @ key[:, columns].T / math.sqrt(d) - slope * distance
            heads.append(torch.softmax(scores, dim=-1) @ value[:, columns])
        attended = linear(torch.cat(heads, dim=-1), f"{layer}.attention.output.dense")
        x = norm(attended + x, f"{layer}.attention.output.LayerNorm")
        both = x @ weights[f"{layer}.mlp.gated_layers.weight"].T
        gate, up = both[:, : config.intermediate_size], both[:, config.intermediate_size :]
        gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
        x = norm(linear(gelu * up, f"{layer}.mlp.wo") + x, f"{layer}.mlp.layernorm")
    pooled = torch.tanh(linear(x[0], "bert.pooler.dense"))
    return float(linear(pooled, "classifier"))


def ids_of(length: int) -> Tensor:
    return torch.randint(0, SMALL.vocab_size, (length,), generator=torch.Generator().manual_seed(length))


# Around the block sizes of both implementations.
LENGTHS = (1, 2, 3, 127, 128, 129, 257, 767, 768, 769, 1025, 2048)


@pytest.fixture(scope="module")
def naive() -> dict[int, float]:
    weights = {name: tensor.detach() for name, tensor in random_model().state_dict().items()}
    return {length: naive_logit(weights, SMALL, ids_of(length)) for length in LENGTHS}


@pytest.mark.parametrize("length", LENGTHS)
def test_torch_and_onnx_equal_the_dense_formulas(
    length: int, naive: dict[int, float], small_folder: Path
) -> None:
    pair = [ids_of(length).tolist()]
    assert TorchModel(small_folder, device="cpu", threads=2)(pair)[0] == pytest.approx(
        naive[length], abs=1e-5
    )
    assert OnnxModel(small_folder, threads=2)(pair)[0] == pytest.approx(naive[length], abs=1e-5)


def test_the_full_context_equals_the_dense_formulas(tmp_path: Path) -> None:
    """With few heads and layers: the formulas need 8,192 x 8,192 probabilities of each."""
    model = random_model(replace(SMALL, num_hidden_layers=2, num_attention_heads=3))
    jina_bert.save(model, tmp_path, torch.float32)
    graph.write(tmp_path)
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    expected = pytest.approx(naive_logit(weights, model.config, ids_of(8192)), abs=1e-5)
    pair = [ids_of(8192).tolist()]
    assert TorchModel(tmp_path, device="cpu", threads=2)(pair)[0] == expected
    assert OnnxModel(tmp_path, threads=2)(pair)[0] == expected


@pytest.mark.parametrize("lengths", [(1, 1), (5, 129, 64), (769, 3, 400, 1), (2048, 2047, 10), (128,) * 9])
def test_a_batch_scores_as_its_pairs_alone(lengths: tuple[int, ...], small_folder: Path) -> None:
    pairs = [ids_of(length).tolist() for length in lengths]
    for model in (TorchModel(small_folder, device="cpu", threads=2), OnnxModel(small_folder, threads=2)):
        alone = [model([pair])[0] for pair in pairs]
        assert model(pairs) == pytest.approx(alone, abs=1e-5)


def test_a_far_key_that_weighs_is_read(tmp_path: Path) -> None:
    """A window is no guess: a token whose key is so large that it outweighs its distance is not left out."""
    model = random_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name == "bert.embeddings.LayerNorm.weight":
                weight.fill_(1.0)
            elif name.endswith(("attention.self.key.weight", "attention.self.query.weight")):
                weight.mul_(6)
    jina_bert.save(model, tmp_path, torch.float32)
    graph.write(tmp_path)
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    ids = ids_of(1500)
    near = ids.clone()
    near[1400] = (near[1400] + 1) % SMALL.vocab_size
    logits = OnnxModel(tmp_path, threads=2)([ids.tolist(), near.tolist()])
    expected = [naive_logit(weights, SMALL, pair) for pair in (ids, near)]
    assert logits == pytest.approx(expected, abs=2e-4)
    assert abs(expected[0] - expected[1]) > 1e-3, "the far token changes the score of token 0"


def test_padding_ids_do_not_matter(small_folder: Path) -> None:
    """The checkpoints disagree with their tokenizer about the padding id."""
    model = jina_bert.load(small_folder)
    ids, lengths = torch.zeros(1, 20, dtype=torch.int64), torch.tensor([7])
    ids[0, :7] = ids_of(7)
    other = ids.clone()
    other[0, 7:] = 123
    with torch.inference_mode():
        assert model(ids, lengths) == model(other, lengths)


def _write(folder: Path, tensors: dict[str, Tensor], **changes: object) -> None:
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**SMALL.to_json(), **changes}))


@pytest.fixture
def tensors(small_folder: Path) -> dict[str, Tensor]:
    return load_file(small_folder / "model.safetensors")


def _logit(folder: Path) -> float:
    with torch.inference_mode():
        return float(jina_bert.load(folder)(ids_of(50)[None], torch.tensor([50])))


def test_loads_every_form_a_checkpoint_comes_in(
    tensors: dict[str, Tensor], small_folder: Path, tmp_path: Path
) -> None:
    expected = _logit(small_folder)
    _write(tmp_path, {name.removeprefix("bert."): tensor for name, tensor in tensors.items()})
    assert _logit(tmp_path) == pytest.approx(expected, abs=1e-5), "without the prefix bert."
    renamed = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): t for n, t in tensors.items()}
    _write(tmp_path, {**renamed, "bert.embeddings.position_ids": torch.arange(4)}, num_labels=2)
    assert _logit(tmp_path) == pytest.approx(expected, abs=1e-5), (
        "old names, a stray buffer and a config with two labels"
    )
    _write(tmp_path, {name: tensor.bfloat16() for name, tensor in tensors.items()})
    assert jina_bert.load(tmp_path).classifier.weight.dtype is torch.float32
    assert _logit(tmp_path) == pytest.approx(expected, abs=0.5)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    assert _logit(tmp_path) == pytest.approx(expected, abs=1e-5), "from a .bin"


@pytest.mark.parametrize("zipped", [True, False])
def test_buffers_beside_the_weights_are_left_out(
    tensors: dict[str, Tensor], small_folder: Path, tmp_path: Path, zipped: bool
) -> None:
    """As the original code saves them, where it registers them as persistent."""
    buffers = {
        "bert.encoder.alibi": torch.zeros(1, 4, 8, 8),
        "bert.embeddings.position_ids": torch.arange(4),
        "bert.embeddings.token_type_ids": torch.zeros(1, 4),
    }
    _write(tmp_path, {**tensors, **buffers})
    assert _logit(tmp_path) == pytest.approx(_logit(small_folder), abs=1e-5)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors | buffers, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert _logit(tmp_path) == pytest.approx(_logit(small_folder), abs=1e-5)


class _Code:
    """What a pickle runs when it is read, if anybody lets it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_is_not_tensors_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    _write(tmp_path, tensors)
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "pytorch_model.bin"
    for content in (
        {"bert.x": Path("/")},
        {"bert.x": _Code(tmp_path / "ran")},
        [1],
        {"state_dict": tensors},
        {1: 2},
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=r"take the model's safetensors, or save it so"):
            jina_bert.load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_a_sentence(
    tensors: dict[str, Tensor], tmp_path: Path, zipped: bool
) -> None:
    _write(tmp_path, tensors)
    torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    for name in ("model.safetensors", "pytorch_model.bin"):
        whole = (tmp_path / name).read_bytes()
        for spoilt in (whole[: len(whole) // 2], whole[:7], whole[:-1], b"", b"\xff" * 100, b"\x80\x02" * 50):
            (tmp_path / name).write_bytes(spoilt)
            with pytest.raises(CheckpointError, match=f"{name} (cannot be read|is damaged)") as caught:
                jina_bert.load(tmp_path)
            assert "\n" not in str(caught.value)
        (tmp_path / name).unlink()
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="in several parts .*: save them in one file"):
        jina_bert.load(tmp_path)


def test_wrong_tensors_are_named(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    missing = {n: t for n, t in tensors.items() if "mlp.wo.bias" not in n}
    _write(tmp_path, missing)
    with pytest.raises(CheckpointError, match=r"missing bert\.encoder\.layer\.0\.mlp\.wo\.bias"):
        jina_bert.load(tmp_path)
    _write(tmp_path, {**tensors, "bert.extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"unexpected bert\.extra\.weight"):
        jina_bert.load(tmp_path)
    _write(tmp_path, {**tensors, "classifier.bias": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"classifier\.bias has shape \[2\] instead of \[1\]"):
        jina_bert.load(tmp_path)


def test_qk_post_norm_tensors_are_refused_by_name(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """Its gate order is the reverse, and it would load without a shape error."""
    _write(tmp_path, {**tensors, "bert.encoder.layer.0.attention.self.layer_norm_q.weight": torch.zeros(48)})
    with pytest.raises(CheckpointError, match="qk-post-norm"):
        jina_bert.load(tmp_path)


def test_folders_without_a_model_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        jina_bert.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        jina_bert.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SMALL.to_json()))
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        jina_bert.load(tmp_path)


@pytest.mark.parametrize("length", [1, 129, 2048])
def test_16_bit_weights_score_near_float32(length: int, tmp_path: Path) -> None:
    sharp = random_model()
    for parameter in sharp.parameters():  # so that what differs is the arithmetic
        parameter.data = parameter.data.bfloat16().float()
    jina_bert.save(sharp, tmp_path, torch.bfloat16)
    ids, lengths = torch.stack([ids_of(length)] * 2), torch.tensor([length, max(1, length - 7)])
    with torch.inference_mode():
        exact, half, brain = (
            jina_bert.load(tmp_path, dtype)(ids, lengths)
            for dtype in (torch.float32, torch.float16, torch.bfloat16)
        )
    assert 0 < (half - exact).abs().max() < 0.01
    assert 0 < (brain - exact).abs().max() < 0.1


def test_save_then_load_is_the_same_model_with_the_same_bytes(small_folder: Path, tmp_path: Path) -> None:
    model = jina_bert.load(small_folder)
    for name in ("a", "b"):
        jina_bert.save(model, tmp_path / name, torch.float32)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert _logit(tmp_path / "a") == pytest.approx(_logit(small_folder), abs=1e-5)
    assert set(load_file(tmp_path / "a/model.safetensors")) == set(tensor_shapes(SMALL))


def golden_manifest(golden: Sequence[float]) -> Manifest:
    pairs = tuple(GoldenPair("q", "d", logit) for logit in golden)
    return Manifest(
        model="m", revision=None, dtype="F32", parameters=1, max_tokens=8192, files={}, golden=pairs
    )


def test_bfloat16_is_judged_by_the_spread_of_the_logits(tmp_path: Path) -> None:
    """A head ten times as steep is no worse a model, and drifts ten times as far."""
    pairs = [ids_of(length).tolist() for length in (12, 13, 31, 725)]
    jina_bert.save(random_model(), tmp_path, torch.float32)
    model, rounded = jina_bert.load(tmp_path), jina_bert.load(tmp_path, torch.bfloat16)

    def logits(model: jina_bert.JinaBert) -> Tensor:
        with torch.inference_mode():
            return torch.cat([model(torch.tensor([pair]), torch.tensor([len(pair)])) for pair in pairs])

    exact, drift = logits(model), logits(rounded) - logits(model)
    steep = 0.25 / drift.abs().max()
    manifest = golden_manifest((steep * exact).tolist())
    manifest.check_golden((steep * (exact + drift)).tolist(), manifest.bfloat16_tolerance)
    with pytest.raises(ArtefactError, match="golden pairs"):
        manifest.check_golden((steep * (exact + drift)).tolist(), 0.1)
    layers: Any = model.bert.encoder["layer"]
    for layer in layers:
        gated = layer.mlp["gated_layers"].weight
        gated.data = gated.data.roll(SMALL.intermediate_size, 0)
    with pytest.raises(ArtefactError, match="golden pairs"):
        manifest.check_golden((steep * logits(model)).tolist(), manifest.bfloat16_tolerance)
    assert golden_manifest([1.0, 1.2, 1.1]).bfloat16_tolerance == 0.1
    assert golden_manifest([-3.0, 7.0]).bfloat16_tolerance == pytest.approx(1.5)
