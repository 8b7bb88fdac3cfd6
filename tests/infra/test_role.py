"""The role of the model: what it may do, and on what."""

from __future__ import annotations

import json
import re

import pytest

from sagerank_infra.role import NO_FINER_GRAIN

from .conftest import EVERY, listed, stacks, statements


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_wildcard_stands_only_where_nothing_finer_exists(name: str, preset: str) -> None:
    policies = stacks(name, preset).resources("AWS::IAM::Policy")
    assert policies
    for statement in (each for policy in policies for each in statements(policy)):
        assert statement["Effect"] == "Allow"
        assert all("*" not in action for action in listed(statement["Action"])), statement
        if "*" in listed(statement["Resource"]):
            assert set(listed(statement["Action"])) <= set(NO_FINER_GRAIN), statement


def test_the_list_of_wildcards_holds_nothing_that_is_not_used() -> None:
    used = {
        action
        for name, preset in EVERY
        for policy in stacks(name, preset).resources("AWS::IAM::Policy")
        for statement in statements(policy)
        if "*" in listed(statement["Resource"])
        for action in listed(statement["Action"])
    }
    assert used == set(NO_FINER_GRAIN)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_no_managed_policy_and_no_secret(name: str, preset: str) -> None:
    found = stacks(name, preset)
    for role in found.resources("AWS::IAM::Role"):
        assert "ManagedPolicyArns" not in role["Properties"]
        assert "Condition" in json.dumps(
            role["Properties"]["AssumeRolePolicyDocument"]
        ) or "vpc-flow-logs" in json.dumps(role)
    text = json.dumps(found.templates)
    assert "FullAccess" not in text
    assert not re.search(r"AKIA|ASIA|BEGIN [A-Z ]*PRIVATE KEY|(?i:password|secret|api.?key|token=)", text)
