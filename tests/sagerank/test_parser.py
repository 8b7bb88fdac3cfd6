"""How the command line answers words it does not know, and what its help shows."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress

import pytest

from sagerank.cli import main
from sagerank.parser import GROUPS

from .test_cli_refusals import COMMANDS, PARSER


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("rernk q", "there is no 'rernk': did you mean rerank?"),
        ("rerank q --topn 5 file", "there is no option --topn: did you mean --top-n?"),
        ("rerank q --top=5", "there is no option --top: did you mean --top-n?"),
        ("--model tiny rerank q", "there is no option --model here: give it after the command"),
        ("transform --inptu x", "there is no option --inptu: did you mean --input?"),
        ("transform --input x", "the following arguments are required: --instance"),
        ("build --precision int9", "--precision is 'int9': did you mean int8?"),
        ("serve --port 99999", "argument --port: 99999 is no port: give one from 1 to 65535"),
        ("rerank what causes rain", "nothing takes 'rain': put quotes round words that belong together"),
        ("rerank q --url=", "--url is empty: give it a value, or leave it out"),
        ("destroy sagerank other", "nothing takes 'other'"),
        ("destroy -y", "nothing takes '-y'"),
        ("rerank q -n --sample", "nothing takes '-n'"),
        ("status --unheard-of", "there is no option --unheard-of (see `sagerank status --help`)"),
    ],
)
def test_a_sentence_names_the_nearest(line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in said
    assert said.startswith("sagerank")
    assert said.count("\n") == 1


def test_a_file_may_stand_behind_options() -> None:
    options = PARSER.parse_args(["rerank", "what causes rain", "--top-n", "3", "texts.txt", "--json"])
    assert (options.query, options.documents, options.top_n) == ("what causes rain", "texts.txt", 3)
    assert PARSER.parse_args(["eval", "--data", "x", "rag"]).what == "rag"
    assert PARSER.parse_args(["deploy", "--yes", "--", "--concurrency", "2"]).cdk == ["--concurrency", "2"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_optional_words_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: sagerank")
    assert "object at" not in shown.replace("\n", " ")
    if name in ("destroy", "status", "transform", "verify"):
        assert "of the deployment (default: sagerank)" in " ".join(shown.split())


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_bare_help_is_in_groups_within_80_columns(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with suppress(SystemExit):
        assert main(words) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert tuple(re.findall(r"^([a-z ]+):$", shown, re.M)) == (*GROUPS, "options", "examples")
    listed = set(re.findall(r"^  (\w+) ", shown, re.M)) - {"sagerank"}
    assert listed == {name for name in COMMANDS if " " not in name}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_has_two_examples_that_parse(name: str) -> None:
    examples = re.findall(r"^  (.+)$", COMMANDS[name].epilog or "", re.M)
    assert len(examples) >= 2
    for example in examples:
        assert len(example) <= 78
        words = shlex.split(re.sub(r"^source <\(|\)$| > .*", "", example))
        options = PARSER.parse_args(words[1:])
        assert words[1 : 1 + len(name.split())] == name.split() or name == "bench" or "report" in name
        assert callable(options.run)
