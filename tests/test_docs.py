"""Documentation that cannot drift: settings, dialects and commands in the pages are the program's."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from sagerank_inference.contract import Scores, Timings
from sagerank_inference.dialects import DIALECTS, parse, render
from sagerank_inference.server import _RERANK_PATHS
from sagerank_inference.settings import Settings, SettingsError

import sagerank.distillation.commands
import sagerank.evaluation.commands
from sagerank.cli import _parser

ROOT = Path(__file__).parent.parent
API = (ROOT / "docs/api.md").read_text()
SERVER = (ROOT / "docs/server.md").read_text()
README = (ROOT / "README.md").read_text()


def settings_table() -> str:
    """Rows made from the class: name, default, comment."""
    comments = dict(
        re.findall(r"^    (\w+): [^#\n]+#(?: noqa: \S+ -)? (.+)$", inspect.getsource(Settings), re.M)
    )
    raw = dict(re.findall(r"^    (\w+): [\w.]+ = (.+?)  #", inspect.getsource(Settings), re.M))
    rows = [
        f"| `SAGERANK_{field.name.upper()}` | {raw[field.name].removeprefix('Path(').rstrip(')').replace('_', '').strip(chr(34))} | {comments[field.name]} |"
        for field in fields(Settings)
    ]
    return "\n".join(["| variable | default | what |", "| --- | --- | --- |", *rows])


def test_the_settings_table_is_the_programs() -> None:
    shown = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", SERVER, re.S)
    assert shown
    assert shown[1] == settings_table()


@pytest.mark.parametrize("example", re.findall(r"```json\n(.*?)\n```", API, re.S), ids=lambda text: text[:30])
def test_every_example_of_the_api_page_is_answered(example: str) -> None:
    call = parse(example.encode(), "application/json")
    scores = [
        [
            Scores(tuple(map(float, range(len(g.documents)))), 1, (1,) * len(g.documents), Timings(0, 0, 0))
            for g in r.groups
        ]
        for r in call.requests
    ]
    json.loads(render(call, scores, model="m", request_id="r")[0])


def test_the_api_page_shows_every_dialect() -> None:
    shown = {
        parse(text.encode(), None).requests[0].dialect
        for text in re.findall(r"```json\n(.*?)\n```", API, re.S)
    }
    assert shown >= DIALECTS.keys() - {"cohere-v2"}
    assert "/v2/rerank" in API


def test_every_route_is_documented() -> None:
    for path in (*_RERANK_PATHS, "/ping", "/metrics"):
        assert path in SERVER


def test_the_readme_opens_with_two_commands_that_exist() -> None:
    first = re.search(r"```\w*\n(.*?)\n```", README, re.S)
    assert first
    commands = [line.split("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "test-env", "lint", "types", "bench", "synth"):
        assert re.search(rf"^{target}:", makefile, re.M)


def test_every_sagerank_command_in_the_docs_parses() -> None:
    pages = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    commands = [
        match
        for page in pages
        for match in re.findall(r"^(?:\$ )?(?:\.venv\S*/bin/)?sagerank (.+)$", page, re.M)
    ]
    assert commands
    import shlex

    for command in commands:
        _parser().parse_args(shlex.split(command.split(" < ")[0].split(" | ")[0], comments=True))


def test_every_option_of_eval_and_distil_is_explained() -> None:
    page = (ROOT / "docs/evaluation.md").read_text()
    parser = argparse.ArgumentParser()
    sagerank.evaluation.commands.add(parser.add_subparsers())
    (group,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for option in group.choices["eval"]._option_string_actions:
        assert option in page or option in ("-h", "--help"), option
    configured = argparse.ArgumentParser()
    sagerank.distillation.commands.configure(configured)
    assert all(action.help for action in configured._actions)


def test_version_and_changelog_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_settings_survive_the_environment() -> None:
    settings = Settings(model_dir=Path("/x"), threads=3, request_seconds=1.5, port=9)
    assert Settings.from_env(settings.to_env()) == settings
    assert Settings.from_env({"SAGEMAKER_BIND_TO_PORT": "9000"}).port == 9000
    assert Settings.from_env({"SAGEMAKER_MODEL_SERVER_WORKERS": "64"}).threads == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SAGERANK_PROT", "1", "did you mean SAGERANK_PORT"),
        ("SAGERANK_PORT", "http", "give a whole number"),
        ("SAGERANK_PORT", "70000", "up to 65535"),
        ("SAGERANK_BATCH_TOKENS", "-1", "positive"),
        ("SAGERANK_REQUEST_SECONDS", "nan", "positive"),
        ("SAGERANK_BACKEND", "tf", "onnx or torch"),
        ("SAGERANK_DEVICE", "tpu", "cpu, cuda"),
        ("SAGERANK_DEVICE", "cuda", "SAGERANK_BACKEND=torch"),
        ("SAGERANK_QUERY_TOKENS", "8190", "leaves no room"),
    ],
)
def test_wrong_settings_are_one_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        Settings.from_env({name: value})
    assert name in str(caught.value)
