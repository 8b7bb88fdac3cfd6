"""A plan's file: what a reviewer finds in it, and what is refused of one that comes back."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sagerank.cli import main
from sagerank.models.build import MICRO, archive
from sagerank.operate import OperateError, change, deploy, review, tools
from sagerank.operate.account import Account
from sagerank.operate.cdk import Assembly
from sagerank_inference.archive import pack
from sagerank_inference.artefact import Manifest, sha256

from ..local_aws.launch import ACCOUNT, REGION

PLACE = deploy.Place(region=REGION, account=ACCOUNT, bootstrapped=True)
STATE = {"sagerank-model": {"changed": "2026-11-28T09:00:00+00:00", "template": "0" * 64}}
SAID = (["USD 1 a month"], "Resources\n[+] a")
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two artefacts, a pip.conf, and a configuration that names them."""
    folder = tmp_path_factory.mktemp("planned")
    archive("micro", folder / "model.tar.gz")
    (folder / "other").mkdir()
    manifest = json.loads((MICRO / "manifest.json").read_text())
    files: dict[str, Path | bytes] = {name: MICRO / name for name in Manifest.read(MICRO).files}
    files["manifest.json"] = json.dumps(manifest | {"model": "other"}).encode()
    pack(files, folder / "other/model.tar.gz")
    (folder / "pip.conf").write_text("[global]\nindex-url = https://user:secret@index.example\n")
    variant = {"name": "B", "weight": 1, "artefact": str(folder / "other/model.tar.gz")}
    given = {
        "model": "micro",
        "artefact": str(folder / "model.tar.gz"),
        "variants": [variant],
        "image_build": {"pip": str(folder / "pip.conf")},
    }
    (folder / "deploy.json").write_text(json.dumps(given))
    return folder


@pytest.fixture(scope="module")
def planned(folder: Path) -> Iterator[deploy.Plan]:
    with deploy.plan(
        deploy.want(folder / "deploy.json", {"instance": "ml.c7i.large", "region": REGION}), PLACE
    ) as made:
        yield made


@pytest.fixture(scope="module")
def plan(folder: Path, planned: deploy.Plan) -> Path:
    review.write(planned, STATE, *SAID, folder / "plan.tar.gz")
    return folder / "plan.tar.gz"


def files(plan: Path) -> Files:
    with tarfile.open(plan) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]


def altered(
    plan: Path, target: Path, change: Callable[[Files, dict[str, Any]], None], *, sums: bool = True
) -> Path:
    """The plan after a change to its files and to what PLAN.json says; sums: with those of the changed files."""
    found = files(plan)
    facts = json.loads(found.pop("PLAN.json"))
    change(found, facts)
    if sums:
        facts["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    pack({**found, "PLAN.json": json.dumps(facts).encode()}, target)
    return target


def test_a_reviewer_finds_the_difference_first_and_every_file_with_its_sum(plan: Path) -> None:
    found = files(plan)
    assert next(iter(found)) == "DIFFERENCE.md"
    assert (
        found["DIFFERENCE.md"]
        .decode()
        .startswith(
            f"# sagerank in account {ACCOUNT}, {REGION}\n\n## What this plan would deploy\n\n```text\nUSD 1 a month\n"
        )
    )
    assert found["DIFFERENCE.md"].decode().endswith("Resources\n[+] a\n```\n")
    facts = json.loads(found.pop("PLAN.json"))
    assert facts["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    assert (facts["name"], facts["account"], facts["region"]) == ("sagerank", ACCOUNT, REGION)
    assert "assembly/sagerank-endpoint.template.json" in found
    assert any(name.endswith("image/Dockerfile.cpu") for name in found)
    assert facts["versions"].keys() == {"sagerank", "aws-cdk-lib"}
    assert not [name for name, content in found.items() if b"user:secret" in content]
    assert facts["configuration"]["image_build"] == {}


def test_equal_plans_are_equal_bytes_and_come_back_as_the_same_stacks(
    folder: Path, planned: deploy.Plan, plan: Path, tmp_path: Path
) -> None:
    assert review.write(planned, STATE, *SAID, tmp_path / "again.tar.gz") == sha256(plan)
    (tmp_path / "read").mkdir()
    found, configuration = review.read(plan, tmp_path / "read")
    assert found.deployed == STATE
    wanted = deploy.want(configuration, {})
    assert wanted.config.artefact.startswith(str(tmp_path))
    # Other folders, and another Docker with other secrets, on the machine that applies it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDK_DOCKER", "podman")
        with deploy.plan(wanted, PLACE) as applied:
            found.require(applied.assembly)


@pytest.mark.parametrize(
    "name",
    [
        "assembly/sagerank-endpoint.template.json",
        "assembly/manifest.json",
        "image/Dockerfile.cpu",
        "assembly/more.template.json",
    ],
)
def test_a_plan_that_asks_for_more_than_its_configuration_is_refused(
    name: str, plan: Path, planned: deploy.Plan, tmp_path: Path
) -> None:
    """Though all its sums agree."""

    def change(found: Files, _: dict[str, Any]) -> None:
        (whole,) = [each for each in found if each.endswith(name)] or [name]
        found[whole] = found.get(whole, b"{}") + b" "

    found, _ = review.read(altered(plan, tmp_path / "plan.tar.gz", change), tmp_path)
    with pytest.raises(OperateError, match=f"{name} of the plan is not what this configuration makes here"):
        found.require(planned.assembly)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda _, facts: facts.update(format=2), "is not of format 1"),
        (lambda _, facts: facts.update(more=1), "is not of format 1"),
        (lambda _, facts: facts.pop("account"), "is not of format 1"),
        (lambda _, facts: facts.update(account=1), "is not of format 1"),
        (lambda _, facts: facts.update(name="\x1b[2J"), "is not of format 1"),
        (lambda _, facts: facts.update(deployed={"a": {"changed": "x"}}), "is not of format 1"),
        (lambda _, facts: facts.update(deployed={"a": "x"}), "is not of format 1"),
        (lambda _, facts: facts.update(configuration=[]), "is not of format 1"),
        (lambda _, facts: facts["configuration"].update(variants=["x"]), "is not of format 1"),
        (
            lambda _, facts: facts["configuration"].update(alarms={"email": ["\x1b[2J"]}),
            "is not of format 1",
        ),
        (lambda _, facts: facts["versions"].update(sagerank="0"), "was made by .*sagerank 0, and here is"),
        (
            lambda _, facts: facts["configuration"].update(image_build={"pip": "/root/.aws/credentials"}),
            "names image_build.pip, a file of the machine that builds",
        ),
        (
            lambda _, facts: facts["configuration"].update(artefact="/root/secret.tar.gz"),
            "'/root/secret.tar.gz' is missing, or does not have the SHA-256",
        ),
    ],
)
def test_facts_that_no_plan_has_are_one_sentence(
    change: Callable[[Files, dict[str, Any]], None], sentence: str, plan: Path, tmp_path: Path
) -> None:
    with pytest.raises(OperateError, match=sentence) as caught:
        review.read(altered(plan, tmp_path / "plan.tar.gz", change), tmp_path)
    assert str(caught.value).isprintable()


def test_a_file_that_was_changed_alone_is_refused(plan: Path, tmp_path: Path) -> None:
    def change(found: Files, _: dict[str, Any]) -> None:
        found["DIFFERENCE.md"] += b"and nothing else"

    with pytest.raises(OperateError, match="'DIFFERENCE.md' is missing, or does not have the SHA-256"):
        review.read(altered(plan, tmp_path / "plan.tar.gz", change, sums=False), tmp_path)


def member(name: str, content: bytes = b"x", **more: Any) -> bytes:
    """A .tar.gz of one member, as no plan has it."""
    buffer, info = io.BytesIO(), tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in more.items():
        setattr(info, field, value)
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (member("../escaped.json"), "leads elsewhere"),
        (member("/tmp/escaped.json"), "leads elsewhere"),
        (member("assembly", b"", type=tarfile.SYMTYPE, linkname="/tmp"), "is a link"),
        (member("assembly", b"", type=tarfile.LNKTYPE, linkname="PLAN.json"), "is a link"),
        (member("assembly/pipe", b"", type=tarfile.FIFOTYPE), "no regular file"),
        (member("assembly/huge", bytes(200_000_000)), "it unpacks to more than"),
        (member("DIFFERENCE.md"), "it holds no PLAN.json"),
        (member("PLAN.json", bytes(20_000_000)), "it holds no PLAN.json"),
        (member("PLAN.json", b"[" * 100_000), "is not of format 1"),
        (member("PLAN.json")[:-40], "cannot be unpacked"),
        (b"no archive", "it is not even a .tar.gz file: give the file as it was written, or plan again"),
        (b"", "it is not even a .tar.gz file"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_is_no_plan_is_refused_and_writes_nothing(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "plan.tar.gz").write_bytes(content)
    (tmp_path / "in").mkdir()
    with pytest.raises(OperateError, match=sentence):
        review.read(tmp_path / "plan.tar.gz", tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"plan.tar.gz", "in"}


def test_the_difference_names_what_another_stacks_output_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CDK's command is one that prints what the real one was seen to print."""
    key = '{"Fn::GetStackOutput":{"StackName":"a-model","Region":"us-east-1","OutputName":"OutKey"}}'
    unknown = key.replace("OutKey", "Gone")
    cells = [["+", key, "Allow"], ["", "${Default/Own.Arn}", ""]]
    width = max(len(row[1]) for row in cells)
    rule = ["─" * 3, "─" * (width + 2), "─" * 8]
    table = [
        "┌" + "┬".join(rule) + "┐",
        f"│   │ {'Resource':<{width}} │ Effect │",
        "├" + "┼".join(rule) + "┤",
    ]
    table += [f"│ {row[0]:1} │ {row[1]:<{width}} │ {row[2]:<6} │" for row in cells]
    said = "\n".join([*table, "└" + "┴".join(rule) + "┘", f"[+] Output KeyArn {key}", unknown, "│ odd │", ""])
    (tmp_path / "said").write_text(said)
    (tmp_path / "cdk").write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
    (tmp_path / "cdk").chmod(0o755)
    monkeypatch.setattr(tools, "cdk", lambda: (str(tmp_path / "cdk"), tmp_path))
    outputs = {"OutKey": {"Value": {"Fn::GetAtt": ["Key1", "Arn"]}}}
    assembly = Assembly(tmp_path, {}, {"a-model": {"Outputs": outputs}}, "", "")
    wide = change.difference(assembly, Account(REGION), None).splitlines()
    assert wide[3] == "│ + │ ${a-model.Key1.Arn} │ Allow  │"
    assert wide[-3:] == ["[+] Output KeyArn ${a-model.Key1.Arn}", unknown, "│ odd │"]
    narrow = change.difference(assembly, Account(REGION), 30).splitlines()
    assert {len(line) for line in narrow[:-3]} == {30}
    assert [line[6:19].strip() for line in narrow[3:7]] == [
        "${a-model.Key",
        "1.Arn}",
        "${Default/Own",
        ".Arn}",
    ]


def test_a_plan_that_is_applied_without_docker_is_told_what_can_be_done_then(
    monkeypatch: pytest.MonkeyPatch, planned: deploy.Plan
) -> None:
    monkeypatch.setenv("CDK_DOCKER", "no-such-docker")
    with pytest.raises(OperateError, match="or give the address of an image in ECR with -c image="):
        deploy.require_tools(planned.config)
    with pytest.raises(OperateError, match="install it, apply the plan where it is, or plan again with"):
        deploy.require_tools(planned.config, reviewed=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--plan", "."], "--plan is ., where no file can be written"),
        (["--plan", "none/plan.tar.gz"], "none/plan.tar.gz, where no file can be written"),
        (["--dry-run", "--output", "file"], "--output is file, which is a file"),
        (["--apply", "."], "cannot be read: Is a directory"),
        (["--yes", "--", "--no-execute"], "give --plan FILE instead"),
    ],
)
def test_what_cannot_be_written_or_read_is_said_before_anything_is_made(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    own = [] if "--apply" in words else ["--model", "micro", "--instance", "ml.c7i.large"]
    assert main(["deploy", *own, "--region", REGION, *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_plan_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OperateError, match=r"none cannot be read: No such file"):
        review.read(tmp_path / "none", tmp_path)
