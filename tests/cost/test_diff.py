"""The change of a month for a pull request, between templates and configurations, and the gate of a budget."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank_cost import CostError, commands
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.reports.diff import diff_report
from sagerank_cost.templates.template import read
from sagerank_infra.config import DeployConfig
from sagerank_infra.estimate import monthly, priced

from .conftest import CATALOGUE
from .templates import endpoint, month, serverless, variant, write


def run(*words: object) -> int:
    """`cost diff`, with the prices of configurations as the `sagerank` command has them; 2 for a sentence on standard error."""
    parser = argparse.ArgumentParser()
    commands.add(parser.add_subparsers(), priced)
    options = parser.parse_args(["cost", "diff", *map(str, words)])
    try:
        return int(options.run(options))
    except CostError:
        return 2


def test_the_change_as_a_comment_and_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alarm = {"Type": "AWS::CloudWatch::Alarm"}
    old = write(
        tmp_path / "old/app.template.json",
        Config=endpoint(variant("ml.m5.xlarge")),
        Same=endpoint(variant("ml.g4dn.xlarge")),
        Alarm=alarm,
    )
    new = write(
        tmp_path / "new/app.template.json",
        Config=endpoint(variant("ml.c7i.xlarge"), variant("ml.m5.large", name="b")),
        Same=endpoint(variant("ml.g4dn.xlarge")),
        Alarm=alarm,
    )
    command = ["cost", "diff", str(old.parent), str(new.parent), "--format", "markdown"]
    assert main([*command, "--max-monthly", "1000"]) == 0
    sentence, _, *table = capsys.readouterr().out.split("\n")
    assert sentence == (
        "Monthly cost rises from 709.48 to 785.95 USD (+76.47, +11%): within the budget of 1,000 USD, without what depends on use."
    )
    assert table[:7] == [
        "| resource | what | old USD | new USD | change USD |",
        "| --- | --- | ---: | ---: | ---: |",
        "| app/Config/b | 1 x ml.m5.large, volumes, 1 x 30 GB | - | 88.15 | 88.15 |",
        "| app/Config/main | 1 x ml.m5.xlarge → 1 x ml.c7i.xlarge | 172.10 | 160.42 | -11.68 |",
        "| 2 without a change |  | 537.38 | 537.38 | 0.00 |",
        "| total |  | 709.48 | 785.95 | 76.47 |",
        "",
    ]
    assert table[7].startswith("<details>")
    assert not any(line.startswith(("|", "#")) for line in table[7:])
    assert main([*command, "--max-monthly", "200"]) == 1
    assert "OVER the budget" in capsys.readouterr().out
    report = diff_report(month(old), month(new))
    *rows, last = report.tables[0].rows
    for column in (2, 3, 4):
        assert sum(Decimal(str(row[column] or 0)) for row in rows) == last[column]


def test_a_gate_does_not_pass_on_what_has_no_known_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = serverless(MemorySizeInMB=2048, ProvisionedConcurrency=2)
    old = write(tmp_path / "old.json", Config=endpoint(variant()), Nat={"Type": "AWS::EC2::NatGateway"})
    unpriced = CATALOGUE.rates.keys() & {("us-east-1", "provisioned", "4096")}
    assert not unpriced, "a test of what has no price"
    new = write(tmp_path / "new.json", Config=serverless(MemorySizeInMB=4096, ProvisionedConcurrency=2))
    assert main(["cost", "diff", str(old), str(new), "--max-monthly", "500"]) == 2
    shown = capsys.readouterr()
    assert "Monthly cost goes from 204.95 to ≥ 0.00 USD" in shown.out
    assert "no price is known of Config/main: provisioned concurrency, 2 x 4096 MB" in shown.out
    assert "within" not in shown.out.replace("whether it is within", "")
    assert "no price is known of Config/main: provisioned concurrency, 2 x 4096 MB" in shown.err
    # Without a budget the change is shown, and a bound above the budget is above it.
    assert main(["cost", "diff", str(old), str(new)]) == 0
    assert main(["cost", "diff", str(new), str(old), "--max-monthly", "500"]) == 0
    assert (
        main(
            ["cost", "diff", str(old), str(write(tmp_path / "k.json", Config=known)), "--max-monthly", "500"]
        )
        == 0
    )
    both = write(tmp_path / "b.json", Config=endpoint(variant(count=4)), Db={"Type": "AWS::RDS::DBInstance"})
    assert main(["cost", "diff", str(old), str(both), "--max-monthly", "500"]) == 1


def test_the_other_formats_say_what_is_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "a.json", Nat={"Type": "AWS::EC2::NatGateway"}, Db={"Type": "AWS::RDS::DBInstance"}
    )
    assert main(["cost", "diff", str(path), str(path), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["monthly_usd"] == "32.85"
    rows = {row["line"]: row for row in found["tables"]["lines"]["rows"]}
    assert rows["Db: AWS::RDS::DBInstance"]["not counted"] == "no price of these is known here"
    assert rows["Db: AWS::RDS::DBInstance"]["new USD"] is None
    assert main(["cost", "diff", str(path), str(path), "--format", "csv"]) == 0
    assert "lines,Db: AWS::RDS::DBInstance,,,no price of these is known here" in capsys.readouterr().out


def test_configurations_are_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traffic = {"requests_per_second": 0.01}
    old, new, template = tmp_path / "old.json", tmp_path / "new.yaml", tmp_path / "a.template.json"
    old.write_text(
        json.dumps({"model": "tiny", "instance": "ml.m5.xlarge", "traffic": traffic}), encoding="utf-8"
    )
    new.write_text(
        "model: tiny\nmode: serverless\nserverless: {memory_mb: 4096}\ntraffic: {requests_per_second: 0.01}\n",
        encoding="utf-8",
    )
    assert run(old, new) == 0
    shown = capsys.readouterr().out
    assert "falls" in shown
    assert "serverless processing, 4096 MB" in shown
    write(template, Config=endpoint(variant()))
    assert run(template, old) == 0
    assert "Monthly cost rises from 172.10 to 177.83 USD" in capsys.readouterr().out


def test_a_configuration_costs_what_its_estimate_says(tmp_path: Path) -> None:
    path = tmp_path / "prod.toml"
    path.write_text('preset = "prod"\nmodel = "base"\ninstance = "ml.g6.xlarge"\n', encoding="utf-8")
    estimate = monthly(DeployConfig.read(path, {}))
    month = read(path, CATALOGUE, "us-east-1", priced)
    assert month.usd == estimate.usd
    assert "interface endpoints" not in month.lines
    own = Catalogue(overrides={"ml.g6.xlarge": Decimal("0.5")})
    assert read(path, own, "us-east-1", priced).lines["ml.g6.xlarge hours"].usd == Decimal("730.00")
