"""Every file of examples/ does what its first lines say, against the real server on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagerank.models.build import MICRO, archive
from sagerank.models.local_server import Server, serving

from .conftest import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file())
RAIN = "Rain forms when moist air rises and cools"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(MICRO) as running:
        yield running


def run(*command: str, **variables: str) -> str:
    return run_in(EXAMPLES, *command, **variables)


def run_in(folder: Path, *command: str, **variables: str) -> str:
    """What a command prints, from a folder that is not the repository's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(name: str, *arguments: str, **variables: str) -> str:
    return run(sys.executable, "-W", "ignore", str(EXAMPLES / name), *arguments, **variables)


def test_reranking_puts_the_answer_into_the_prompt(server: Server) -> None:
    printed = python("rag.py", "what causes rain", server.url)
    first, best = re.findall(r"^First .*?:  (.+)$", printed, re.M)
    assert not first.startswith(RAIN)
    assert best.startswith(RAIN)
    assert printed.endswith("Question: what causes rain\n")


def test_many_queries_are_asked_at_once(server: Server) -> None:
    printed = python("asyncio_client.py", server.url)
    assert re.search(rf"what causes rain\n    0\.\d\d  {RAIN}", printed)
    assert re.search(r"hurricanes get their energy\n    \d\.\d\d  Hurricanes get", printed)


def test_an_error_of_one_query_is_a_line() -> None:
    assert "Unavailable: " in python("asyncio_client.py", "http://127.0.0.1:9")


def test_a_batch_file_is_answered_line_by_line(server: Server, tmp_path: Path) -> None:
    import httpx2

    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    python("batch.py", "write", str(requests))
    answers.write_bytes(
        httpx2.post(
            f"{server.url}/invocations",
            content=requests.read_bytes(),
            headers={"content-type": "application/jsonlines"},
            trust_env=False,
        ).content
    )
    printed = python("batch.py", "read", str(requests), str(answers))
    assert re.search(rf"^what causes rain\n    0\.\d\d  {RAIN}", printed)
    assert len(printed.splitlines()) == 9


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed here")
def test_curl_gets_four_dialects(server: Server) -> None:
    answers = run("bash", str(EXAMPLES / "curl.sh"), server.url).splitlines()[1::2]
    jina, cohere, tei, langchain = map(json.loads, answers)
    assert jina["results"][0]["index"] == cohere["results"][0]["index"] == tei[0]["index"] == 1
    assert langchain["scores"][1] == pytest.approx(tei[0]["score"])


def test_langchain_needs_no_code_of_ours(server: Server) -> None:
    pytest.importorskip("langchain_community")
    pytest.importorskip("langchain_classic")
    local = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": server.url, "NO_PROXY": "*"}
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    assert python("langchain_rag.py", **local, **keys).startswith(RAIN)


def test_a_cdk_app_of_ones_own_has_rerankers_in_its_stacks_and_stages(tmp_path: Path) -> None:
    """Run as the CDK's command runs it, in a folder that is not the repository's."""
    app = tmp_path / "app"
    shutil.copytree(EXAMPLES / "cdk", app)
    archive("micro", app / "model.tar.gz")
    command = json.loads((app / "cdk.json").read_text())["app"].replace("python3", sys.executable)
    told = {"CDK_OUTDIR": str(tmp_path / "out"), "CDK_VALIDATION": "false"}
    run_in(app, *command.split(), **told)

    assemblies = sorted((tmp_path / "out").rglob("*.template.json"))
    own = [path for path in assemblies if path.name != "search-pipeline.template.json"]
    assert len(own) == 3  # the service by itself, and in two stages
    named: list[str] = []
    for path in own:
        made: dict[str, Any] = json.loads(path.read_text())["Resources"]
        endpoints = [each for each in made.values() if each["Type"] == "AWS::SageMaker::Endpoint"]
        searching, nightly = sorted((each["Properties"]["EndpointName"] for each in endpoints), reverse=True)
        named += [searching, nightly]
        (function,) = [each for each in made.values() if each["Type"] == "AWS::Lambda::Function"]
        assert function["Properties"]["Environment"]["Variables"] == {"ENDPOINT": searching}
        (allowed,) = [each for id, each in made.items() if id.startswith("SearchServiceRoleDefaultPolicy")]
        (statement,) = allowed["Properties"]["PolicyDocument"]["Statement"]
        assert statement["Action"] == "sagemaker:InvokeEndpoint"
        assert json.dumps(statement["Resource"]).count(f"endpoint/{searching}") == 1
        assert sum(each["Type"] == "AWS::KMS::Key" for each in made.values()) == 1
    assert len(set(named)) == 6

    lint = "from cfnlint.runner import main; main()"
    run(sys.executable, "-c", lint, "-i", "W3005", "-t", *map(str, own))
    pinned = json.loads((ROOT / "package.json").read_text())["devDependencies"]["aws-cdk"]
    assert set(re.findall(r"aws-cdk@([\d.]+)", (app / "app.py").read_text())) == {pinned}


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.endswith((".py", ".sh"))])
def test_an_example_says_what_it_shows_and_how_to_run_it(name: str) -> None:
    head = (EXAMPLES / name).read_text(encoding="utf-8")[:1200]
    assert f"examples/{name}" in head
    assert re.match(r'"""[A-Z].+[.:]\n\n    |#!/usr/bin/env bash\n# [A-Z].+\n(# .+\n)*#\n#   ', head), head
