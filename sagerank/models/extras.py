"""What else has to be installed, and the command that does it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


class MissingExtra(RuntimeError):
    """Something that is not installed is needed; the message gives the command."""


def check(extras: str) -> None:
    """Raise MissingExtra where a distribution that one of the extras brings is not there. extras: names with commas between.

    Knows nothing, and lets everything pass, where sagerank itself is not installed.
    """
    lacking = {extra: missing(extra) for extra in extras.split(",")}
    names = sorted({name for missed in lacking.values() for name in missed})
    if names:
        command = install(",".join(extra for extra, missed in lacking.items() if missed))
        raise MissingExtra(f"This command needs {listed(names)}: {command}")


def missing(extra: str) -> list[str]:
    """The distributions that the extra brings and that are not installed."""
    return [name for name in sorted(_requirements().get(extra, [])) if not _installed(name)]


def names() -> list[str]:
    """Every extra of the sagerank that is installed."""
    return sorted(_requirements())


def install(extras: str) -> str:
    """The command that installs extras the way sagerank itself was: from an index or a checkout, by pip, pipx or uv."""
    path, prefix = _checkout(), Path(sys.prefix)
    # pipx and uv install a tool anew with what is named, so what is there already is named too.
    tool = next((tool for tool, receipt in _TOOLS.items() if (prefix / receipt).is_file()), "")
    if tool:
        extras = ",".join(sorted({*extras.split(","), *(name for name in names() if not missing(name))}))
    wanted = f"'{path or 'sagerank'}[{extras}]'"
    flag = "-e " if path else ""
    if tool:
        return f"{tool} {flag}{wanted}"
    return f"{_installer()} {flag}{wanted}"


_TOOLS = {"pipx install --force": "pipx_metadata.json", "uv tool install": "uv-receipt.toml"}


def _installer() -> str:
    """What to call so that it installs for this interpreter, and not for another that comes first on PATH."""
    python = shlex.quote(_short(Path(sys.executable)))
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python}" if _elsewhere("python") else "uv pip install"
    return f"{python} -m pip install" if _elsewhere("pip") else "pip install"


def _elsewhere(program: str) -> bool:
    found = shutil.which(program)
    return found is None or Path(found).parent.resolve() != Path(sys.executable).parent.resolve()


def _short(path: Path) -> str:
    """The path, from the current directory where it lies below."""
    with suppress(OSError, ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _checkout() -> str:
    """Where the sources lie that an editable install uses, or nothing."""
    source = {}
    # Without metadata the sources are on the import path, and nothing is installed.
    with suppress(metadata.PackageNotFoundError):
        source = json.loads(metadata.distribution("sagerank").read_text("direct_url.json") or "{}")
    if not source.get("dir_info", {}).get("editable"):
        return ""
    path = _short(Path(url2pathname(urlsplit(source["url"]).path)))
    return path if path == "." or Path(path).is_absolute() else f".{os.sep}{path}"


@cache
def _requirements() -> dict[str, list[str]]:
    """Extra -> distributions, as the metadata of the installed sagerank has them."""
    found: dict[str, list[str]] = {}
    with suppress(metadata.PackageNotFoundError):
        for line in metadata.requires("sagerank") or ():
            if parts := re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", line):
                found.setdefault(parts[2], []).append(parts[1])
    return found


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
        return True
    except metadata.PackageNotFoundError:
        # Another distribution may bring the same: onnxruntime-gpu, for one.
        return find_spec(re.sub("[.-]", "_", name)) is not None


def listed(words: list[str]) -> str:
    """Up to three words, or two and how many more there are."""
    *front, last = [*words[:2], f"{len(words) - 2} more"] if len(words) > 3 else words
    return f"{', '.join(front)} and {last}" if front else last
