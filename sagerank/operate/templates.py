"""A deployment's templates, their intrinsic functions resolved without CloudFormation: what it has yet to name is a pattern."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHANCE = 13  # signs at the end of a name that CloudFormation makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """Templates by stack, of the deployment `name` in an account of twelve digits."""

    stacks: Mapping[str, Any]
    name: str
    region: str
    account: str

    @classmethod
    def read(cls, folder: Path, *, name: str, region: str, account: str) -> Templates:
        stacks = {
            path.name.partition(".")[0]: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("*.template.json"))
        }
        return cls(stacks=stacks, name=name, region=region, account=account)

    @property
    def partition(self) -> str:
        special = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
        return next((name for start, name in special.items() if self.region.startswith(start)), "aws")

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def of_type(self, type: str) -> Iterator[Mapping[str, Any]]:
        """The resolved properties of each resource of the type."""
        yield from (properties for _, properties in self.named(type))

    def named(self, type: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The same, each with the pattern of its ARN."""
        for stack, template in self.stacks.items():
            for id, resource in template["Resources"].items():
                if resource["Type"] == type:
                    yield self._named(stack, id), self._resolved(resource.get("Properties", {}), stack)

    def _resolved(self, value: Any, stack: str) -> Any:
        if isinstance(value, list):
            return [self._resolved(each, stack) for each in value]
        if isinstance(value, dict):
            found = self._function(value, stack)
            return found or {key: self._resolved(each, stack) for key, each in value.items()}
        return value

    def _function(self, value: Mapping[str, Any], stack: str) -> Any:
        """What an intrinsic function makes; None of a mapping that is none."""
        found: Any = None
        match value:
            case {"Ref": id} | {"Fn::GetAtt": [id, _]}:
                found = self._pseudo().get(id) or self._named(stack, id)
            case {"Fn::Join": [between, parts]}:
                found = between.join(map(str, self._resolved(parts, stack)))
            case {"Fn::Sub": str(form)}:
                found = re.sub(r"\$\{([^}]+)\}", lambda place: self._pseudo()[place[1]], form)
            case {"Fn::GetStackOutput": {"StackName": other, "OutputName": output}}:
                found = self._resolved(self.stacks[other]["Outputs"][output]["Value"], other)
        return found

    def _named(self, stack: str, id: str) -> str:
        """What Ref or Fn::GetAtt may give of a resource of ours."""
        patterns = {
            "AWS::KMS::Key": self.arn("kms", "key/*"),
            "AWS::S3::Bucket": f"arn:{self.partition}:s3:::{_made(stack, id, 63).lower()}",
            "AWS::SNS::Topic": self.arn("sns", f"{stack}-{id}-*"),
            "AWS::IAM::Role": f"arn:{self.partition}:iam::{self.account}:role/{_made(stack, id, 64)}",
        }
        resource = self.stacks[stack]["Resources"].get(id, {})
        return patterns.get(resource.get("Type", ""), "*")

    def _pseudo(self) -> dict[str, str]:
        suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
        return {
            "AWS::AccountId": self.account,
            "AWS::Region": self.region,
            "AWS::Partition": self.partition,
            "AWS::URLSuffix": suffix,
        }


def _made(stack: str, id: str, most: int) -> str:
    """The name that CloudFormation makes of a stack's and a resource's, and of chance: of at most so many signs.

    Where they are more it cuts, nobody says where, and other stacks' names may begin as what is sure to be left.
    """
    whole = f"{stack}-{id}-"
    return f"{whole}*" if len(whole) + _CHANCE <= most else f"{stack[:20]}*"
