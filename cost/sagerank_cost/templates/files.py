"""JSON, TOML and YAML files as the mappings that they hold; YAML may have the short tags of CloudFormation, such as !Ref."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import CostError


def load(path: Path) -> dict[str, Any]:
    """The mapping in a file, read as its suffix says, or as JSON. Raises CostError where it cannot be read or holds none."""
    kind, read = _KINDS.get(path.suffix.lower(), ("JSON", json.loads))
    try:
        content = read(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CostError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CostError(f"{path} is not {kind}: it is not UTF-8 text.") from None
    except RecursionError:
        raise CostError(f"{path} is nested too deeply to be read.") from None
    except ValueError as error:
        raise CostError(f"{path} is not {kind}: {error}.") from None
    if not isinstance(content, dict):
        raise CostError(f"{path} is not a {kind} object: give one with names and values.")
    return content


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ValueError(
            "reading YAML takes PyYAML (pip install pyyaml), and JSON and TOML nothing"
        ) from None

    class Loader(yaml.SafeLoader):
        pass

    def intrinsic(loader: Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
        name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
        if isinstance(node, yaml.ScalarNode):
            return {name: loader.construct_scalar(node)}
        if isinstance(node, yaml.SequenceNode):
            return {name: loader.construct_sequence(node, deep=True)}
        assert isinstance(node, yaml.MappingNode)
        return {name: loader.construct_mapping(node, deep=True)}

    Loader.add_multi_constructor("!", intrinsic)
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


_KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    ".toml": ("TOML", tomllib.loads),
    ".yaml": ("YAML", _yaml),
    ".yml": ("YAML", _yaml),
}
