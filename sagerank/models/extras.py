"""What else has to be installed, and how."""

from __future__ import annotations

import json
from importlib import metadata
from urllib.parse import urlsplit
from urllib.request import url2pathname


def install(extra: str) -> str:
    """The command that installs one of pyproject.toml's extras, from where sagerank itself came: an index or a checkout."""
    try:
        source = json.loads(metadata.distribution("sagerank").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:  # the sources are on the import path, and nothing is installed
        source = {}
    if source.get("dir_info", {}).get("editable"):
        return f"pip install -e '{url2pathname(urlsplit(source['url']).path)}[{extra}]'"
    return f"pip install 'sagerank[{extra}]'"
