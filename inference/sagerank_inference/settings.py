"""What an operator may set, read from the environment in this one place."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self, cast

PREFIX = "SAGERANK_"
_OTHERS = "SAGERANK_PROXY_"  # of `sagerank proxy`, which is no server of a model
_MOST_THREADS = 1024  # more than any instance has cores
_MOST_CACHE = 4096  # MB: 170 million pairs, which are taken when the server starts
_ZERO = {"overlap_tokens", "cache_mb", "lanes"}  # may be 0
_MOST = 2**31 - 1  # what the worker's frames and every timer hold
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_MOSTS = {"threads": _MOST_THREADS, "port": 65_535, "cache_mb": _MOST_CACHE}
_LONGEST = 100  # of a name or value that a message quotes
# Numbers are ASCII, of a length that a number has: what to match, and what to ask for.
_NUMBERS: dict[type, tuple[re.Pattern[str], str]] = {
    int: (re.compile(r"[+-]?[0-9]{1,18}"), "a whole number"),
    float: (
        re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,3})?"),
        "a number",
    ),
}
# What Kubernetes tells each pod of services called sagerank and sagerank-something, as NAME=VALUE.
_KUBERNETES = re.compile(
    r"SAGERANK_(\w+_)?(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?=|PORT=(tcp|udp|sctp)://)",
    re.A,
)


class SettingsError(ValueError):
    """A setting that cannot be used; the text names it, its value and what is allowed."""


def physical_cores(root: Path = Path("/")) -> int:
    """Return the cores this process may use: its CPU affinity, without hyper-threads, at most the container's CPU quota.

    Two hyper-threads share the vector units that matrix products keep busy, so a second thread on a core adds
    nothing. Where the system does not tell (macOS, Windows), every processor counts. root: of /sys and /proc.
    """
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {
        _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", cpu) for cpu in cpus
    }
    return max(1, min([len(cores), *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Yield the whole CPUs that control groups of version 1 and 2 allow this process, from the inmost out."""
    mount = root / "sys/fs/cgroup"
    # A container may see its own groups at the root, whatever the path that the kernel gives.
    for line in _text(root / "proc/self/cgroup", "0::/\n1:cpu:/").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / "cpu" if controllers else mount
        group = top / path.lstrip("/")
        for folder in (group, *group.parents[: len(group.parents) - len(top.parents)]):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            words = " ".join(_text(folder / name, "") for name in names).split()
            if len(words) == 2 and words[0].isdecimal():  # unlimited is "max" or -1
                yield int(words[0]) // int(words[1])


def _text(path: Path, default: object) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return str(default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Field `x` is the environment variable SAGERANK_X. Times are in seconds, sizes in bytes or tokens as named."""

    model_dir: Path = Path("/opt/ml/model")  # the unpacked artefact
    manifest_sha256: str = "any"  # that the artefact's manifest.json must have; another artefact is refused
    host: str = "*"  # an address to listen on; *: all, of IPv4 and IPv6
    port: int = 8080  # SageMaker calls this one
    backend: str = "onnx"  # onnx (CPU) or torch
    device: str = "cpu"  # of the torch backend: cpu, cuda, cuda:0, ...
    precision: str = "auto"  # of torch's products: auto, fp32, bf16 or fp16; auto: 16 bits on CUDA if the golden pairs allow
    threads: int = 0  # of the model; 0: one for each physical core
    lanes: int = 0  # batches at once; 0: one for each thread, and from 4 cores on as measured at the start
    batch_tokens: int = 0  # pairs x longest of a forward; 0: 1,024 on CPU, 16,384 on CUDA
    query_tokens: int = 512  # a query keeps its first
    max_tokens: int = 8192  # of a pair; a longer document is scored in windows
    overlap_tokens: int = 80  # of two neighbouring windows
    max_documents: int = 10_000  # in one request
    max_body_bytes: int = 6_291_456  # of one request
    max_queue_tokens: int = 500_000  # waiting; more are answered 429
    request_seconds: float = 55.0  # until a request is answered 504; SageMaker gives up after 60
    batch_seconds: float = 120.0  # until a forward counts as hung and its process is replaced
    golden_seconds: float = 600.0  # between two checks of the golden pairs while idle
    drain_seconds: float = 25.0  # for requests under way when told to stop; SageMaker kills after 30
    cache_mb: int = 0  # of scores of pairs seen before, in 10^6 bytes, 24 a pair; 0: none is kept
    cors_origins: str = "none"  # whose web pages may call: origins with commas between, or *

    def __post_init__(self) -> None:
        if self.threads == 0:
            object.__setattr__(self, "threads", physical_cores())
        if self.batch_tokens == 0:
            # On a CPU, larger batches leave its caches; a GPU is idle below.
            object.__setattr__(self, "batch_tokens", 1024 if self.device == "cpu" else 16_384)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float):
                most = _MOSTS.get(field.name, _MOST)
                _check(_variable(field.name), value, most, zero=field.name in _ZERO)
        if not self.host.isprintable() or not self.host or " " in self.host:
            raise SettingsError(
                f"{_variable('host')} is {_shown(self.host)}: give one address or name, or *."
            )
        if not re.fullmatch("any|[0-9a-f]{64}", self.manifest_sha256):
            raise SettingsError(
                f"{_variable('manifest_sha256')} is {_shown(self.manifest_sha256)}: give 64 hexadecimal digits, as `sagerank build` prints "
                "them, or any."
            )
        if "\0" in str(self.model_dir):
            raise SettingsError(
                f"{_variable('model_dir')} is {_shown(self.model_dir)}: give the path of a folder."
            )
        self._check_backend()
        if self.query_tokens + 8 > self.max_tokens:
            raise SettingsError(
                f"{_variable('query_tokens')} is {self.query_tokens}, which leaves no room for a document in "
                f"{_variable('max_tokens')}={self.max_tokens}: lower one or raise the other."
            )

    def _check_backend(self) -> None:
        if self.backend not in ("onnx", "torch"):
            raise SettingsError(f"{_variable('backend')} is {_shown(self.backend)}: give onnx or torch.")
        if not re.fullmatch("cpu|cuda(:[0-9]{1,3})?", self.device):
            raise SettingsError(f"{_variable('device')} is {_shown(self.device)}: give cpu, cuda or cuda:N.")
        if self.backend == "onnx" and self.device != "cpu":
            raise SettingsError(
                f"{_variable('device')} is {self.device!r}, and backend onnx runs on cpu: set {_variable('backend')}=torch."
            )
        if self.precision not in PRECISIONS:
            raise SettingsError(
                f"{_variable('precision')} is {_shown(self.precision)}: give {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}."
            )
        if self.backend == "onnx" and self.precision != "auto":
            raise SettingsError(
                f"{_variable('precision')} is {self.precision!r}, and backend onnx computes as the artefact was built: leave it out, or set "
                f"{_variable('backend')}=torch."
            )
        if self.backend == "torch" and self.lanes:
            raise SettingsError(
                f"{_variable('lanes')} is {self.lanes}, and backend torch decides that itself: leave it out."
            )
        if self.lanes > self.threads:
            raise SettingsError(
                f"{_variable('lanes')} is {self.lanes}, and {_variable('threads')} is {self.threads}: give at most as many, or leave it out."
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read SAGERANK_*, and SAGEMAKER_BIND_TO_PORT where SAGERANK_PORT is not set.

        Raises SettingsError for a name that is unknown and a value that cannot be used.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, object] = {}
        names = {_variable(field.name): field for field in fields(cls)}
        for variable, text in environ.items():
            own = variable.startswith(PREFIX) and not variable.startswith(_OTHERS)
            if not own or _KUBERNETES.match(f"{variable}={text}"):
                continue
            if variable not in names:
                # Without what all of them begin with, which makes any two alike.
                ends = {name.removeprefix(PREFIX): name for name in names}
                near = [
                    ends[end] for end in difflib.get_close_matches(variable.removeprefix(PREFIX), ends, n=1)
                ]
                hint = f": did you mean {near[0]}?" if near else f": known are {', '.join(names)}."
                raise SettingsError(f"{variable[:_LONGEST]} is not a setting{hint}")
            values[names[variable].name] = _read(variable, text, type(names[variable].default))
        port = environ.get("SAGEMAKER_BIND_TO_PORT")
        if port and "port" not in values:
            values["port"] = _whole("SAGEMAKER_BIND_TO_PORT", port, 65_535)
        workers = environ.get("SAGEMAKER_MODEL_SERVER_WORKERS")
        if workers and "threads" not in values:
            # AWS's toolkit runs so many processes on the same cores; their threads must not fight for them.
            processes = _whole("SAGEMAKER_MODEL_SERVER_WORKERS", workers, _MOST_THREADS)
            values["threads"] = max(1, physical_cores() // processes)
        return cls(**values)  # type: ignore[arg-type]

    def to_env(self) -> dict[str, str]:
        """Return the variables of which `from_env` makes these settings."""
        return {_variable(field.name): str(getattr(self, field.name)) for field in fields(self)}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _read(variable: str, text: str, kind: type) -> object:
    if not text:
        raise SettingsError(f"{variable} is empty: give a value, or leave the variable out.")
    if kind in _NUMBERS:
        form, wanted = _NUMBERS[kind]
        if not form.fullmatch(text.strip()):
            raise SettingsError(f"{variable} is {_shown(text)}: give {wanted}.")
    return kind(text)


def _whole(variable: str, text: str, most: int) -> int:
    value = cast(int, _read(variable, text, int))
    _check(variable, value, most)
    return value


def _check(variable: str, value: float, most: int, *, zero: bool = False) -> None:
    if not (0 < value <= most or (zero and value == 0)):
        wanted = f"at most {most}" if value > most else f"{'0 or ' * zero}a positive number"
        raise SettingsError(f"{variable} is {value}: give {wanted}.")


def _shown(value: object) -> str:
    text = repr(str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
