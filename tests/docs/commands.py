"""A `sagerank` command of a page or a walkthrough, read as the program would read it."""

from __future__ import annotations

import re
import shlex

from sagerank.cli import _parser
from sagerank.operate.commands import _OWN
from sagerank.operate.deploy import chosen, want


def read(command: str) -> None:
    """Raise what the program would: SystemExit for its options, ConfigError for what cannot be deployed.

    command: what follows `sagerank`, up to a pipe or where its output goes. The artefact and a file of the configuration or a
    plan are the reader's, and not looked at.
    """
    command = re.split(r" (?:2?>|<|\||\|\|) ", command)[0].replace("$NAME", "walkthrough")
    options = _parser().parse_args(shlex.split(command, comments=True))
    if command.startswith("deploy ") and not (options.config or options.apply):
        want(None, chosen(options, list(_OWN)) | {"artefact": "s3://bucket/model.tar.gz"})
