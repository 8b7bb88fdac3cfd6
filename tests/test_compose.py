"""examples/compose/: its files against what they name, and its alerts against what they are for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sagerank.models.build import MICRO
from sagerank_inference.metrics import Metrics

from .conftest import ROOT

FOLDER = ROOT / "examples/compose"
SERVICES: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
DASHBOARD: dict[str, Any] = json.loads(
    (FOLDER / "grafana/dashboards/sagerank.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES: dict[str, str] = {
    f"{panel['title']}, {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}
ALERTS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "prometheus/alerts.yml").read_text(encoding="utf-8"))[
    "groups"
][0]["rules"]

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus is not installed here: Debian has a package of that name",
)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_and_only_this_machine_reaches_it(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert service["mem_limit"]
    assert service["cpus"]
    assert "build" in service or service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "build" in service or re.fullmatch(r"[\w/-]+:v?[\d.]+@sha256:[0-9a-f]{64}", service["image"])


def test_what_the_services_name_is_there() -> None:
    reranker = SERVICES["reranker"]
    context = FOLDER / reranker["build"]["context"]
    assert (context / reranker["build"]["dockerfile"]).is_file()
    (default, target) = re.findall(r"^\$\{MODEL:-(.+)\}:(.+):ro$", reranker["volumes"][0])[0]
    assert (FOLDER / default).samefile(MICRO)
    assert target == "/opt/ml/model"
    for service in SERVICES.values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert list((FOLDER / volume.split(":")[0]).iterdir())
                assert volume.endswith(":ro")


def test_the_dashboard_asks_the_provisioned_prometheus() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources/sagerank.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == config()["global"]["scrape_interval"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards/sagerank.yaml").read_text(encoding="utf-8"))[
        "providers"
    ]
    grafana = SERVICES["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/sagerank.json"


def test_the_panels_lie_side_by_side() -> None:
    """Grafana has 24 columns, and moves a panel that covers another."""
    covered: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not covered & cells
        covered |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_every_metric_is_shown_and_every_one_named_is_there() -> None:
    text = Metrics().render().decode()
    known = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    families = {name.removesuffix("_total") for name in known if not name.endswith("_created")}
    expressions = " ".join([*QUERIES.values(), *(rule["expr"] for rule in ALERTS)])
    named = {
        re.sub("_(total|bucket|sum|count)$", "", name) for name in re.findall(r"sagerank_\w+", expressions)
    }
    assert named <= families
    # Documents are counted by model, too.
    assert families - named == {"sagerank_documents"}
    page = (ROOT / "docs/server.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(sagerank_\w+)`", page, re.M)) == known - {
        f"{name}_created" for name in families
    }


def config() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    return read


# For each alert, what a minute looks like that it is for, and one that is almost that.
MINUTES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "SagerankDown": ({'up{job="sagerank"}': "0x20"}, {'up{job="other"}': "0x20"}),
    "SagerankNotReady": ({"sagerank_ready": "0x20"}, {"sagerank_ready": "0 1 0 1 0 1 0 1 0 1x20"}),
    "SagerankDrifted": ({"sagerank_drifted": "1x20"}, {"sagerank_drifted": "0x20"}),
    "SagerankWorkerRestarts": (
        {"sagerank_worker_restarts_total": "0 0 0 0 0 1x20"},
        {"sagerank_worker_restarts_total": "7x20"},
    ),
    "SagerankQueueFull": (
        {'sagerank_requests_total{dialect="jina",status="429"}': "1+1x20"},
        {'sagerank_requests_total{dialect="jina",status="200"}': "1+100x20"},
    ),
    "SagerankErrors": (
        {
            'sagerank_requests_total{status="500"}': "0+2x20",
            'sagerank_requests_total{status="200"}': "0+100x20",
        },
        {
            'sagerank_requests_total{status="500"}': "0+1x20",
            'sagerank_requests_total{status="400"}': "0+100x20",
        },
    ),
    "SagerankSlow": (
        {
            'sagerank_stage_seconds_bucket{stage="total",le="2.0"}': "0+94x20",
            'sagerank_stage_seconds_bucket{stage="total",le="5.0"}': "0+100x20",
            'sagerank_stage_seconds_bucket{stage="total",le="+Inf"}': "0+100x20",
        },
        {
            'sagerank_stage_seconds_bucket{stage="total",le="1.0"}': "0+96x20",
            'sagerank_stage_seconds_bucket{stage="total",le="2.0"}': "0+96x20",
            'sagerank_stage_seconds_bucket{stage="total",le="+Inf"}': "0+100x20",
        },
    ),
}


@needs_prometheus
def test_an_alert_fires_for_what_it_is_for_and_not_for_what_is_like_it(tmp_path: Path) -> None:
    assert MINUTES.keys() == {rule["alert"] for rule in ALERTS}
    shutil.copy(FOLDER / "prometheus/alerts.yml", tmp_path)
    tests = []
    for name, minutes in MINUTES.items():
        for series, fires in zip(minutes, (True, False), strict=True):
            tests.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": each, "values": values} for each, values in series.items()],
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                            "eval_time": "15m" if name != "SagerankWorkerRestarts" else "8m",
                            "exp_samples": [{"labels": "{}", "value": int(fires)}],
                        }
                    ],
                }
            )
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": tests}), encoding="utf-8")
    promtool("test", "rules", str(file))


@needs_prometheus
def test_prometheus_accepts_its_files() -> None:
    promtool("check", "config", str(FOLDER / "prometheus/prometheus.yml"))


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
