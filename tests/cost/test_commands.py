"""The command line: what stands for what, exit codes, and one sentence for bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank_cost.commands import WHAT

from ..conftest import run_python
from .conftest import FEW


def test_without_a_subcommand_it_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *FEW, "--rate", "0.5", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in shown["tables"]["comparison"]["rows"]} == {"turbo", "tiny", "base"}
    assert {row["on"] for row in shown["tables"]["comparison"]["rows"]} == {"CPU", "GPU", "serverless"}
    assert main(["cost", "--rate", "0.5", "report", *FEW, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown


def test_the_folder_is_a_command_too() -> None:
    code = "from sagerank_cost.__main__ import main; import sys; sys.exit(main(['report', '--region', 'us-est-1']))"
    done = run_python(code)
    assert done.returncode == 2
    assert done.stderr.startswith("cost: There is no region with known prices 'us-est-1'")


def test_the_default_report_loads_little() -> None:
    heavy = [
        "torch",
        "onnxruntime",
        "matplotlib",
        "boto3",
        "scipy",
        "hypothesis",
        "sagerank_cost.simulate",
        "sagerank_cost.refresh",
    ]
    code = f"import sys; from sagerank.cli import main; main(['cost']); print([name for name in {heavy!r} if name in sys.modules])"
    done = run_python(code)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stderr
    light = "import sys, sagerank_cost.commands, sagerank_cost.memory, sagerank_cost.catalogue; print([name for name in ('numpy', 'rich') if name in sys.modules])"
    assert run_python(light).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--region", "eu-west-9"], "did you mean eu-west-"),
        (["--instance", "ml.c7i.big"], "did you mean ml.c7i."),
        (["--model", "turb"], "did you mean turbo"),
        (["--precision", "fp8"], "There is no precision 'fp8'"),
        (["--mode", "real-time"], "did you mean realtime"),
        (["--service", "jina"], "did you mean jina-reranker"),
        (["--rate", "-3"], "The rate is -3 requests/s: give 1e-9 to 1e9"),
        (["--swing", "1.5"], "The swing is 1.5"),
        (["--p95", "0"], "The latency limit is 0 s"),
        (["--price", "ml.c7i.large"], "give NAME=USD"),
        (["--price", "ml.c7i.large=cheap"], "give US dollars as a number"),
        (["--price", "ml.c7i.large=-1"], "not below 0"),
        (["--max-monthly", "much"], "give US dollars as a number"),
        (["--format", "pdf"], "There is no format 'pdf'"),
        (["--data", "/nowhere"], "cannot be read"),
        (["--log", "/nowhere.csv"], "cannot be read"),
        (["--output", "/nowhere/report.txt"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [] if arguments[0] == "--instance" else FEW
    assert main(["cost", *few, *arguments]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_budget_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *FEW, "--rate", "0.5", "--max-monthly", "1"]) == 1
    assert "is above --max-monthly 1" in capsys.readouterr().err
    assert main(["cost", *FEW, "--rate", "0.5", "--max-monthly", "100000"]) == 0


def test_every_subcommand_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in WHAT:
        with pytest.raises(SystemExit) as ended:
            main(["cost", name, "--help"])
        assert ended.value.code == 0
        assert "SUPPRESS" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["text", "html"])
def test_it_runs_in_the_c_locale_without_a_home_in_a_folder_it_may_not_write(
    form: str, tmp_path: Path
) -> None:
    """Its rules and dashes are beyond ASCII, and matplotlib wants a folder for its caches."""
    log, path = tmp_path / "été.csv", os.pathsep.join(filter(None, sys.path))
    log.write_text("time,documents,tokens\n0,10,100\n90,10,100\n", encoding="utf-8")
    tmp_path.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-m", "sagerank_cost", "report", *FEW, "--p95", "9", "--log", log, "--format", form],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "HOME": os.devnull,
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
        },
        capture_output=True,
        check=False,
        timeout=120,
    )
    tmp_path.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    assert ("<svg" if form == "html" else "─────") in shown
    assert "été.csv" in shown
    assert list(tmp_path.iterdir()) == [log]
