"""What a model folder has to hold, without a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sagerank.models.build import SHAPES
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig, alibi_slopes

from ..conftest import SMALL


def test_slopes_of_twelve_heads_are_in_checkpoint_order() -> None:
    expected = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]
    expected += [0.7071067812, 0.3535533906, 0.1767766953, 0.0883883476]
    assert alibi_slopes(12) == pytest.approx(expected, abs=1e-9)
    assert alibi_slopes(8) == pytest.approx(expected[:8])


@pytest.mark.parametrize(
    ("name", "parameters"), [("tiny", 33_046_273), ("turbo", 37_771_777), ("base", 137_369_089)]
)
def test_parameter_counts_are_the_published_ones(name: str, parameters: int) -> None:
    assert SHAPES[name].parameters == parameters


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"position_embedding_type": "absolute"}, "not 'alibi'"),
        ({"feed_forward_type": "original"}, "'geglu'"),
        (
            {"auto_map": {"AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel"}},
            "qk-post-norm",
        ),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 49}, "multiple"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"num_hidden_layers": 0}, "positive"),
    ],
)
def test_other_architectures_are_refused_by_name(
    changes: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SMALL.to_json(), **changes}))
    with pytest.raises(CheckpointError, match=sentence):
        JinaBertConfig.read(tmp_path)
