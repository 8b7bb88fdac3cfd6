"""`sagerank template`: files that CloudFormation and Terraform take, and sentences for what they cannot have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sagerank.cli import main
from sagerank.operate import OperateError
from sagerank.operate.terraform import translate
from sagerank.operate.terraform_types import KINDS, SCHEMA

from ..infra.conftest import EVERY
from ..infra.test_plain import synthesised

KNOWN = json.loads(SCHEMA.read_text(encoding="utf-8"))["resources"]
TRANSLATED = [(name, preset) for name, preset in EVERY if name != "scale-to-zero"]
NEW = ["template", "--model", "micro", "--mode", "serverless"]


def translated(name: str, preset: str = "dev", /, **options: str) -> dict[str, Any]:
    return translate(json.loads(synthesised(name, preset, **options).read_text(encoding="utf-8")))[0]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def required(schema: dict[str, Any]) -> set[str]:
    return {
        name
        for name, each in schema.items()
        if name and (each[""] if isinstance(each, dict) else each).endswith("!")
    }


def check(given: Any, schema: Any, where: str) -> None:
    """Every argument is one that the provider has, of its type, and none is missing."""
    if isinstance(given, str) and "${" in given:
        return
    if isinstance(schema, str):
        kinds = {"string": (str, int, float), "number": (int, float), "bool": bool, "map": dict, "list": list}
        assert isinstance(given, kinds[schema.rstrip("!")]), (where, given)  # type: ignore[arg-type]
        return
    several = isinstance(given, list)
    assert schema.get("", "block").rstrip("!") in ("block", "list" if several else "one"), where
    for each in given if several else [given]:
        check_object(each, schema, where)


def check_object(given: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    given = {name: each for name, each in given.items() if name not in ("depends_on", "lifecycle")}
    assert required(schema) <= given.keys() <= schema.keys(), (where, required(schema), given.keys())
    for name, each in given.items():
        check(each, schema[name], f"{where}.{name}")


@pytest.mark.parametrize(("name", "preset"), TRANSLATED)
def test_terraforms_resources_are_as_its_providers_document_them(name: str, preset: str) -> None:
    found = translated(name, preset)
    source = json.loads(synthesised(name, preset).read_text(encoding="utf-8"))
    made = {label: kind for kind, each in found["resource"].items() for label in each}
    assert made == {label: KINDS[each["Type"]].resource for label, each in source["Resources"].items()}
    for kind, several in found["resource"].items():
        for label, each in several.items():
            check(each, KNOWN[kind], kind)
            assert set(each.get("depends_on", ())) <= {f"{made[name]}.{name}" for name in made}, label
    for text in texts(found):
        for kind, label, attribute in re.findall(r"\b((?:aws|awscc)_\w+)\.(\w+)\.(\w+)", text):
            assert kind == made.get(label) or kind in found["data"], text
            assert kind in found["data"] or attribute in KNOWN[kind], text
        for name_ in re.findall(r"\bvar\.(\w+)", text):
            assert name_ in found["variable"]
    kept = [each for several in found["resource"].values() for each in several.values()]
    assert any(each.get("lifecycle", {}).get("prevent_destroy") for each in kept) == (preset == "prod")


def test_terraform_is_told_no_more_and_no_less() -> None:
    """Expressions, escapes and policies, word by word."""
    account = {"Fn::Join": ["", ["arn:aws:iam::", {"Ref": "AWS::AccountId"}, ":root"]]}
    tag = {"Fn::Select": [0, {"Fn::Split": ["@", {"Ref": "Image"}]}]}
    policy = {"Statement": [{"Resource": tag, "Principal": {"AWS": account}, "Sid": 'a "${b}"'}]}
    parameter = {
        "Type": "String",
        "Description": "d",
        "AllowedPattern": r"\d+",
        "ConstraintDescription": "is c",
    }
    resources = {
        "Key": {"Type": "AWS::KMS::Key", "DeletionPolicy": "Retain", "Properties": {"KeyPolicy": policy}},
        "Name": {
            "Type": "AWS::SSM::Parameter",
            "DependsOn": ["Key"],
            "Properties": {"Name": "%{n}", "Type": "String", "Value": {"Fn::GetAtt": ["Key", "Arn"]}},
        },
    }
    found, notes = translate({"Description": "x", "Parameters": {"Image": parameter}, "Resources": resources})
    assert notes == []
    assert found["resource"] == {
        "awscc_kms_key": {
            "Key": {
                "key_policy": '${jsonencode({"Statement" = [{"Resource" = "${split("@", var.image)[0]}", "Principal" = {"AWS" = '
                '"arn:aws:iam::${data.aws_caller_identity.current.account_id}:root"}, "Sid" = "a \\"$${b}\\""}]})}',
                "lifecycle": {"prevent_destroy": True},
            }
        },
        "awscc_ssm_parameter": {
            "Name": {
                "name": "%%{n}",
                "type": "String",
                "value": "${awscc_kms_key.Key.arn}",
                "depends_on": ["awscc_kms_key.Key"],
            }
        },
    }
    assert found["data"] == {"aws_caller_identity": {"current": {}}}
    assert found["variable"]["image"]["validation"]["condition"] == '${can(regex("^(\\\\d+)$", var.image))}'


@pytest.mark.parametrize(
    ("resource", "sentence"),
    [
        ({"Type": "AWS::Lambda::Function"}, "Terraform's providers have no AWS::Lambda::Function"),
        ({"Type": "AWS::KMS::Key", "Properties": {"Unheard": 1}}, "awscc_kms_key takes no unheard"),
        ({"Type": "AWS::KMS::Key", "Properties": {"Arn": "x"}}, "awscc_kms_key takes no arn"),
        (
            {"Type": "AWS::KMS::Key", "Properties": {"Description": {"Fn::Cidr": []}}},
            "Fn::Cidr has no translation",
        ),
        (
            {"Type": "AWS::KMS::Key", "Properties": {"Description": {"Fn::GetAtt": ["It", "Unheard"]}}},
            "awscc_kms_key has no unheard",
        ),
    ],
)
def test_what_has_no_translation_is_refused(resource: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OperateError, match=re.escape(sentence)):
        translate({"Description": "x", "Resources": {"It": resource}})


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("scale-to-zero", {}, "takes no enable_network_isolation"),
        ("realtime", {"pools": '[{"instance": "ml.c6i.xlarge"}]'}, "takes no instance_pools"),
    ],
)
def test_a_deployment_that_terraform_cannot_have_is_refused(
    name: str, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(OperateError, match=f"{sentence}.*give --format cloudformation"):
        translated(name, "dev", **options)


def test_a_template_is_printed_or_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(NEW) == 0
    printed = capsys.readouterr().out
    assert main([*NEW, "--output", str(tmp_path / "one.yaml")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "one.yaml").read_text(encoding="utf-8") == printed
    found = yaml.safe_load(printed)
    assert list(found) == ["Description", "Parameters", "Resources", "Outputs"]
    assert not any("not-yet" in text for text in texts(found))
    assert {name for name, each in found["Parameters"].items() if "Default" in each} == {"ArtefactSha256"}

    assert main([*NEW, "--format", "terraform", "--output", str(tmp_path / "main.tf.json")]) == 0
    terraform = json.loads((tmp_path / "main.tf.json").read_text(encoding="utf-8"))
    assert terraform["terraform"]["required_providers"].keys() == {"aws", "awscc"}
    assert main([*NEW, "--format", "terraform", "--output", str(tmp_path / "main.json")]) == 2
    assert "Terraform reads JSON from files named .tf.json" in capsys.readouterr().err
    assert not (tmp_path / "main.json").exists()
    assert main([*NEW, "--output", str(tmp_path / "none/one.yaml")]) == 2
    assert "where no file can be written" in capsys.readouterr().err


def test_terraform_says_what_an_update_does(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["template", "--model", "micro", "--instance", "ml.c7i.large", "--format", "terraform"]
    assert main(words) == 0
    found = capsys.readouterr()
    assert "An update starts with initial_instance_count instances" in " ".join(found.err.split())
    assert "initial_instance_count" in json.loads(found.out)["//"]
    assert "detailed observability, which is billed by the GB, is as SageMaker has it" in " ".join(
        found.err.split()
    )
    for asked in ("metrics.enhanced=true", "metrics.detailed=true", "metrics.seconds=10"):
        assert main([*words, "-c", asked]) == 2
        assert "takes no metrics_config" in capsys.readouterr().err


def test_a_file_that_is_no_artefact_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"x")
    assert main([*NEW, "-c", f"artefact={tmp_path / 'model.tar.gz'}"]) == 2
    assert capsys.readouterr().err.startswith("sagerank: ")
