"""What the site adds to docs/: notebooks, pages made by the program, pages from elsewhere in the repository.

MkDocs calls the `on_` functions. Nothing in what is built asks another host for anything.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from docs import diagram, generated  # noqa: E402

# Pages that lie elsewhere in the repository, and where the site has them.
ELSEWHERE = {
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
    "inference/sagerank_inference/micro/README.md": "project/micro.md",
}
# What a browser fetches by itself: links that a reader may follow are no part of it.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\s(?:src|srcset)=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|prev|next))[^>]*?\shref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(?:url\(|@import )["']?((?:https?:)?//[^"')\s]+)"""
)
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def notebooks() -> dict[str, Path]:
    """The walkthroughs and their first page by the site's names; as `make notebooks` executed them where it has run."""
    folders = (ROOT / "build/notebooks", ROOT / "notebooks")
    found = next((found for folder in folders if (found := sorted(folder.glob("*.ipynb")))), [])
    first = ROOT / "notebooks/README.md"
    pages = {"notebooks/README.md": first} if found and first.exists() else {}
    return pages | {f"notebooks/{path.name}": path for path in found}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the walkthroughs after "Start"."""
    if found := list(notebooks()):
        config.nav = [*config.nav[:2], {"Walk through": found}, *config.nav[2:]]
    return config


@event_priority(100)  # before the plugin that turns notebooks into pages
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not lie in docs/."""
    for name, path in notebooks().items():
        files.append(File(name, str(path.parent.parent), config.site_dir, config.use_directory_urls))
    for uri, write in generated.PAGES.items():
        files.append(File.generated(config, uri, content=write()))
    for source, uri in ELSEWHERE.items():
        # Some of them say who they are to others than us before they begin.
        text = re.sub(r"\A---\n.*?\n---\n", "", (ROOT / source).read_text(encoding="utf-8"), flags=re.S)
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Draw diagrams, and turn links into the repository to where the site has it; without a page their text stays."""
    uri = page.file.src_uri
    here = PurePosixPath(_source(uri)).parent

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if uri in generated.PAGES:
            return found[0]
        source = posixpath.normpath(str(here / target))
        known = {**ELSEWHERE, **{name: name for name in notebooks()}}
        goal = source.removeprefix("docs/") if source.startswith("docs/") else known.get(source)
        if goal is None:
            return text
        return f"[{text}]({os.path.relpath(goal, PurePosixPath(uri).parent)}{anchor})"

    drawn = re.sub(
        r"^```mermaid\n(.*?)^```$", lambda block: diagram.svg(block[1]), markdown, flags=re.M | re.S
    )
    return _LINK.sub(link, drawn)


def _source(uri: str) -> str:
    """Where in the repository a page of the site comes from."""
    kept = {page: source for source, page in ELSEWHERE.items()} | {name: name for name in notebooks()}
    return kept.get(uri, f"docs/{uri}")


def on_post_page(output: str, *, page: Page, **_: object) -> str:
    """Take out of notebooks' pages the scripts that fetch others: formulas, widgets and diagrams from public hosts."""
    if not page.file.src_uri.endswith(".ipynb"):
        return output
    scripts = re.compile(r"<script\b[^>]*>.*?</script>", re.S)
    return scripts.sub(
        lambda script: "" if re.search(r"https?://|mathjax|src=\"\"", script[0]) else script[0], output
    )


def foreign(text: str) -> list[str]:
    """The addresses on other hosts that a page or a style sheet would have a browser fetch."""
    return [next(filter(None, found)) for found in _FETCHED.findall(text)]


def on_post_build(config: MkDocsConfig) -> None:
    """Fail where the site would ask another host for anything."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in {".html", ".css", ".svg"} and (asked := foreign(path.read_text(encoding="utf-8"))):
            raise PluginError(f"{path.relative_to(config.site_dir)} would fetch {asked[0]}")
