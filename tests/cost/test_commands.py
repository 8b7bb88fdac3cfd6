"""The command line: what stands for what, exit codes, and one sentence for bad input."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank_cost.arguments import EXAMPLES, WHAT, given, read
from sagerank_cost.commands import configure
from sagerank_cost.options import OPTIONS, PRICED

from ..conftest import ROOT, run_python
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


def test_options_stand_before_a_subcommand_and_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for words in (
        ["--model", "tiny", "compare", "--model", "base"],
        ["compare", "--model", "tiny", "--model", "base"],
    ):
        assert main(["cost", *words, *FEW, "--rate", "0.5", "--p95", "60", "--format", "json"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    rows = json.loads(shown[0])["tables"]["deployments"]["rows"]
    assert {"tiny", "base"} == {row["model"] for row in rows}


def test_a_default_that_is_given_counts_as_given(capsys: pytest.CaptureFixture[str]) -> None:
    """int8 is priced when it is asked for, and fp32 alone where only that is."""
    assert (
        main(["cost", "--model", "turbo", "--model", "tiny", "--model", "base", *FEW, "--format", "json"])
        == 0
    )
    asked = capsys.readouterr().out
    assert main(["cost", *FEW, "--format", "json"]) == 0
    assert capsys.readouterr().out == asked
    assert main(["cost", "--rate", "1.0", "--log", "x.csv"]) == 2
    assert "--log stands in place of --rate" in capsys.readouterr().err


def test_fit_takes_several_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "fit", "--model", "base", "--model", "tiny", "--format", "json"]) == 0
    both = json.loads(capsys.readouterr().out)
    for model in ("base", "tiny"):
        assert main(["cost", "fit", "--model", model, "--format", "json"]) == 0
        alone = json.loads(capsys.readouterr().out)
        rows = [row for row in both["tables"]["fit"]["rows"] if row["model"] == model]
        assert sorted(map(str, rows)) == sorted(map(str, alone["tables"]["fit"]["rows"]))
        assert alone["conclusion"][0] in both["conclusion"]
        assert alone["tables"]["memory"] == both["tables"]["memory"]


# Nothing answers within a thousandth of a second; data has no known price in us-west-2.
IMPOSSIBLE = [*FEW, "--p95", "0.001"]
UNPRICED = ["--region", "us-west-2", "--mode", "realtime", "--instance", "ml.c8g.large", "--model", "tiny", "--rate", "0.05", "--documents", "10"]  # fmt: skip


@pytest.mark.parametrize("command", PRICED)
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([*FEW, "--rate", "0.5"], 0, ""),
        ([*FEW, "--rate", "0.5", "--max-monthly", "100000"], 0, ""),
        ([*FEW, "--rate", "0.5", "--max-monthly", "1"], 1, "USD a month is above --max-monthly 1."),
        (IMPOSSIBLE, 2, "Nothing meets the limits"),
        ([*IMPOSSIBLE, "--max-monthly", "100000"], 2, "Nothing meets the limits"),
        ([*FEW, "--min-ndcg", "99", "--max-monthly", "1"], 2, "Nothing meets the limits"),
        (UNPRICED, 0, ""),
        ([*UNPRICED, "--max-monthly", "1000"], 2, "whether it is within --max-monthly 1,000 cannot be said"),
        ([*UNPRICED, "--max-monthly", "1"], 1, "is above --max-monthly 1."),
    ],
)
def test_a_budget_is_an_exit_code(
    command: str, words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    days = ["--minutes", "1440"] if command == "simulate" else []
    assert main(["cost", command, *words, *days]) == code
    shown = capsys.readouterr()
    assert shown.out, "whatever the code, the report is printed"
    assert sentence in shown.err
    assert bool(sentence) == bool(shown.err)


@pytest.mark.parametrize("program", ["sagerank", "sagerank_cost"])
def test_a_reader_that_leaves_and_a_full_disk(program: str) -> None:
    words = [sys.executable, "-m", program, *(["cost"] if program == "sagerank" else []), "fit"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        f"{words[2].removeprefix('sagerank_')}: Standard output cannot be written: No space left on device."
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        assert left.stdout
        assert left.stderr
        left.stdout.close()
        assert left.wait(60) == 0
        assert left.stderr.read() == b""


def test_what_aws_is_not_even_asked_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    measure = ["measure", "--endpoint", "e", "--instance", "ml.c7i.large", "--model", "tiny"]
    for words in (["refresh"], [*measure, "--region", "us-east-1"]):
        assert main(["cost", *words]) == 2
        assert (
            "AWS cannot be asked: The config profile (nobody) could not be found" in capsys.readouterr().err
        )
    monkeypatch.delenv("AWS_PROFILE")
    assert main(["cost", *measure, "--region", "no where"]) == 2
    assert "AWS cannot be asked: Provided region_name 'no where'" in capsys.readouterr().err


def test_help_shows_the_options_that_a_command_uses(capsys: pytest.CaptureFixture[str]) -> None:
    for command in WHAT:
        with pytest.raises(SystemExit):
            main(["cost", command, "--help"])
        shown = set(re.findall(r"^  --([a-z0-9-]+)", capsys.readouterr().out, re.M))
        assert shown == {option.name for option in OPTIONS.values() if command in option.commands}


def test_what_pages_and_help_show_has_an_effect() -> None:
    pages = (path.read_text(encoding="utf-8").replace("\\\n", "") for path in (ROOT / "docs").glob("*.md"))
    shown = [line for page in pages for line in re.findall(r"^sagerank cost\b.*$", page, re.M)]
    shown += [line for lines in EXAMPLES.values() for line in lines]
    parser = argparse.ArgumentParser()
    configure(parser)
    for line in shown:
        parsed = parser.parse_args(shlex.split(line, comments=True)[2:])
        read(parsed.what or "report", given(parsed))


def test_confidence_is_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    usd = []
    for percent in ("5", "50", "95"):
        assert (
            main(
                [
                    "cost",
                    "--mode",
                    "serverless",
                    "--rate",
                    "0.01",
                    "--p95",
                    "inf",
                    "--confidence",
                    percent,
                    "--format",
                    "json",
                ]
            )
            == 0
        )
        usd.append(Decimal(json.loads(capsys.readouterr().out)["monthly_usd"]))
    assert usd[0] < usd[1] < usd[2]


def test_the_page_has_the_table_of_options() -> None:
    page = (ROOT / "docs/cost.md").read_text(encoding="utf-8")
    for option in OPTIONS.values():
        commands = "all" if set(option.commands) == set(WHAT) else ", ".join(option.commands)
        assert f"| `--{option.name}` | {option.description} | {commands} |" in page.splitlines()


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


def test_a_reader_that_left_does_not_pass_the_budget() -> None:
    words = "cost --rate 0.1 --p95 10 --model tiny --instance ml.c7i.4xlarge --max-monthly 1"
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "sagerank", *words.split()],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert ended.returncode == 1
    assert "above --max-monthly 1" in ended.stderr
    assert "Traceback" not in ended.stderr
