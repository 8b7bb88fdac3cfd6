"""Debian's Prometheus with the files of examples/compose/, before the real server."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from .conftest import free_port
from .servers import Server, running, wait_for
from .test_compose import ALERTS, FOLDER, QUERIES, SERVICES, config, needs_prometheus

pytestmark = needs_prometheus

COHERE = json.dumps(
    {"model": "any", "query": "what causes rain", "documents": ["A cat.", "Clouds."]}
).encode()


@dataclass(frozen=True)
class Prometheus:
    """The configuration of the example before a server of this machine, once a second."""

    port: int
    server: Server

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        found = self.ask("query", query=expression.replace("$__rate_interval", "10s"))["result"]
        return [float(each["value"][1]) for each in found]


@contextmanager
def _asking(server: Server) -> Iterator[None]:
    """Requests of two dialects and refused ones, from when it is ready until the end."""
    server.wait_until_ready()
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            server.post()
            server.post(COHERE, "/v2/rerank")
            server.post(b"{}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with running() as server, _asking(server):
        given = config()
        given["global"] = dict.fromkeys(given["global"], "1s")
        assert given["scrape_configs"][0]["static_configs"] == [{"targets": ["reranker:8080"]}]
        given["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{server.port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(given), encoding="utf-8")
        shutil.copy(FOLDER / "prometheus/alerts.yml", folder)
        options = [word for word in SERVICES["prometheus"]["command"] if "retention" in word]
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            found = Prometheus(port, server)
            wait_for(lambda: _scraped(found))
            yield found
        finally:
            process.terminate()
            process.wait(30)


def _scraped(prometheus: Prometheus) -> bool:
    try:
        return prometheus.values("count_over_time(sagerank_documents_total[1m])") >= [4]
    except OSError:
        return False


@pytest.mark.parametrize("name", QUERIES)
def test_a_panel_shows_something(prometheus: Prometheus, name: str) -> None:
    values = prometheus.values(QUERIES[name])
    assert values
    assert all(math.isfinite(value) and value >= 0 for value in values)


def test_the_panels_show_what_was_asked(prometheus: Prometheus) -> None:
    dialects = prometheus.ask("query", query="sum by (dialect, status) (sagerank_requests_total)")["result"]
    seen = {(each["metric"]["dialect"], each["metric"]["status"]) for each in dialects}
    assert {("jina", "200"), ("cohere-v2", "200")} <= seen
    assert prometheus.values("sum(sagerank_ready)") == [1]


def test_a_model_that_dies_raises_its_alert_and_no_other(prometheus: Prometheus) -> None:
    def firing() -> set[str]:
        return {each["labels"]["alertname"] for each in prometheus.ask("alerts")["alerts"]}

    (group,) = prometheus.ask("rules")["groups"]
    wait_for(lambda: all(rule["health"] == "ok" for rule in prometheus.ask("rules")["groups"][0]["rules"]))
    assert len(group["rules"]) == len(ALERTS)
    assert firing() == set()
    os.kill(prometheus.server.worker(), signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: "SagerankWorkerRestarts" in firing())
    assert time.monotonic() - began < 30
    prometheus.server.wait_until_ready()
    assert firing() <= {"SagerankWorkerRestarts", "SagerankNotReady"}  # the latter while it loads, pending
