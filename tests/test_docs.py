"""Documentation that cannot drift: what the pages say of files, modules, targets, commands, options, settings, dialects
and rooms is what there is.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import sagerank.distillation.commands
import sagerank.evaluation.commands
from docs import generated
from sagerank.cli import _parser
from sagerank_inference.contract import Scores, Timings
from sagerank_inference.dialects import DIALECTS, ROUTES, parse, render
from sagerank_inference.settings import Settings, SettingsError

from .conftest import ROOT
from .docs.commands import read
from .test_boundaries import ARROWS

# Not the changelog: it speaks of what was.
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        *ROOT.glob("*.md"),
        *(
            page
            for folder in ("cost", "docs", "inference", "infra", "notebooks", "requirements", "sagerank")
            for page in (ROOT / folder).rglob("*.md")
        ),
    )
    if path.name != "CHANGELOG.md"
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.M))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
API = (ROOT / "docs/api.md").read_text()
SERVER = (ROOT / "docs/server.md").read_text()
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_the_programs() -> None:
    shown = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", SERVER, re.S)
    assert shown
    assert shown[1] == generated.settings().split("\n\n")[-1].rstrip("\n")


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
    by_route = {"cohere-v2", "deepinfra", "tei-predict"}
    assert shown >= DIALECTS.keys() - by_route - {"csv"}
    assert "/v2/rerank" in API


def test_every_route_is_documented() -> None:
    for path in (*ROUTES, "/ping", "/metrics"):
        assert f"`{path}`" in SERVER or f"POST {path}`" in SERVER or f"GET {path}`" in SERVER, path


def code(page: str) -> Iterator[str]:
    """What a page shows as code: the lines of its blocks, and what stands between backticks."""
    blocks = r"^```.*?\n(.*?)^```"
    for block in re.findall(blocks, page, re.M | re.S):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(blocks, "", page, flags=re.M | re.S))


def anchors(page: str) -> set[str]:
    """The fragments that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", PAGES[name]):
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), link
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", PAGES)
def test_files_modules_and_extras_exist(name: str) -> None:
    # A decision may name what was tried and is not there.
    for text in code(PAGES[name].partition("**What was tried.**")[0]):
        rooms = r"(?<![\w./~-])((?:cost|docs|examples|inference|infra|notebooks|requirements|sagerank|tests|\.ci|\.github)/[\w./-]*)"
        for path in re.findall(rooms, text):
            assert (ROOT / path.rstrip(".")).exists(), text
        for module in re.findall(r"(?:^|python -P? ?-m )((?:sagerank|tests)[\w.]*\.\w+)(?: |$)", text):
            assert exists(module), text
        for extras in re.findall(r"sagerank\[([\w,-]+)\]", text):
            assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys(), text


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parent, _, last = name.rpartition(".")
    return hasattr(importlib.import_module(parent), last) or bool(importlib.util.find_spec(name))


@pytest.mark.parametrize(
    "name", [*PAGES, ".ci/run", *(path.relative_to(ROOT).as_posix() for path in WORKFLOWS)]
)
def test_make_targets_exist(name: str) -> None:
    shown = code(PAGES[name]) if name in PAGES else (ROOT / name).read_text(encoding="utf-8").splitlines()
    for text in shown:
        for line in re.findall(r"(?:^|- run: )\s*make ((?:[a-z][a-z0-9-]*(?: |$))+)", text):
            assert set(line.split()) <= TARGETS, text


def test_every_make_target_is_listed_by_make_help() -> None:
    described = set(re.findall(r"^([a-z0-9-]+):.*## \S", MAKEFILE, re.M))
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.M)
    assert phony
    assert described == TARGETS == set(phony[1].split())


def test_the_readme_opens_with_two_commands() -> None:
    first = re.search(r"```\w*\n(.*?)\n```", README, re.S)
    assert first
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make demo", "make test"]


def test_every_sagerank_command_in_the_docs_is_accepted() -> None:
    commands = [
        match
        for page in PAGES.values()
        for match in re.findall(
            r"^(?:\$ )?(?:\.venv\S*/bin/)?sagerank (?!\w+:)(.+)$", re.sub(r"\\\n\s*", "", page), re.M
        )
    ]
    assert commands
    for command in commands:
        read(command)


# Of other programs that the pages name.
OTHERS = {
    "--arch",
    "--cloudformation-execution-policies",
    "--every",
    "--output",
    "--provenance",
    "--require-approval",
    "--require-hashes",
    "--strict",
    "--user",
}


@pytest.mark.parametrize("name", PAGES)
def test_options_that_a_sentence_names_exist(name: str) -> None:
    def known(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    yield from known(sub)

    options = OTHERS | set(known(_parser()))
    for text in re.findall(r"`(--[a-z][a-z0-9-]*)[^`\n]*`", PAGES[name]):
        assert text in options


def test_the_architecture_page_shows_the_arrows_of_the_boundaries() -> None:
    page = PAGES["docs/architecture.md"]
    table = {
        room: set(re.findall(r"`([\w.]+)`", allowed))
        for room, allowed in re.findall(r"^\| `(sagerank[\w.]+)` \|.*\| ([^|]+) \|$", page, re.M)
    }
    assert table == ARROWS
    full = {re.split(r"[._]", room)[-1]: room for room in ARROWS}
    picture = {
        (above, below)
        for left, right in re.findall(r"^  (\w+)(?:\[.*?\])? --> (.+)$", page, re.M)
        for above in [left]
        for below in right.split(" & ")
    }
    assert {name for arrow in picture for name in arrow} == {"cli", *full}
    for above, below in picture:
        assert above == "cli" or full[below] in ARROWS[full[above]], (above, below)


@pytest.mark.parametrize("path", sorted((ROOT / "docs/adr").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_says_why_and_what_follows(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert re.match(rf"# {int(path.name[:4])}\. .+\n\n\d{{4}}-\d\d-\d\d", page)
    assert re.findall(r"^\*\*(.+)\.\*\*", page, re.M) == [
        "Context",
        "Decision",
        "Consequences",
        "What was tried",
    ]
    assert f"adr/{path.name}" in PAGES["docs/architecture.md"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_few_rights_and_pinned_actions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["steps"]
        for step in job["steps"]:
            assert "run" in step or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])
    steps = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps


def test_hooks_and_container_are_readable_and_call_make() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    commands = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    for command in (*commands, container["postCreateCommand"]):
        make, *targets = command.split()
        assert make == "make"
        assert set(targets) <= TARGETS


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
    assert re.search(rf"^## {re.escape(sagerank.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


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
        ("SAGERANK_PORT", "70000", "at most 65535"),
        ("SAGERANK_BATCH_TOKENS", "-1", "positive"),
        ("SAGERANK_REQUEST_SECONDS", "nan", "give a number"),
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
