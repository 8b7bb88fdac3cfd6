"""Groups of clients: each installed in an environment of its own when its pins changed, and its script run in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..conftest import ROOT

HERE = Path(__file__).parent
SHARED, OFFLINE, BUILT = HERE / "shared", ROOT / "tests/offline", ROOT / "build/clients"
SCRIPT_SECONDS = 240
# For clients that call home, or look for credentials on the network, unless they are told not to.
_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "SCARF_NO_ANALYTICS": "true",
}


# Hosts that a group asks for whatever it is told, and does without: it is refused them as any other.
_ASKED = {"gateways": {"huggingface.co"}}  # LiteLLM: how long a text a huggingface model takes


class GroupError(RuntimeError):
    """A group that cannot be installed; the message has the installer's last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one call: scores in the order of the request, or an error."""

    client: str
    asked: str
    version: str = ""
    scores: list[float | None] | None = None
    error: str = ""
    raw: bool = False
    top: int | None = None
    began: float = 0.0  # seconds since 1970
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """By its name, of which its files are called."""

    name: str

    @property
    def _node(self) -> bool:
        return not (HERE / f"{self.name}.py").exists()

    @property
    def _folder(self) -> Path:
        return BUILT / self.name

    @property
    def _pins(self) -> list[Path]:
        if self._node:
            return [HERE / self.name / name for name in ("package.json", "package-lock.json")]
        return [HERE / f"{self.name}.txt"]

    def install(self) -> None:
        """Make the environment anew unless it holds these pins for this interpreter. Raises GroupError."""
        key = hashlib.sha256(
            sys.version.encode() + b"".join(path.read_bytes() for path in self._pins)
        ).hexdigest()
        mark = self._folder / "installed"
        if mark.is_file() and mark.read_text() == key:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        if self._node:
            for path in self._pins:
                shutil.copy(path, self._folder)
            self._call("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
        else:
            self._call(sys.executable, "-m", "venv", ".")
            pip = (
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-compile",
                "--no-deps",
            )
            self._call(str(self._folder / "bin/python"), *pip, "-r", str(self._pins[0]))
        mark.write_text(key)

    def _call(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self._folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = " ".join((done.stdout + done.stderr).split())[-600:]
            raise GroupError(f"{self.name}: {command[0]} failed: {last}")

    def run(self, url: str, request: Path) -> Iterator[Row]:
        """Yield the rows of the script; one with an error for a script that fails, or that asks for another machine."""
        with tempfile.TemporaryDirectory(prefix="sagerank-clients-") as home:
            refused = Path(home, "refused")
            environment = {
                **_QUIET,
                "HOME": home,
                "LANG": "C.UTF-8",
                "PATH": os.environ.get("PATH", os.defpath),
                "PYTHONPATH": os.pathsep.join(map(str, (OFFLINE, SHARED))),
                "PYTHONSAFEPATH": "1",  # a script may have the name of what it imports
                "PYTHONWARNINGS": "ignore",
                "OFFLINE_REFUSED": str(refused),
            }
            log = Path(home, "log")
            with log.open("w") as errors:
                try:
                    done = subprocess.run(
                        [*self._interpreter(), url, str(request)],
                        env=environment,
                        cwd=home,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        timeout=SCRIPT_SECONDS,
                        check=False,
                    )
                    output, status = (
                        done.stdout,
                        f"ended with status {done.returncode}" if done.returncode else "",
                    )
                except subprocess.TimeoutExpired as error:
                    output, status = error.stdout or b"", f"did not end in {SCRIPT_SECONDS} s"
            yield from map(_row, output.split(b"\n")[:-1])
            if status or not output:
                last = " ".join(log.read_text(errors="replace").split())[-300:]
                yield Row(client=self.name, asked="script", error=f"{status or 'printed nothing'}: {last}")
            asked = set(refused.read_text().split()) if refused.exists() else set[str]()
            if asked := asked - _ASKED.get(self.name, set()):
                hosts = ", ".join(sorted(asked))
                yield Row(client=self.name, asked="script", error=f"asked for other machines: {hosts}")

    def _interpreter(self) -> list[str]:
        if not self._node:
            return [str(self._folder / "bin/python"), str(HERE / f"{self.name}.py")]
        # Modules are looked for beside a script and above it.
        for path in (HERE / f"{self.name}.mjs", *SHARED.glob("*.mjs")):
            shutil.copy(path, self._folder)
        first = [f"--import={path}" for path in SHARED.glob("offline.mjs")]
        return ["node", *first, str(self._folder / f"{self.name}.mjs")]


def _row(line: bytes) -> Row:
    return Row(**json.loads(line))


def groups() -> list[str]:
    """Names of all groups."""
    python = {path.stem for path in HERE.glob("*.txt")}
    return sorted(python | {path.stem for path in HERE.glob("*.mjs")})
