"""What pip is told on this machine, as the secrets of a build: where its packages come from, and whom it trusts."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Of pip's settings those that say how an index is reached; the others are about this machine's files and screen.
_KEPT = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "retries")
_ADDRESSES = ("index-url", "extra-index-url", "find-links")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def secrets(folder: Path) -> dict[str, Path]:
    """The secrets' names, as the Dockerfiles have them, and their files: those that are written go into `folder`, which is the caller's alone.

    Empty where nothing is configured: pip then asks PyPI, as anywhere.
    """
    told = _pip()
    kept = {name: text for name in _KEPT if (text := _outside(name, told.get(name, "")))}
    found: dict[str, Path] = {}
    bundle = next((name for name in (told.get("cert"), *map(os.environ.get, _BUNDLES)) if name), None)
    if bundle and Path(bundle).is_file():
        found["ca"] = Path(bundle)
    if kept:
        written = configparser.RawConfigParser()
        written["global"] = kept
        found["pip"] = folder / "pip.conf"
        with found["pip"].open("w", encoding="utf-8") as file:
            written.write(file)
    return found


def _pip() -> Mapping[str, str]:
    """Settings of pip by name: a variable before what a file says of `pip install`, and that before what it says of all commands."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in done.stdout.splitlines():
        place, _, text = line.partition("=")
        section, _, name = place.rpartition(".")
        if section in found:
            found[section][name.removeprefix("default-")] = str(ast.literal_eval(text))
    return {**found["global"], **found["install"], **found[":env:"]}


def _outside(name: str, text: str) -> str:
    """A setting without what lies on this machine's disk, which a build does not see."""
    if name not in _ADDRESSES:
        return text
    return " ".join(word for word in text.split() if word.startswith(("http://", "https://")))
