"""What the site adds to the pages: links that leave docs/, diagrams, pages that the program writes, and no other host."""

from __future__ import annotations

import argparse
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import get_args, get_origin, get_type_hints

import pytest

from docs import diagram, generated, hooks
from sagerank.cli import _parser
from sagerank_infra.config import DeployConfig

from ..conftest import ROOT


def converted(markdown: str, uri: str) -> str:
    return hooks.on_page_markdown(markdown, page=SimpleNamespace(file=SimpleNamespace(src_uri=uri)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "link", "becomes"),
    [
        ("adding.md", "[how](../CONTRIBUTING.md#test)", "[how](project/contributing.md#test)"),
        ("adr/0001-x.md", "[page](../architecture.md)", "[page](../architecture.md)"),
        ("project/contributing.md", "[page](docs/architecture.md)", "[page](../architecture.md)"),
        ("project/micro.md", "[all](../../../docs/benchmarks.md#quality)", "[all](../benchmarks.md#quality)"),
        (
            "benchmarks.md",
            "[card](../inference/sagerank_inference/micro/README.md)",
            "[card](project/micro.md)",
        ),
        ("project/contributing.md", "[pins](requirements/README.md)", "pins"),
        ("index.md", "[out](https://example.org/a)", "[out](https://example.org/a)"),
        ("index.md", "![picture](images/demo.svg)", "![picture](images/demo.svg)"),
    ],
)
def test_links_lead_to_where_the_site_has_it(uri: str, link: str, becomes: str) -> None:
    assert converted(link, uri) == becomes


@pytest.mark.parametrize(
    "fetched",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<img alt='' src=//cdn.example/x.png>",
        '<link rel="stylesheet" href="https://cdn.example/x.css">',
        "@import 'https://cdn.example/x.css'",
        "a { background: url(https://cdn.example/x.png) }",
    ],
)
def test_what_a_browser_would_fetch_elsewhere_is_found(fetched: str) -> None:
    assert len(hooks.foreign(fetched)) == 1


def test_what_a_reader_may_follow_is_not() -> None:
    kept = '<a href="https://example.org">x</a> <link rel="canonical" href="https://example.org"> <script src="a.js"></script>'
    assert hooks.foreign(kept) == []


def test_notebooks_lose_the_scripts_that_fetch_others() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="notebooks/a.ipynb"))
    written = '<script>import "https://cdn.example/mermaid.mjs"</script><script>let a = 1</script><p>https://a.example</p>'
    left = hooks.on_post_page(written, page=page)  # type: ignore[arg-type]
    assert left == "<script>let a = 1</script><p>https://a.example</p>"


def test_a_diagram_has_each_box_once_and_below_what_points_to_it() -> None:
    drawn = diagram.svg('flowchart TD\n  a["first one"] --> b & c\n  b --> c\n')
    assert drawn.count("<rect") == 3
    assert drawn.count("marker-end") == 3
    assert "first one" in drawn
    heights = [int(part.split('y="')[1].split('"')[0]) for part in drawn.split("<rect")[1:]]
    assert heights == sorted(set(heights))


def test_the_reference_has_every_command_and_option() -> None:
    page = generated.cli()

    def all_of(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    assert f"# `{sub.prog}`" in page
                    all_of(sub)
            elif action.help != argparse.SUPPRESS and "--help" not in action.option_strings:
                assert all(option in page for option in action.option_strings)

    all_of(_parser())
    assert "%(default)s" not in page


def test_the_reference_has_every_option_of_a_deployment_with_its_default() -> None:
    page = generated.options()

    def all_of(kind: type, above: str = "") -> None:
        for name, hint in get_type_hints(kind).items():
            item = get_args(hint)[0] if get_origin(hint) is tuple else hint
            assert f"`{above}{name}`" in page
            if is_dataclass(item):
                all_of(item, f"{above}{name}{'' if item is hint else '[]'}.")  # type: ignore[arg-type]

    all_of(DeployConfig)
    assert "| `rollout.wait_seconds` | `300` | `600` |" in page
    assert "| `log_days` | `30` | `365` |" in page
    assert "dev, prod |" in page


def test_every_page_is_in_the_navigation() -> None:
    import yaml

    def pages(nav: object) -> list[str]:
        if isinstance(nav, dict):
            return [page for part in nav.values() for page in pages(part)]
        return [page for part in nav for page in pages(part)] if isinstance(nav, list) else [str(nav)]

    listed = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed == written | generated.PAGES.keys() | set(hooks.ELSEWHERE.values())
