"""The app as a whole: equal bytes, tags, snapshots, and what other people's rules say of the templates."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sagerank_cost
import sagerank_inference
import sagerank_infra
from sagerank_infra.app import main, read

from .. import golden
from ..conftest import ROOT, alone, run_python
from . import synth
from .conftest import (
    ALARM,
    BUCKET,
    CONFIG,
    ENDPOINT,
    EVERY,
    MODEL,
    Synthesised,
    files,
    new_app,
    stacks,
    synthesise,
)
from .synth import EXAMPLES, example


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_tags_are_on_everything_that_costs(name: str, preset: str) -> None:
    found = stacks(name, preset)
    for kind in (MODEL, CONFIG, ENDPOINT, "AWS::KMS::Key", BUCKET, "AWS::EC2::VPCEndpoint", ALARM):
        for each in found.resources(kind):
            tags = {tag["Key"]: tag["Value"] for tag in each["Properties"]["Tags"]}
            assert tags["sagerank:name"] == "sagerank"
            assert tags["sagerank:mode"] == found.config.mode


def test_a_known_account_asks_for_no_look_up() -> None:
    """The CDK would look up the zones of a VPC in it."""
    found = stacks("realtime", account="123456789012")
    manifest = json.loads((found.assembly / "manifest.json").read_text(encoding="utf-8"))
    assert "missing" not in manifest
    assert manifest["artifacts"]["sagerank-network"]["environment"] == "aws://123456789012/us-east-1"


_BOTH = "crossStackReferencesBothTransitional"


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_no_warning_of_the_cdk_is_left_that_nobody_can_act_upon(name: str, preset: str) -> None:
    assert "[ack: @aws-cdk" not in _said(stacks(name, preset))


def test_an_app_that_chose_how_stacks_refer_to_each_other_is_told_of_it() -> None:
    app = new_app(context={"@aws-cdk/core:defaultCrossStackReferences": "both"})
    assert _BOTH in _said(synthesise(example("realtime"), app))


def _said(found: Synthesised) -> str:
    """The notes of the stacks, which the CDK's command prints."""
    return "".join(file.read_text(encoding="utf-8") for file in found.assembly.glob("*.metadata.json"))


def test_two_synths_are_equal_to_the_byte(archive: Path, tmp_path: Path) -> None:
    """So that a second deployment of the same is no change, templates and assets alike. The second one runs as from an
    installed wheel: without a checkout, in a folder of the user's own, and in the C locale.
    """
    (tmp_path / "name.yaml").write_text("tags: {team: Größe}\n", encoding="utf-8")
    options = ["model=micro", "mode=realtime", "instance=ml.c7i.large", f"artefact={archive}"]
    given = [part for option in options for part in ("-c", option)]
    given += ["--config", str(tmp_path / "name.yaml")]
    assert main([*given, "--output", str(tmp_path / "one")]) == 0

    site, home = tmp_path / "site", tmp_path / "home"
    for package in (sagerank_inference, sagerank_cost, sagerank_infra):
        shutil.copytree(package.__path__[0], site / package.__name__)
    for name in ("__pycache__/server.cpython-311.pyc", ".DS_Store", "micro/.cache/x"):
        (site / "sagerank_inference" / name).parent.mkdir(exist_ok=True)
        (site / "sagerank_inference" / name).write_bytes(b"x")
    for name in ("inference", "cost", "infra", "sagerank_infra", "sagerank_cost", "yaml", "json", "aws_cdk"):
        home.mkdir(exist_ok=True)
        (home / f"{name}.py").write_text("raise SystemExit('the file of a user was run')", encoding="utf-8")
    (home / "sagerank").mkdir()
    python, *arguments = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["app"].split()
    assert (python, arguments[0]) == ("python3", "-P")
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "CDK_VALIDATION": "false"}
    command = [sys.executable, "-S", *arguments, *given, "--output", str(tmp_path / "two")]
    done = subprocess.run(command, cwd=home, env=alone(site, **bare), capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


_ELSEWHERE = """
import importlib, os, pkgutil, sys
import aws_cdk, boto3, botocore.config, botocore.session, yaml
for name in ("killpg", "setsid", "getuid", "fork", "getloadavg", "sched_getaffinity"):
    vars(os).pop(name, None)
for name in ("fcntl", "termios", "resource", "pwd", "grp"):
    sys.modules[name] = None
for package in ("sagerank_infra", "sagerank.operate"):
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(found.name)
"""


def test_what_only_linux_has_is_not_needed() -> None:
    done = run_python(_ELSEWHERE)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_cdks_own_region_stands_where_none_is_named(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, given = new_app(), {"model": "micro", "instance": "ml.c7i.large", "artefact": str(archive)}
    (tmp_path / "named.yaml").write_text("region: eu-north-1\n", encoding="utf-8")
    monkeypatch.delenv("CDK_DEFAULT_REGION", raising=False)
    assert read(app, None, given).region == "us-east-1"
    monkeypatch.setenv("CDK_DEFAULT_REGION", "eu-west-1")
    assert read(app, None, given).region == "eu-west-1"
    assert read(app, tmp_path / "named.yaml", given).region == "eu-north-1"
    assert read(app, tmp_path / "named.yaml", {**given, "region": "ap-south-1"}).region == "ap-south-1"


def test_what_cdk_json_tells_the_cdks_command_is_no_option_of_ours(archive: Path) -> None:
    """Nor is it where a user's `cdk cli-telemetry` wrote it."""
    project = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))
    assert project["context"] == {"cli-telemetry": False}
    assert project["notices"] is False
    given = {"model": "micro", "instance": "ml.c7i.large", "artefact": str(archive)}
    assert read(new_app(context=project["context"]), None, given) == read(new_app(), None, given)


def test_the_bootstrap_rule_can_be_left_out() -> None:
    assert "Rules" in stacks("realtime").templates["endpoint"]
    assert not {"Rules", "Parameters"} & set(stacks("realtime", bootstrap_rule="false").templates["endpoint"])


def test_one_command_writes_every_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make synth`, with one mode in place of all, which the tests above synthesise."""
    monkeypatch.setattr(synth, "EXAMPLES", ["serverless"])
    synth.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["serverless-dev", "serverless-prod"]
    assert files(tmp_path / "serverless-prod").keys() == files(stacks("serverless", "prod").assembly).keys()


def test_cfn_lint_is_clean() -> None:
    # The presets differ in values, and prod has all that dev has.
    folders = [stacks(name, "prod").assembly for name in EXAMPLES]
    templates = [str(path) for folder in folders for path in sorted(folder.glob("*.template.json"))]
    assert len(templates) == 4 * len(EXAMPLES) - 1  # serverless has no network
    # W3005: DependsOn beside a reference, which the CDK writes for safety.
    done = subprocess.run(
        [sys.executable, "-c", "from cfnlint.runner import main; main()", "-i", "W3005", "-t", *templates],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


_NAG = """
import sys
import aws_cdk as cdk
from aws_cdk import aws_s3
from cdk_nag import AwsSolutionsChecks
from sagerank_infra.app import build
from sagerank_infra.reranker import Reranker
from tests.infra.synth import EXAMPLES, example

app = cdk.App(outdir=sys.argv[1], context={"@aws-cdk/core:validateAgainstDefaultRules": True})
for name in EXAMPLES:
    options = {"capture__percent": "5"} if name in ("realtime", "async") else {}
    build(app, example(name, "prod", name=name, **options))
build(app, example("realtime", name="unpacked", artefact="s3://models/tiny/", account="123456789012"))
theirs = cdk.Stack(app, "theirs")
for name in ("async", "scale-to-zero"):
    Reranker(theirs, name, config=example(name, "prod", name=f"their-{name}"))
yours = {"vpc": "vpc-0a1b2c3d", "subnets": "subnet-0a1b2c3d,subnet-0a1b2c3e", "security_groups": "sg-0a1b2c3d"}
yours |= {"endpoints": "runtime", "callers": "sg-0a1b2c3e,10.0.0.0/16"}
build(app, example("realtime", name="yours", **{f"network__{key}": text for key, text in yours.items()}))
outside = {"data__read": "s3://theirs/in/", "data__write": "s3://theirs/out/"}
build(app, example("batch", name="outside", permissions_boundary="arn:aws:iam::123456789012:policy/b", **outside))
build(app, example("async", name="with-a-role", role="arn:aws:iam::123456789012:role/theirs"))
bad = cdk.Stack(app, "bad")
aws_s3.Bucket(bad, "Bucket")
cdk.CfnResource(bad, "Endpoint", type="AWS::SageMaker::EndpointConfig", properties={"ProductionVariants": [{"VariantName": "-"}]})
cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
app.synth()
"""


def test_cdk_nag_and_the_cdks_own_validation_find_nothing(tmp_path: Path) -> None:
    """The one run with validation on. A stack that is bad on purpose shows that both look."""
    environ = {name: text for name, text in os.environ.items() if name != "CDK_VALIDATION"}
    command = [sys.executable, "-c", _NAG, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=ROOT)
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    found = {
        (plugin["pluginName"], violation["ruleName"], where.get("constructPath", ""))
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for where in violation["violatingConstructs"]
    }
    assert done.returncode != 0
    assert {finding for finding in found if not finding[2].startswith("bad/")} == set()
    assert len({plugin for plugin, _, _ in found}) == 2, found


def outline(found: Synthesised) -> dict[str, Any]:
    """The endpoint's stack in full, of the others what there is how often. Asset hashes and tags are left out."""
    counts = {}
    for stack, template in found.templates.items():
        kinds = [each["Type"] for each in template["Resources"].values()]
        counts[stack] = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    resources = sorted(
        found.templates["endpoint"]["Resources"].values(), key=lambda each: (each["Type"], json.dumps(each))
    )
    for each in resources:
        each.get("Properties", {}).pop("Tags", None)
    text = json.dumps(
        {"resources": counts, "endpoint": resources, "cost": found.outputs()["EstimatedMonthlyCost"]}
    )
    text = re.sub(r"[0-9a-f]{64}", "HASH", text)
    blanked: dict[str, Any] = json.loads(re.sub(r"(?<=[A-Za-z])[0-9A-F]{8}(?=[A-Z\"]|$)", "", text))
    return blanked


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_templates_are_those_of_the_snapshot(name: str) -> None:
    shown = json.dumps(outline(synthesise(example(name, "prod"))), indent=1) + "\n"
    golden.check(shown, Path(__file__).parent / f"snapshots/{name}.json")
