"""How much endpoints are used, by a file: what that adds to their month on both sides, and what such a file may not say."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank.cli import main
from sagerank_cost import CostError
from sagerank_cost.bill import Deployment, Scenario, bill
from sagerank_cost.lines import Statement
from sagerank_cost.models import choice
from sagerank_cost.standing import LOG_BYTES
from sagerank_cost.templates.template import read
from sagerank_cost.templates.usage import Usage
from sagerank_cost.traffic import daily

from ..conftest import ROOT
from ..infra.conftest import EVERY, stacks
from .conftest import CATALOGUE
from .templates import WRONG, endpoint, scaling, serverless, variant, write

# Whose container is ours, and whose instances come and go.
OURS = ("realtime", "graviton", "gpu", "async", "scale-to-zero")
TINY = {"model": "tiny", "requests_per_second": 0.05, "documents": 20}


def month(path: Path, **entries: Any) -> Statement:
    """The month of a template with this usage, of which every entry is of one of its endpoints."""
    file = path.parent / "usage.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    usage = Usage(file)
    found = read(path, CATALOGUE, "us-east-1", usage=usage)
    usage.check()
    return found


def billed(
    mode: str, instance: str, least: int = 1, most: int = 1, precision: str = "fp32"
) -> dict[str, Decimal]:
    """The lines of the same traffic and deployment by `bill`."""
    deployment = Deployment(
        choice=choice("tiny"),
        precision=precision,
        mode=mode,
        region="us-east-1",
        instance=instance,
        min_instances=least,
        max_instances=most,
    )
    statement = bill(deployment, Scenario(daily(0.05, documents=20), CATALOGUE)).statement
    return {name: line.usd for name, line in statement.lines.items()}


def test_serverless_seconds_and_data_are_those_of_the_bill(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=serverless(MemorySizeInMB=2048))
    found = month(path, default=TINY)
    lines = {name.removeprefix("Config/main: "): line.usd for name, line in found.lines.items()}
    assert lines == billed("serverless", "2048")
    assert lines["serverless processing, 2048 MB"] > 1
    assert not found.by_use


@pytest.mark.parametrize(
    ("mode", "least", "parts"),
    [
        ("realtime", 1, {}),
        ("async", 0, {"AsyncInferenceConfig": {}}),
    ],
)
def test_instances_that_come_and_go_are_those_of_the_bill(
    mode: str, least: int, parts: dict[str, Any], tmp_path: Path
) -> None:
    path = write(
        tmp_path / "a.json", Config=endpoint(variant("ml.c7i.xlarge"), **parts), Scaling=scaling(least)
    )
    lines = {name: line.usd for name, line in month(path, default=TINY).lines.items()}
    expected = billed(mode, "ml.c7i.xlarge", least, 8)
    assert lines[f"Config/main: {least} to 8 x ml.c7i.xlarge"] == expected["ml.c7i.xlarge hours"]
    assert sum(lines.values()) == sum(expected.values())


def test_more_requests_take_more_instances_and_a_fixed_number_stays(tmp_path: Path) -> None:
    config = endpoint(variant("ml.c7i.xlarge"))
    scaled = write(tmp_path / "a.json", Config=config, Scaling=scaling(1))
    fixed = write(tmp_path / "b.json", Config=config)
    few, many = ({**TINY, "requests_per_second": rate} for rate in (0.01, 4.0))
    assert month(scaled, default=many).usd > month(scaled, default=few).usd + 100
    hours = "Config/main: 1 x ml.c7i.xlarge"
    assert month(fixed, default=many).lines[hours].usd == month(fixed, default=few).lines[hours].usd
    assert month(fixed, default=many).usd > month(fixed, default=few).usd


def test_what_an_endpoint_cannot_carry_has_no_known_price(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=endpoint(variant("ml.c7i.large")), Scaling=scaling(1, 2))
    found = month(path, default={**TINY, "requests_per_second": 100})
    assert "more than 2" in found.unknown["Config/main: its use"]
    assert "Config/main: 1 x ml.c7i.large" in found.lines


def test_a_volume_is_of_its_size(tmp_path: Path) -> None:
    one, other = (
        month(write(tmp_path / f"{size}.json", Config=endpoint(variant(VolumeSizeInGB=size))), default=TINY)
        for size in (30, 60)
    )
    assert one.lines["Config/main: volumes, 30 GB each"].usd == Decimal("4.20")
    assert other.lines["Config/main: volumes, 60 GB each"].usd == Decimal("8.40")


def test_seconds_of_your_own_beat_the_model(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=serverless(MemorySizeInMB=2048))
    slow = month(path, default={"requests_per_month": 1000, "seconds_per_request": 4})
    line = slow.lines["Config/main: serverless processing, 2048 MB"]
    assert line.quantity == pytest.approx(4000)
    both = month(path, default={**TINY, "requests_per_second": 1000 / 730 / 3600, "seconds_per_request": 4})
    assert both.lines["Config/main: serverless processing, 2048 MB"].quantity == pytest.approx(4000)
    neither = month(path, default={"requests_per_month": 1000})
    assert "neither model nor seconds_per_request" in neither.unknown["Config/main: its use"]


def test_variants_share_requests_by_weight_and_shadows_get_copies(tmp_path: Path) -> None:
    def weighed(name: str, weight: object) -> dict[str, Any]:
        return {
            "VariantName": name,
            "InitialVariantWeight": weight,
            "ServerlessConfig": {"MemorySizeInMB": 2048},
        }

    config = endpoint(weighed("a", 3), weighed("b", "1"), ShadowProductionVariants=[weighed("c", 4)])
    use = {"requests_per_month": 1000, "seconds_per_request": 1}
    found = month(write(tmp_path / "a.json", Config=config), default=use)
    seconds = [line.quantity for name, line in found.lines.items() if "processing" in name]
    assert seconds == [pytest.approx(750), pytest.approx(250), pytest.approx(1000)]


def test_the_log_and_the_interface_endpoint_are_billed_by_the_gb(tmp_path: Path) -> None:
    door = {
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {
            "VpcEndpointType": "Interface",
            "ServiceName": "com.amazonaws.us-east-1.sagemaker.runtime",
        },
    }
    shadow = variant(name="shadow")  # gets copies that were made behind the door
    config = endpoint(variant(), ShadowProductionVariants=[shadow])
    path = write(tmp_path / "a.json", Config=config, Door=door)
    use = {"requests_per_month": 1e6, "documents": 100, "tokens": 200, "log_bytes": 500, "model": "tiny"}
    found = month(path, default=use)
    assert found.lines["Config/main: log ingestion"].quantity == pytest.approx(Decimal("0.5"))
    # 100 documents of 200 tokens of 5 bytes, and 45 bytes for each result.
    assert found.lines["Door: data in and out"].quantity == pytest.approx(Decimal("104.5"))
    assert found.lines["Door: data in and out"].usd == pytest.approx(Decimal("1.045"), abs=Decimal("0.005"))
    assert "Door: data" in read(path, CATALOGUE, "us-east-1").by_use


def test_entries_are_of_endpoints_by_any_of_their_names(tmp_path: Path) -> None:
    named = {
        "Type": "AWS::SageMaker::Endpoint",
        "Properties": {"EndpointName": "mine", "EndpointConfigName": {"Ref": "Config"}},
    }
    path = write(tmp_path / "a.json", Config=serverless(MemorySizeInMB=2048), Endpoint=named)
    totals = {month(path, **{name: TINY}).usd for name in ("Endpoint", "Config", "mine", "default")}
    assert len(totals) == 1
    # What an entry does not say, default does, and a rate of its own replaces one of another kind.
    base = {"model": "tiny", "documents": 20, "requests_per_month": 5}
    assert {month(path, default=base, mine={"requests_per_second": 0.05}).usd} == totals
    with pytest.raises(CostError, match=r"other is of no endpoint on either side. There are: Endpoint\."):
        month(path, default=TINY, other=TINY)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{}", "has no entry"),
        ("[1]", "is not a JSON object"),
        ("{", "is not JSON"),
        ('{"a": 1}', "a is 1: give it requests_per_second"),
        ('{"a": {"modle": "tiny"}}', "a: There is no value 'modle': did you mean model"),
        ('{"a": {"model": "huge", "requests_per_month": 1}}', "a: There is no model 'huge'"),
        ('{"a": {"precision": "fp8", "requests_per_month": 1}}', "a: There is no precision 'fp8'"),
        ('{"a": {"model": "tiny"}}', "give a one of requests_per_second and requests_per_month, not 0"),
        ('{"a": {"requests_per_month": 1, "requests_per_second": 1}}', "requests_per_month, not 2"),
        ('{"a": {"requests_per_month": "many"}}', "requests_per_month of a is 'many': give a number"),
        ('{"a": {"requests_per_month": NaN}}', "requests_per_month of a is nan: give a number"),
        ('{"a": {"requests_per_month": -1}}', "requests_per_month of a is -1: give a number"),
        ('{"a": {"documents": [1]}}', r"documents of a is \[1\]: give a whole number"),
        ('{"a": {"documents": true}}', "documents of a is True: give a whole number"),
        ('{"default": {"model": "tiny"}}', "give default one of requests_per_second"),
    ],
)
def test_what_a_file_may_not_say_is_a_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CostError, match=sentence):
        Usage(path)


@given(
    st.dictionaries(
        st.sampled_from(["default", "a"]),
        WRONG | st.fixed_dictionaries({"documents": WRONG, "requests_per_month": WRONG}),
    )
)
def test_whatever_a_file_says_is_read_or_a_sentence(entries: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "usage.json"
        path.write_text(json.dumps(entries), encoding="utf-8")
        with contextlib.suppress(CostError):
            Usage(path).of(["a"])


@pytest.mark.parametrize("name", ["u.yaml", "u.toml", "u.json"])
def test_three_kinds_of_file_say_the_same(name: str, tmp_path: Path) -> None:
    said = {
        "u.yaml": "default: {model: tiny, requests_per_second: 0.05, documents: 20}\n",
        "u.toml": '[default]\nmodel = "tiny"\nrequests_per_second = 0.05\ndocuments = 20\n',
        "u.json": json.dumps({"default": TINY}),
    }
    (tmp_path / name).write_text("\ufeff" + said[name], encoding="utf-8")
    path = write(tmp_path / "a.json", Config=serverless(MemorySizeInMB=2048))
    found = read(path, CATALOGUE, "us-east-1", usage=Usage(tmp_path / name))
    assert {key.removeprefix("Config/main: ") for key in found.lines} == set(billed("serverless", "2048"))


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    page = (ROOT / "docs/cost.md").read_text(encoding="utf-8")
    (example,) = (
        text for text in re.findall(r"```yaml\n(.*?)```", page, re.S) if "requests_per_month" in text
    )
    (tmp_path / "usage.yaml").write_text(example, encoding="utf-8")
    usage = Usage(tmp_path / "usage.yaml")
    found = usage.of(["Endpoint2"])
    assert found is not None
    assert found.seconds == 0.4
    assert found.traffic.requests == pytest.approx(200_000)
    assert usage.of(["any"]) is None


def test_json_and_toml_need_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "u.toml").write_text('[default]\nmodel = "tiny"\nrequests_per_second = 1\n', encoding="utf-8")
    (tmp_path / "u.yaml").write_text("default: {}\n", encoding="utf-8")
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from pathlib import Path; from sagerank_cost import CostError; from sagerank_cost.templates.usage import Usage\n"
        "Usage(Path(sys.argv[1]))\n"
        "try: Usage(Path(sys.argv[2]))\n"
        "except CostError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "u.toml"), str(tmp_path / "u.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "reading YAML takes PyYAML" in done.stdout


def test_a_real_stack_with_its_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From an endpoint that always runs to one by the second: both sides are counted with the same use."""
    old, new = stacks("realtime", "prod").assembly, stacks("serverless", "prod").assembly
    usage = tmp_path / "usage.yaml"
    usage.write_text("sagerank: {model: tiny, requests_per_second: 0.02, documents: 20}\n", encoding="utf-8")
    command = ["cost", "diff", str(old), str(new), "--usage", str(usage), "--format", "json"]
    assert main(command) == 0
    rows = {row["line"]: row for row in json.loads(capsys.readouterr().out)["tables"]["lines"]["rows"]}
    assert Decimal(
        rows["sagerank-endpoint/Endpoint/AllTraffic: 2 to 8 x ml.c7i.xlarge"]["old USD"]
    ) >= Decimal("312.44")
    processing = rows["sagerank-endpoint/Endpoint/AllTraffic: serverless processing, 1024 MB"]
    assert 1 < Decimal(processing["new USD"]) < 100
    usage.write_text("elsewhere: {model: tiny, requests_per_second: 0.02}\n", encoding="utf-8")
    assert main(command) == 2
    assert "There are: sagerank-endpoint/Endpoint." in capsys.readouterr().err


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name, preset in EVERY if name in OURS])
def test_with_the_use_of_its_configuration_a_stack_costs_what_it_says(
    name: str, preset: str, tmp_path: Path
) -> None:
    """To the cent."""
    found = stacks(name, preset)
    load = found.config.traffic
    use = {
        "model": "tiny",
        "requests_per_second": load.requests_per_second,
        "swing": 0,
        "log_bytes": LOG_BYTES,
    }
    (tmp_path / "usage.json").write_text(json.dumps({"default": use}), encoding="utf-8")
    month = read(found.assembly, CATALOGUE, "us-east-1", usage=Usage(tmp_path / "usage.json"))
    assert not month.unknown
    assert found.outputs()["EstimatedMonthlyCost"].startswith(f"USD {month.usd} a month (")


def test_a_configuration_says_its_own_traffic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("model: tiny\ninstance: ml.m5.xlarge\n", encoding="utf-8")
    path = write(tmp_path / "a.json", Config=serverless(MemorySizeInMB=2048))
    usage = tmp_path / "usage.json"
    usage.write_text(json.dumps({"default": TINY}), encoding="utf-8")
    assert main(["cost", "diff", str(config), str(path), "--usage", str(usage)]) == 0
    assert "a.yaml says its own traffic: the usage file is not of it" in capsys.readouterr().out
    assert main(["cost", "diff", str(config), str(config), "--usage", str(usage)]) == 2
    assert "There are: none" in capsys.readouterr().err
