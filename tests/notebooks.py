"""Run the walkthroughs of notebooks/ headless: no AWS, a home folder that is gone afterwards, and no network.

Python processes are refused every address but this machine's, others (Node.js) get a proxy where nobody listens.

python -m tests.notebooks              # all, executed copies in build/notebooks/
python -m tests.notebooks 01 04        # those whose names begin so
python -m tests.notebooks --strip      # take outputs out of the notebooks themselves, as they are kept in git
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError

ROOT = Path(__file__).parent.parent
FOLDER, EXECUTED = ROOT / "notebooks", ROOT / "build/notebooks"
CELL_SECONDS = 600
# What a user or machine may have set, and no notebook may depend on.
_OWN = ("AWS_", "HF_", "IPYTHON", "JUPYTER", "MPL", "SAGERANK_", "SAGEMAKER_", "XDG_")
# What is imported: first that which keeps every Python process off the network.
_ROOMS = ("tests/offline", ".", "inference", "cost", "infra")
# Nobody listens there: what asks the network fails at once, and does not wait.
_NOWHERE = "http://127.0.0.1:9"


class NotebookError(RuntimeError):
    """A notebook that did not run to its end; the message has its name, the cell and the error's last lines."""


def environment(home: Path) -> dict[str, str]:
    """A kernel's environment: this checkout's sources, the `sagerank` command among them, and nothing of the user's."""
    command = home / "bin/sagerank"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sagerank.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = (str(command.parent), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(_OWN) and not name.lower().endswith("_proxy")
    }
    proxies = {"http_proxy": _NOWHERE, "https_proxy": _NOWHERE, "no_proxy": "localhost,127.0.0.1,::1"}
    return {
        **kept,
        **proxies,
        **{name.upper(): text for name, text in proxies.items()},
        "HOME": str(home),
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join(str(ROOT / room) for room in _ROOMS),
        "AWS_EC2_METADATA_DISABLED": "true",
        "CDK_VALIDATION": "false",  # seconds in each process
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


def execute(path: Path, output: Path) -> float:
    """Run a notebook in its own folder, write the executed copy, also of one that failed, and return the seconds it took.

    Raises NotebookError where a cell fails, and where a file is left beside the notebook.
    """
    notebook, before, began = nbformat.read(path, as_version=4), set(path.parent.iterdir()), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sagerank-notebook-", ignore_cleanup_errors=True) as home:
        # The kernel of this interpreter, and none that is installed under the same name.
        kernels = KernelSpecManager(kernel_dirs=[], data_dir=home)
        manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=kernels,
            connection_file=f"{home}/kernel.json",
            transport="ipc",  # no port, which others on this machine could reach
        )
        client = NotebookClient(
            notebook, km=manager, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
        )
        try:
            client.execute(env=environment(Path(home)), cleanup_kc=True)
        except (CellControlSignal, DeadKernelError) as error:
            raise NotebookError(_sentence(path, output, client, error)) from None
        finally:
            output.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, output)
    if left := set(path.parent.iterdir()) - before:
        raise NotebookError(
            f"{path.name} leaves {', '.join(each.name for each in left)}: clean up at its end."
        )
    return time.monotonic() - began


def _sentence(path: Path, output: Path, client: NotebookClient, error: Exception) -> str:
    """Where it failed, and the last lines of why."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip().splitlines()[-6:]
    return "\n  ".join(
        [f"{path.name}: code cell {client.code_cells_executed} failed, as {output} shows:", *lines]
    )


def stripped(text: str) -> str:
    """A notebook as it is kept in git: without outputs, counts and whatever an editor notes about itself."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return str(nbformat.writes(notebook)) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks", description="Run the notebooks.")
    parser.add_argument("names", nargs="*", help="beginnings of file names (default: all)")
    parser.add_argument(
        "--strip", action="store_true", help="take outputs out of the notebooks, and run nothing"
    )
    options = parser.parse_args()
    found = sorted(FOLDER.glob("*.ipynb"))
    paths = [path for path in found if not options.names or path.name.startswith(tuple(options.names))]
    if not paths:
        sys.exit(f"No notebook begins so: give one of {', '.join(path.stem for path in found)}.")
    failed, began = 0, time.monotonic()
    for path in paths:
        if options.strip:
            path.write_text(stripped(path.read_text(encoding="utf-8")), encoding="utf-8")
            continue
        try:
            seconds = execute(path, EXECUTED / path.name)
            sys.stdout.write(f"{path.name:<34} {seconds:6.1f} s\n")
        except NotebookError as error:
            failed += 1
            sys.stdout.write(f"{error}\n")
        sys.stdout.flush()
    if not options.strip:
        sys.stdout.write(
            f"{len(paths) - failed} of {len(paths)} notebooks ran, {time.monotonic() - began:.0f} s\n"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
