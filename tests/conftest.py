"""Models the tests run on: `micro`, which is real, and small random ones of any shape."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from sagerank.models.build import MICRO
from sagerank_inference.checkpoint import JinaBertConfig
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings

if TYPE_CHECKING:
    from sagerank_inference import jina_bert

# The machine may be busy: time is no verdict, and slow generation no defect.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], derandomize=True
)
hypothesis.settings.load_profile("shared")

# Nothing here may reach AWS or a hub, whatever the machine is set up with.
os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "HF_HUB_OFFLINE": "1"}
# Speeds that a developer measured (`sagerank cost measure`) are none of the tests': there is no folder in it.
os.environ["XDG_DATA_HOME"] = os.devnull
# The CDK validates templates for seconds in each process (one test asks for it), and warns of the node that is installed.
os.environ |= {"CDK_VALIDATION": "false", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"}

# readline tells children of pytest, two halves of the suite among them, that there is a terminal of 80 columns.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# A shell that starts the suite in the background has its children ignore Ctrl-C, and nohup a hang-up, which tests send to theirs.
# What is handled here, and not ignored, is as it was by default in a child.
for _signal in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, lambda *_: None)

ROOT = Path(__file__).parent.parent

# The newest Python has no wheel of these for a while. Where one is missing, what imports it is skipped, and says so.
_MISSING = {
    name
    for name in ("torch", "onnx", "sentence_transformers", "transformers", "accelerate", "datasets")
    if not find_spec(name)
}
_MISSING |= {name.replace("_", "-") for name in _MISSING}  # as package metadata calls them


def needs(name: str) -> pytest.MarkDecorator:
    """For a test that asks the command line or a child for what imports `name`."""
    return pytest.mark.skipif(name in _MISSING, reason=f"{name} is not installed here")


def _skipped(report: Any, error: BaseException | None, path: Path) -> Any:
    while error and (name := getattr(error, "name", None)) not in _MISSING:
        error = error.__cause__ or error.__context__
    if error:
        report.outcome, report.longrepr = "skipped", (str(path), 1, f"{name} is not installed here")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    return _skipped((yield), call.excinfo and call.excinfo.value, item.path)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    return _skipped(report, report.call.excinfo and report.call.excinfo.value, collector.path)


# Every small model here uses micro's tokenizer.
VOCABULARY = JinaBertConfig.read(MICRO).vocab_size
SMALL = JinaBertConfig(
    vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=3, num_attention_heads=12, intermediate_size=64
)


def random_model(config: JinaBertConfig = SMALL, seed: int = 0) -> jina_bert.JinaBert:
    """Weights large enough that attention is far from uniform and an error anywhere shows in the logit."""
    import torch

    from sagerank_inference import jina_bert

    torch.manual_seed(seed)
    model = jina_bert.JinaBert(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.1 if name.startswith("classifier") else 0.25
            parameter.add_(torch.randn_like(parameter) * spread)
    return model.eval()


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model as a Hugging Face folder with micro's tokenizer and the graph."""
    import torch

    from sagerank.models import graph
    from sagerank_inference import jina_bert

    folder = tmp_path_factory.mktemp("small")
    jina_bert.save(random_model(), folder, torch.float32)
    shutil.copyfile(MICRO / "tokenizer.json", folder / "tokenizer.json")
    graph.write(folder)
    return folder


@pytest.fixture(scope="session")
def micro() -> Engine:
    return Engine.load(MICRO, Settings(model_dir=MICRO))


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alone(*path: Path, **variables: str) -> dict[str, str]:
    """The environment of `python -S -P`: what others wrote is importable, and of ours only what lies in `path`.

    -S leaves out the .pth files of site-packages, by which an editable install adds this checkout.
    """
    third_party = sysconfig.get_path("purelib")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(map(str, (*path, third_party))), **variables}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A working directory with a user's own files, of names that ours or the libraries' have: each ends who runs it."""
    folder = tmp_path / "hostile"
    for name in ("inference", "cost", "infra", "json", "numpy", "socket", "sitecustomize"):
        (folder / f"{name}.py").parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("raise SystemExit(f'{__file__} was executed')")
    for name in ("evaluation", "sagerank", "sagerank_inference", "tokenizers"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit(f'{__file__} was executed')")
    return folder


def run_python(
    code: str, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, for what depends on what is imported."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        timeout=120,
    )
