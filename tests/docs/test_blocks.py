"""Every block of every page is run, or read by what would read it, or says why not: `<!-- not run: ... -->`
before it, or `<!-- run by tests/... -->`, a test that reads that page.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs import diagram
from sagerank.models.build import MICRO
from sagerank.models.local_server import Server, serving
from sagerank.operate.deploy import want
from sagerank_infra.options import ConfigError

from ..conftest import ROOT
from ..test_docs import PAGES, PROJECT, TARGETS
from .blocks import Block, blocks
from .commands import read

# Pages whose blocks are run from the first to the last: tests/docs/test_quickstart.py.
RUN = {"docs/quickstart.md"}
BLOCKS = [(name, block) for name in PAGES for block in blocks(PAGES[name])]
PYTHON = [(name, block) for name, block in BLOCKS if block.language == "python"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(MICRO) as running:
        yield running


def run_by(name: str, mark: str) -> bool:
    """Whether the test that a mark names is there, and is about this page."""
    test = ROOT / mark.removeprefix("run by ")
    return test.is_file() and Path(name).name in test.read_text(encoding="utf-8")


def checked(name: str, block: Block) -> bool:
    """Whether something here runs the block, or reads it as its reader would."""
    match block.language:
        case "python":
            return True  # below
        case "json":
            return json.loads(block.text) is not None
        case "yaml":
            return isinstance(yaml.safe_load(block.text), dict)
        case "mermaid":
            return diagram.svg(block.text).startswith("<svg")
        case "sh":
            return all(map(known, block.commands)) or name in RUN
    return name in RUN


def known(command: str) -> bool:
    """Whether a shell line calls what is there: our commands with options they take, targets, modules, extras."""
    words = shlex.split(re.split(r" (?:\||<|>|&) | &$", command)[0])
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    program, arguments = re.sub(r"^\.venv[\w.-]*/bin/", "", words[0]), words[1:]
    if program == "sagerank":
        read(shlex.join(arguments))
        return True
    if program == "make":
        return {word for word in arguments if "=" not in word} <= TARGETS
    if program in ("python", "python3") and "-m" in arguments:
        module = arguments[arguments.index("-m") + 1]
        files = [word.split("::")[0] for word in arguments if word.startswith("tests/")]
        return importlib.util.find_spec(module) is not None and all((ROOT / file).exists() for file in files)
    if program == "pip":
        extras = {
            extra
            for word in words
            for extra in re.findall(r"sagerank\[(.*)\]|\.\[(.*)\]", word)
            for extra in extra
        }
        named = {part for extra in extras for part in extra.split(",") if part}
        return (
            bool(extras or "sagerank" in command)
            and named <= PROJECT["project"]["optional-dependencies"].keys()
        )
    return program in {"cut", "ls", "printf", "."}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_run_or_marked(name: str) -> None:
    for block in blocks(PAGES[name]):
        assert (
            run_by(name, block.mark)
            if block.mark.startswith("run by ")
            else block.mark or checked(name, block)
        ), f"{name}: mark this block, or let a test run it:\n{block.text}"


@pytest.mark.parametrize(("name", "block"), PYTHON, ids=[f"{name}-{n}" for n, (name, _) in enumerate(PYTHON)])
def test_python_blocks_run(
    name: str, block: Block, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if block.mark:
        pytest.skip(block.mark)
    monkeypatch.chdir(tmp_path)
    # SageMaker's runtime is this machine's server, which answers under any endpoint's name.
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "any")
    monkeypatch.setenv("NO_PROXY", "*")
    code = block.text.replace("http://localhost:8080", server.url)
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


def test_configurations_on_pages_are_accepted(tmp_path: Path) -> None:
    shown = [block for name, block in BLOCKS if block.language == "yaml" and not block.mark]
    assert shown
    for block in shown:
        file = tmp_path / "deploy.yaml"
        file.write_text(block.text)
        assert want(file, {"artefact": "s3://bucket/model.tar.gz"}).config.model


def test_a_command_that_would_be_refused_is_refused_here() -> None:
    with pytest.raises(ConfigError, match="give one of micro"):
        read("deploy --model student.tar.gz --mode realtime --instance ml.c7i.large --dry-run")
    with pytest.raises(SystemExit):
        read('status "$NAME" --modle tiny 2> file')


def test_a_block_that_nothing_runs_is_refused() -> None:
    (block,) = blocks("```sh\nrm -rf folder\n```\n")
    assert not checked("page.md", block)
    (marked,) = blocks("<!-- not run: needs AWS -->\n```sh\nnpx cdk deploy\n```\n")
    assert marked.mark == "not run: needs AWS"
