"""Where models and scores are kept: below the home, and elsewhere where that cannot be written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ...conftest import needs, run_python

# A home that cannot be found: no HOME, and no entry for the user.
NOBODY = "import os, pwd\nos.environ.pop('HOME', None)\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"
FOLDER = "from sagerank.models.build import default_cache\nfolder = default_cache()\n(folder / 'x').write_text('', encoding='utf-8')\nprint(folder)"


def cache(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    return run_python(code + FOLDER, env={**kept, **variables})


def test_it_lies_below_the_home_or_where_the_variable_says(tmp_path: Path) -> None:
    assert cache("", HOME=str(tmp_path)).stdout.strip() == str(tmp_path / ".cache/sagerank")
    given = cache("", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "given"))
    assert given.stdout.strip() == str(tmp_path / "given/sagerank")


@pytest.mark.parametrize("home", ["missing", "file"])
def test_without_a_home_it_is_the_users_own_temporary_folder(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    found = (
        cache(NOBODY, TMPDIR=str(tmp_path))
        if home == "missing"
        else cache("", HOME=str(tmp_path / "file"), TMPDIR=str(tmp_path))
    )
    folder = tmp_path / f"sagerank-{os.getuid()}"
    assert found.stdout.strip() == str(folder), found.stderr
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache(NOBODY, XDG_CACHE_HOME=str(tmp_path / "x")).stdout.strip() == str(tmp_path / "x/sagerank")


def test_a_temporary_folder_of_another_user_is_not_taken(tmp_path: Path) -> None:
    """A link stands for it: what it leads to may be anybody's."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"sagerank-{os.getuid()}").symlink_to(tmp_path / "theirs")
    done = cache(NOBODY, TMPDIR=str(tmp_path))
    assert "set XDG_CACHE_HOME to one that can be written" in done.stderr
    assert not list((tmp_path / "theirs").iterdir())


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be another user")
def test_a_user_that_the_system_does_not_know_has_a_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for above in tmp_path.parents:
        if above.name.startswith(("pytest-", "popen-")):  # pytest's own, for one user
            above.chmod(0o755)
    # The interpreter itself may lie where only root reads.
    become = "import os, sagerank.models.build\nos.environ.pop('HOME', None)\nos.setuid(54321)\n"
    done = cache(become, TMPDIR=str(tmp_path))
    assert done.stdout.strip() == str(tmp_path / "sagerank-54321"), done.stderr


@pytest.mark.parametrize(
    ("call", "variable"),
    [
        pytest.param(
            "from sagerank.models.build import resolve; resolve('tiny')", "HF_HOME", marks=needs("torch")
        ),
        ("from sagerank.evaluation.collection import load; load('scifact')", "IR_DATASETS_HOME"),
    ],
)
def test_a_download_without_a_home_says_what_to_set(tmp_path: Path, call: str, variable: str) -> None:
    done = run_python(NOBODY + call, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert f"set {variable} to a folder" in done.stderr.splitlines()[-1]


def test_texts_of_any_script_are_read_in_a_c_locale(small_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sagerank.models.build import build\n"
        "from sagerank.evaluation.collection import load\n"
        "folder = Path(sys.argv[1])\n"
        "assert build(sys.argv[2], folder).files\n"
        "(folder / 'qrels').mkdir()\n"
        'row = \'{"_id": "\\u00e4", "text": "\\u6c34"}\'.encode()\n'
        "for name in ('corpus', 'queries'): (folder / f'{name}.jsonl').write_bytes(row)\n"
        "(folder / 'qrels/test.tsv').write_bytes('\\u00e4\\t\\u00e4\\t1'.encode())\n"
        "assert load(str(folder)).documents == {'\\u00e4': '\\u6c34'}"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run_python(code, str(tmp_path), str(small_folder), env={**os.environ, **locale})
    assert done.returncode == 0, done.stderr
