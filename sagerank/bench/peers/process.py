"""A peer in its process, as a subject of the benchmark."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sagerank_inference import quiet
from sagerank_inference.tokenise import Tokeniser

from ...evaluation.collection import sample
from ..process import completed, last_words
from .catalogue import PEERS, PeerError, PeerSpec
from .environment import environment, isolated
from .export import export
from .once import once

RUNNER = Path(__file__).with_name("runner.py")
PREPARE = Path(__file__).with_name("prepare.py")
# Both its tokens and its casing tell tokenisers apart.
_PROBE = (
    "How do Alpine glaciers shape valleys?",
    "Glaciers carve U-shaped valleys; they leave moraines (till).",
)


class PeerProcess:
    """A started peer. Raises PeerError where it does not answer, then and later."""

    def __init__(self, name: str, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self.name = name
        self.batch: int | None = None  # documents in a batch of the last call
        self._errors = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, env=dict(variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def score(self, query: str, documents: Sequence[str]) -> tuple[list[float], float]:
        """Logits in the order of `documents`, and the seconds of the peer's own scoring call, measured in its process.

        To tune, the first call with so many documents of such a length takes longer: it chooses the batch size.
        """
        answer = self._ask({"query": query, "documents": list(documents)})
        self.batch = answer["batch"]
        return answer["scores"], answer["seconds"]

    def ids(self, query: str, document: str) -> list[int]:
        """The pair's token ids, as the peer makes them."""
        result: list[int] = self._ask({"pair": [query, document]})["ids"]
        return result

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: what it left is read below
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            if code < 0:
                memory = " (out of memory?)" if code == -9 else ""
                raise PeerError(f"{self.name}: its process was ended by signal {-code}{memory}")
            reason = last_words(Path(self._errors.name), f"its process ended with {code}")
            raise PeerError(f"{self.name}: {reason}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process: kindly, and after ten seconds in any case."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


@contextmanager
def open_peer(
    name: str,
    artefact: Path,
    *,
    threads: int,
    cache: Path,
    tune: bool = False,
    python: Path | None = None,
    device: str = "",
    precision: str = "fp32",
) -> Iterator[PeerProcess]:
    """Start a peer of PEERS on an artefact's weights with so many threads; it is ended with the context.

    device: cpu or cuda, for peers that run there, in fp32, bf16 or fp16; empty: the CPU as the peer has it.
    tune: with the fastest batch size for each workload in place of the library's own. python: use this interpreter, and
    install nothing. The peer's environment, the exported weights and what it makes of them are kept under `cache`.
    Raises PeerError with one sentence where any of that fails, or where it tokenises otherwise than we do.
    """
    if name not in PEERS:
        raise PeerError(f"There is no peer {name!r}: give some of {', '.join(PEERS)}.")
    spec = PEERS[name]
    if threads < 1:
        raise PeerError(f"{name} needs a number of threads, at least 1, not {threads}.")
    folder = export(artefact, cache)
    if python is None:
        python = environment(spec.requirements, cache, name=name, without=spec.without)
    variables = isolated(
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads)),
        # The class lies in the folder. No hub is asked, and nobody is told.
        HOME=str(_home(cache)),
        HF_HOME=str(cache / "huggingface"),
        HF_HUB_OFFLINE="1",
        **quiet.unset(quiet.OURS),
    )
    outputs = _prepare(spec, folder, python, variables)
    named = {key: value.format(**outputs) for key, value in spec.options.items()}
    if device:
        named |= {"device": device, "precision": precision}
    options = json.dumps({**named, "threads": threads, "tune": tune})
    command = [str(python), "-I", str(RUNNER), spec.runner, str(folder), options]
    with contextlib.closing(PeerProcess(name, command, variables)) as peer:
        _check_tokens(peer, artefact)
        yield peer


def _home(cache: Path) -> Path:
    """A home for the peers, where OpenVINO's telemetry finds that it is declined: no variable says so."""
    home = cache / "home"
    (home / "intel").mkdir(parents=True, exist_ok=True)
    (home / "intel/openvino_telemetry").write_text("0", encoding="ascii")
    return home


def _prepare(spec: PeerSpec, folder: Path, python: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Run the steps that have not been run. The result names every step's output folder, relative to `folder`."""
    outputs: dict[str, str] = {}
    earlier = ""
    version = hashlib.sha256(PREPARE.read_bytes()).hexdigest()[:8]
    for step in spec.steps:
        # Other pins, or another way of doing it, may make another model.
        output = folder / f"{step}-{python.parent.parent.name}-{version}"

        def run(output: Path, step: str = step, earlier: str = earlier) -> None:
            command = [str(python), "-I", str(PREPARE), step, str(folder), str(output), earlier]
            done = completed(command, env=dict(variables), input=json.dumps(_calibration()))
            if done.returncode:
                words = last_words(done.stderr, f"it ended with {done.returncode}")
                raise PeerError(f"{spec.name}: its step {step} failed: {words}")

        once(output, run)
        outputs[step], earlier = output.name, str(output)
    return outputs


def _calibration() -> list[tuple[str, str]]:
    """Pair each query of the sample, which no benchmark's judgements touch, with the passage that answers it."""
    texts = sample()
    return [
        (query, texts.documents[passage])
        for name, query in texts.queries.items()
        for passage in texts.qrels[name]
    ]


def _check_tokens(peer: PeerProcess, artefact: Path) -> None:
    ours = list(Tokeniser.load(artefact)(_PROBE[0], [_PROBE[1]]).ids[0])
    theirs = peer.ids(*_PROBE)
    if theirs != ours:
        raise PeerError(
            f"{peer.name} makes other tokens of the same text ({len(theirs)} beside {len(ours)}): its scores would not be comparable."
        )
