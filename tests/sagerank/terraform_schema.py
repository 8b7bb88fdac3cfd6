"""Writes sagerank/operate/terraform.json: names and types of the arguments that Terraform's AWS providers document.

`python -m tests.sagerank.terraform_schema AWSCC LIB`: AWSCC is a checkout of hashicorp/terraform-provider-awscc, LIB the folder
lib/ of the npm package @cdktf/provider-aws, which is generated of the schema of hashicorp/aws.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from sagerank.operate.terraform_types import KINDS, SCHEMA

_SCALAR = {"String": "string", "Number": "number", "Boolean": "bool", "Map of String": "map"}
_PLURAL = {"List of String": "list", "Set of String": "list"}
_NESTED = {"Attributes": "one", "Attributes List": "list", "Attributes Set": "list"}
_MARK = {"Required": "!", "Optional": "", "Read-Only": "="}


def awscc(page: str) -> dict[str, Any]:
    """Of a resource's page: {argument: type}, in which ! ends what is required, = what is read only; "" is an object's own type."""
    root: dict[str, Any] = {}
    here, mark = root, ""
    body = page.partition("## Schema")[2].partition("## Import")[0]
    for line in body.splitlines():
        if found := re.match(r"### Nested Schema for `(.+)`", line):
            here = root
            for name in found[1].split("."):
                here = here[name]
        elif line.startswith("### Identity Schema"):
            break
        elif found := re.match(r"(?:### )?(Required|Optional|Read-Only):?$", line):
            mark = _MARK[found[1]]
        elif found := re.match(r"- `(\w+)` \(([A-Za-z ]+)\)", line):
            name, kind = found.groups()
            if kind in _NESTED:
                here[name] = {"": _NESTED[kind] + mark}
            else:
                here[name] = (_SCALAR | _PLURAL).get(kind, kind) + mark
    return root


def aws(source: str, declared: str) -> dict[str, Any]:
    """The same of a module of the package: its JavaScript has the types, its declarations what is required."""
    required = {
        (interface[1], _snake(name))
        for interface in re.finditer(r"export interface (\w+).*?\{\n(.*?)^\}", declared, re.M | re.S)
        for name in re.findall(r"^    readonly (\w+):", interface[2], re.M)
    }
    title = re.search(r"^class (\w+) extends cdktf\.TerraformResource", source, re.M)
    assert title

    def fields(body: str, interface: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        form = r'^ {8,12}(\w+): \{\n\s+value: (.+),\n\s+isBlock: (\w+),\n\s+type: "(\w+)",\n\s+storageClassType: "(\w+)"'
        for name, value, block, kind, storage in re.findall(form, body, re.M):
            mark = "!" if (interface, name) in required else ""
            if block == "true":
                inner = re.search(r"(\w+)ToHclTerraform", value)
                assert inner
                own = inner[1][0].upper() + inner[1][1:]
                found[name] = {"": f"block{mark}", **struct(inner[1], own)}
            elif kind == "simple":
                found[name] = {"boolean": "bool"}.get(storage, storage) + mark
            else:
                found[name] = {"set": "list"}.get(kind, kind) + mark
        return found

    def struct(name: str, interface: str) -> dict[str, Any]:
        body = re.search(rf"^function {name}ToHclTerraform\(struct\) \{{\n(.*?)^\}}", source, re.M | re.S)
        assert body, name
        return fields(body[1], interface)

    found = fields(source.rpartition("synthesizeHclAttributes()")[2], f"{title[1]}Config")
    for name in re.findall(r"// (\w+) - computed: true, optional: false, required: false", source):
        if name not in found and re.search(rf"return this\.getStringAttribute\('{name}'\)", source):
            found[name] = "string="
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def main(folder: Path, library: Path) -> None:
    version = json.loads((library.parent / "package.json").read_text(encoding="utf-8"))["cdktf"]["provider"]
    found: dict[str, Any] = {
        "versions": {
            "aws": version["version"],
            "awscc": (folder / "version/VERSION").read_text(encoding="utf-8").strip(),
        },
        "resources": {},
    }
    for name in sorted({kind.resource for kind in KINDS.values()}):
        provider, _, rest = name.partition("_")
        if provider == "awscc":
            page = (folder / f"docs/resources/{rest}.md").read_text(encoding="utf-8")
            found["resources"][name] = awscc(page)
        else:
            module = library / rest.replace("_", "-")
            texts = [(module / f"index.{end}").read_text(encoding="utf-8") for end in ("js", "d.ts")]
            found["resources"][name] = aws(*texts)
    SCHEMA.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
