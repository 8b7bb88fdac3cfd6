"""The page on frameworks, block by block, before a real server."""

from __future__ import annotations

import re

import pytest

from ...conftest import ROOT
from ...servers import Server

PAGE = (ROOT / "docs/frameworks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, re.S))
def test_the_page_runs_as_it_stands(server: Server, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(code.replace("localhost:8080", f"127.0.0.1:{server.port}"), {})
    assert "Rain forms" in capsys.readouterr().out
