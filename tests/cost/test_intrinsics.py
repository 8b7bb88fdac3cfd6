"""Values of templates, whoever wrote them: as far as they say, and a sentence or an unknown line beyond."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank_cost import CostError
from sagerank_cost.lines import AtLeast
from sagerank_cost.reports.diff import diff_report
from sagerank_cost.templates.intrinsics import Values
from sagerank_cost.templates.template import read
from sagerank_infra.config import ConfigError
from sagerank_infra.estimate import priced

from ..infra.conftest import stacks
from .conftest import CATALOGUE
from .templates import WRONG, endpoint, month, variant, write

# In the style of the documentation of AWS, short tags and all.
WRITTEN = """
AWSTemplateFormatVersion: 2010-09-09
Parameters:
  Stage: {Type: String, Default: %s, AllowedValues: [dev, prod]}
  Type: {Type: String, Default: ml.g4dn.xlarge}
  Subnets: {Type: "List<AWS::EC2::Subnet::Id>", Default: "subnet-a,subnet-b,subnet-c"}
Mappings:
  Stages:
    dev: {Count: 1}
    prod: {Count: 3}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
Resources:
  Config:
    Type: AWS::SageMaker::EndpointConfig
    Properties:
      ProductionVariants:
        - VariantName: main
          InstanceType: !Sub "${Type}"
          InitialInstanceCount: !FindInMap [Stages, !Ref Stage, Count]
        - !If [IsProd, {VariantName: next, InstanceType: ml.g4dn.xlarge, InitialInstanceCount: "1"}, !Ref AWS::NoValue]
  Door:
    Type: AWS::EC2::VPCEndpoint
    Condition: IsProd
    Properties: {VpcEndpointType: Interface, SubnetIds: !Ref Subnets, ServiceName: !Sub "com.amazonaws.${AWS::Region}.logs"}
"""


@pytest.mark.parametrize(("stage", "instances", "doors"), [("dev", 1, 0), ("prod", 4, 3)])
def test_parameters_conditions_and_mappings(stage: str, instances: int, doors: int, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(WRITTEN % stage, encoding="utf-8")
    found = month(path)
    assert not found.unknown
    assert found.usd == instances * Decimal("537.28") + doors * Decimal("7.30")
    assert any(f"defaults: Stage {stage}" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"InitialInstanceCount": {"Ref": "Count"}},
            "InitialInstanceCount: the parameter 'Count' has no default",
        ),
        ({"InitialInstanceCount": "abc"}, "InitialInstanceCount: it is 'abc', give a whole number from 0"),
        ({"InitialInstanceCount": 1e300}, "InitialInstanceCount: it is '1e+300', give a whole number from 0"),
        ({"InitialInstanceCount": None}, "InitialInstanceCount: it is not given"),
        ({"InitialInstanceCount": True}, "InitialInstanceCount: True stands where text belongs"),
        ({"InstanceType": {"Fn::ImportValue": "x"}}, "InstanceType: Fn::ImportValue is decided when"),
        (
            {"InstanceType": {"Fn::FindInMap": ["A", "b", "c"]}},
            "InstanceType: the mapping 'A' has no 'b', 'c'",
        ),
        ({"InstanceType": "ml.m5.xlage"}, "did you mean ml.m5.xlarge"),
        ({"InstanceType": "ml.m6i.large"}, "No hosting price of ml.m6i.large is known in us-east-1"),
        ({"ServerlessConfig": {"MemorySizeInMB": "much"}}, "MemorySizeInMB: it is 'much'"),
        ({"ManagedInstanceScaling": []}, "ManagedInstanceScaling: a list stands where an object belongs"),
    ],
)
def test_what_a_template_does_not_say_has_no_known_price(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    parts = {"Parameters": {"Count": {"Type": "Number"}}}
    path = write(tmp_path / "a.json", parts, Config=endpoint({**variant(), **change}))
    found = month(path)
    assert isinstance(found.usd, AtLeast)
    assert found.usd == 0
    assert list(found.unknown) == ["Config/main: what it runs"]
    assert reason in found.unknown["Config/main: what it runs"]


def test_variants_of_an_undecided_condition_have_no_known_price(tmp_path: Path) -> None:
    config = endpoint()
    config["Properties"]["ProductionVariants"] = {"Fn::If": ["Unknown", [variant()], []]}
    found = month(write(tmp_path / "a.json", Config=config))
    assert found.unknown == {
        "Config: what it runs": "ProductionVariants: the condition 'Unknown' is decided when it is deployed"
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is neither a template nor a configuration"),
        ('{"mode": "realtime", "instanse": "x"}', "instanse is not an option: did you mean instance"),
        ('{"mode": "realtime", "instance": "ml.m5.xlage"}', "did you mean ml.m5.xlarge"),
        ('{"instance": "ml.m6i.large"}', "No hosting price of ml.m6i.large"),
        ('{"Resources": []}', "Resources is a list: give an object"),
        ('{"Resources": {"A": 5}}', "'A' of Resources is malformed"),
        ('{"Resources": {"A": {"Type": 5}}}', "'A' of Resources is malformed"),
        (
            '{"Resources": {"A": {"Type": "AWS::IAM::Role", "Properties": [1]}}}',
            "Properties that are an object",
        ),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "is not JSON"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises((CostError, ConfigError), match=sentence):
        read(path, CATALOGUE, "us-east-1", priced)


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_without_somebody_who_reads_configurations_it_says_where_they_are_read(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(CostError, match="has no Resources.*`sagerank cost diff` takes the configuration"):
        read(tmp_path / name, CATALOGUE, "us-east-1")


def test_an_empty_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"holds no \*\.template\.json"):
        read(tmp_path, CATALOGUE, "us-east-1")


def test_files_of_other_people(tmp_path: Path) -> None:
    path = write(tmp_path / "a.template.json", Nat={"Type": "AWS::EC2::NatGateway"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert month(path).usd == Decimal("32.85")
    (tmp_path / "b.template.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(CostError, match="b.template.json is not JSON: it is not UTF-8 text"):
        month(tmp_path)
    (tmp_path / "b.template.json").unlink()
    (tmp_path / "manifest.json").write_text('{"artifacts": [1]}', encoding="utf-8")
    assert month(tmp_path).usd == Decimal("32.85")
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(CostError, match="manifest.json is not JSON"):
        month(tmp_path)


def test_nesting_beyond_what_can_be_followed_is_a_sentence(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = {"Fn::If": ["On", deep, "y"]}
    parts = {"Conditions": {"On": {"Fn::Not": [{"Condition": "On"}]}}}
    path = write(tmp_path / "a.json", parts, Config=endpoint({**variant(), "InstanceType": deep}))
    with pytest.raises(CostError, match="nested too deeply"):
        month(path)


def _twice(first: Any, of: Callable[[Any], Any]) -> Any:
    """What has the one before it in it twice, so many times that it has no end in practice."""
    for _ in range(60):
        first = of(first)
    return first


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        (_twice("x", lambda inner: {"Fn::Join": ["", [inner, inner]]}), None),
        (_twice("x", lambda inner: {"Fn::Sub": ["${A}" * 100, {"A": inner}]}), None),
        ("x", _twice({"Fn::Equals": ["a", "a"]}, lambda inner: {"Fn::And": [inner, inner]})),
    ],
)
def test_values_that_are_made_of_one_another_without_end_are_a_sentence(text: Any, condition: Any) -> None:
    values = Values({}, "us-east-1")
    with pytest.raises(RecursionError):
        values.text(text) if condition is None else values.condition(condition)


def test_conditions_that_name_others_many_times_over_are_a_sentence(tmp_path: Path) -> None:
    named = {f"C{n}": {"Fn::And": [{"Condition": f"C{n - 1}"}] * 2} for n in range(1, 60)}
    parts = {"Conditions": {"C0": {"Fn::Equals": ["a", "a"]}, **named}}
    path = write(tmp_path / "a.json", parts, Config={**endpoint(variant()), "Condition": "C59"})
    with pytest.raises(CostError, match="nested too deeply"):
        month(path)


PRICED = ("scale-to-zero", "async", "serverless", "marketplace")


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in children for place in _places(value, (*path, key)))]


@pytest.mark.parametrize("name", PRICED)
def test_whatever_stands_in_a_template_is_an_answer_or_a_sentence(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "cdk.out"
    shutil.copytree(stacks(name, "prod").assembly, folder)
    file = folder / "sagerank-endpoint.template.json"
    template = file.read_text(encoding="utf-8")
    places = [place for place in _places(json.loads(template)) if place]
    before = month(folder)

    @settings(max_examples=150)
    @given(st.lists(st.tuples(st.sampled_from(places), WRONG), min_size=1, max_size=3))
    def check(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
        content = json.loads(template)
        for (*above, last), wrong in changes:
            try:
                node = content
                for key in above:
                    node = node[key]
                node[last] = wrong
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change has taken the place away
        file.write_text(json.dumps(content), encoding="utf-8")
        try:
            found = month(folder)
        except CostError:
            return
        assert found.usd >= 0
        assert diff_report(before, found, Decimal(500)).conclusion

    check()
