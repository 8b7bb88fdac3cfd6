"""Every command where something is missing or wrong: a sentence and exit code 2, never a traceback."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from sagerank.cli import _parser

from ..conftest import ROOT, needs

SOURCES = (ROOT, ROOT / "inference", ROOT / "cost", ROOT / "infra")


def leaves(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The words of each command, and its parser. `bench` alone shows help; `cost` alone is a report."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if words:
        yield " ".join(words), parser
    for group in groups:
        for name, sub in group.choices.items():
            yield from leaves(sub, *words, name)


PARSER = _parser()
COMMANDS = dict(leaves(PARSER))
# What to give each so that it works where all is well, or as far as there are no credentials. FILE, FOLDER and PORT are made.
CALLS = {
    "demo": "",
    "serve": "--port PORT",
    "proxy": "--endpoint none --region us-east-1 --port PORT",
    "rerank": "--sample query",
    "build": "--output FOLDER/model.tar.gz",
    "doctor": "",
    "completion": "bash",
    "bench": "",
    "bench throughput": "--model tiny --rounds 1",
    "bench latency": "--model tiny --calls 1",
    "bench memory": "--tokens 8",
    "bench startup": "--model tiny --repeats 1",
    "bench serve": "--model tiny",
    "bench profile": "--model tiny --rounds 1",
    "eval": "--data scifact",
    "cost": "--format text",
    "cost report": "--output FOLDER/cost.html --format html",
    "cost fit": "",
    "cost compare": "--model tiny",
    "cost simulate": "--minutes 60 --model tiny",
    "cost breakeven": "--model tiny",
    "cost diff": "FOLDER/old.json FOLDER/new.json",
    "cost refresh": "--region us-east-1",
    "cost measure": "--endpoint none --instance ml.c7i.large --model tiny",
    "distil": "--recipe FOLDER/recipe.json",
    "deploy": "--model micro --instance ml.c7i.large --yes",
    "connect": "opensearch --endpoint name",
    "verify": "--region us-east-1",
    "status": "--region us-east-1",
    "idle": "--region us-east-1",
    "transform": "--input FILE --instance ml.c7i.large --region us-east-1",
    "destroy": "--region us-east-1 --yes",
    "policies": "--model micro --instance ml.c7i.large --region us-east-1",
    "template": "--model micro --instance ml.c7i.large",
}
# The extra that a command names where nothing but the base is installed. The others need none, or not for such a call.
EXTRAS = {
    "demo": "cpu",
    "serve": "cpu",
    "proxy": "proxy",
    "rerank": "cpu",
    "bench throughput": "bench",
    "bench latency": "bench",
    "bench memory": "eval",
    "bench startup": "bench",
    "bench serve": "bench",
    "bench profile": "bench",
    "eval": "eval",
    **{name: "cost" for name in COMMANDS if name.startswith("cost")},
    "distil": "distil",
    "deploy": "infra",
    "policies": "infra",
    "template": "infra",
}
# Exit codes that are an answer: help, an artefact, a script, and a doctor who finds something.
ANSWERS = {"bench": 0, "build": 0, "completion": 0, "connect": 0, "doctor": 1}

# Runs each command and tells its exit code on standard error, behind what it said there itself.
RUN = """
import json, sys, traceback
from sagerank.cli import main
for words in json.loads(sys.argv[1]):
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    except BaseException:
        code = traceback.format_exc()
    sys.stdout.flush()
    print("\\0" + json.dumps(code), end="\\0", file=sys.stderr, flush=True)
"""


def test_every_command_is_called_here() -> None:
    assert COMMANDS.keys() == CALLS.keys()


def run_all(python: Path, folder: Path, env: dict[str, str]) -> dict[str, tuple[int | str, str]]:
    """Command -> its exit code, or traceback, and what it said on standard error."""
    (folder / "requests.jsonl").write_text("{}\n")
    quiet = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
        "AWS_EC2_METADATA_DISABLED": "true",
        "HF_HUB_OFFLINE": "1",
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = {
            "FILE": f"{folder}/requests.jsonl",
            "FOLDER": str(folder),
            "PORT": str(taken.getsockname()[1]),
        }
        calls = [
            re.sub("FILE|FOLDER|PORT", lambda found: given[found[0]], f"{name} {call}").split()
            for name, call in CALLS.items()
        ]
        done = subprocess.run(
            [python, "-P", "-c", RUN, json.dumps(calls)],
            cwd=folder,
            env={**quiet, **env},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=500,
        )
    said = done.stderr.decode("utf-8", "replace").split("\0")
    assert done.returncode == 0, said[-1]
    return {
        name: (json.loads(code), text)
        for name, text, code in zip(CALLS, said[0::2], said[1::2], strict=False)
    }


def base_install(folder: Path, *, with_metadata: bool) -> Path:
    """The interpreter of an environment that holds what `pip install sagerank` brings, and nothing else."""
    venv.create(folder, symlinks=os.name == "posix")
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    wanted, seen = ["sagerank"], set[str]()
    while wanted:
        name = wanted.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another system or Python
            continue
        if name in seen:
            continue
        seen.add(name)
        wanted += [
            found[0]
            for line in distribution.requires or ()
            if "extra ==" not in line and (found := re.match(r"[\w.-]+", line))
        ]
        for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            own = name == "sagerank" and (not with_metadata or not top.endswith(".dist-info"))
            if not own and not (packages / top).exists():
                (packages / top).symlink_to(str(distribution.locate_file(top)))
    return Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)})) / "python"


@pytest.mark.parametrize("with_metadata", [True, False], ids=["installed", "sources alone"])
def test_every_command_with_every_extra_missing(with_metadata: bool, tmp_path: Path) -> None:
    python = base_install(tmp_path / "base", with_metadata=with_metadata)
    answers = run_all(python, tmp_path, {"HOME": str(tmp_path)})
    assert answers.keys() == CALLS.keys()
    for name, (code, said) in answers.items():
        assert code == ANSWERS.get(name, 2), (name, code, said)
        assert len(said.splitlines()) == (code == 2), (name, said)
        if name in EXTRAS and with_metadata:
            assert f"[{EXTRAS[name]}]'" in said, (name, said)


@needs("torch")
def test_every_command_without_network_and_home_in_the_c_locale(tmp_path: Path) -> None:
    harsh = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/proc/self"}
    offline = os.pathsep.join(map(str, (ROOT / "tests/offline", *SOURCES)))
    answers = run_all(
        Path(sys.executable), tmp_path, {**harsh, "TMPDIR": str(tmp_path), "PYTHONPATH": offline}
    )
    assert answers.keys() == CALLS.keys()
    for name, (code, said) in answers.items():
        assert code in (0, 2), (name, code, said)
        assert code == 0 or said.splitlines()[-1].startswith("sagerank: "), (name, said)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_misspelt(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in COMMANDS[name]._option_string_actions:
        if not option.startswith("--"):
            continue
        for wrong in (option[:-1] + "qq", option[:4] + option[3:]):
            with pytest.raises(SystemExit) as ended:
                PARSER.parse_args([*name.split(), wrong, "1"])
            said = capsys.readouterr().err
            assert ended.value.code == 2
            assert f"there is no option {wrong}: did you mean " in said
            assert option in said.split("did you mean")[1], said
            assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_misspelt(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    *above, last = name.split()
    with pytest.raises(SystemExit) as ended:
        PARSER.parse_args([*above, last + last[-1]])
    assert ended.value.code == 2
    assert f"did you mean {last}" in capsys.readouterr().err
