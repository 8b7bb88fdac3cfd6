"""Which extra lacks what, and the command for the way sagerank was installed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagerank.models import extras

METADATA = """Metadata-Version: 2.4
Name: sagerank
Version: 0.0
Provides-Extra: small
Provides-Extra: large
Requires-Dist: tqdm>=4
Requires-Dist: tqdm>=4; extra == 'small'
Requires-Dist: not-there>=1; extra == 'large'
Requires-Dist: not_there.either<2,>=1; extra == "large"
Requires-Dist: colorsys; extra == 'large'
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The metadata of a sagerank with other extras, in front of the real one's."""
    folder = tmp_path / "site" / "sagerank-0.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(METADATA)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    # As where the environment is activated.
    monkeypatch.setattr(shutil, "which", lambda program: str(Path(sys.executable).with_name(program)))
    extras._requirements.cache_clear()
    yield folder
    extras._requirements.cache_clear()


def test_what_an_extra_lacks(installed: Path) -> None:
    assert extras.names() == ["large", "small"]
    assert extras.missing("small") == []
    # A module of that name will do, whichever distribution brought it.
    assert extras.missing("large") == ["not-there", "not_there.either"]
    extras.check("small")
    with pytest.raises(
        extras.MissingExtra, match=r"needs not-there and not_there.either: .* 'sagerank\[large\]'$"
    ):
        extras.check("small,large")


def test_an_extra_that_the_metadata_does_not_know_is_let_pass(installed: Path) -> None:
    assert extras.missing("newer") == []


@pytest.mark.usefixtures("installed")
def test_the_command_of_an_index() -> None:
    assert extras.install("large").removeprefix("uv ") == "pip install 'sagerank[large]'"


def test_the_command_of_a_checkout(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    source = {"url": checkout.as_uri(), "dir_info": {"editable": True}}
    (installed / "direct_url.json").write_text(json.dumps(source))
    assert extras.install("large").endswith(f"install -e '{checkout}[large]'")
    monkeypatch.chdir(checkout)
    assert extras.install("large").endswith("install -e '.[large]'")


@pytest.mark.parametrize(
    ("receipt", "command"),
    [
        ("pipx_metadata.json", "pipx install --force 'sagerank[large,small]'"),
        ("uv-receipt.toml", "uv tool install 'sagerank[large,small]'"),
    ],
)
def test_a_tools_environment_keeps_the_extras_it_has(
    receipt: str, command: str, installed: Path, tmp_path: Path
) -> None:
    (tmp_path / receipt).touch()
    assert extras.install("large") == command


@pytest.mark.usefixtures("installed")
def test_pip_of_another_environment_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # below which the interpreter does not lie
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}" if program == "pip" else None)
    assert extras.install("large") == f"{sys.executable} -m pip install 'sagerank[large]'"


@pytest.mark.usefixtures("installed")
def test_an_environment_of_uvs_that_is_not_activated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}" if program == "uv" else None)
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/a b/bin/python")
    assert extras.install("large") == "uv pip install --python '/a b/bin/python' 'sagerank[large]'"


def test_long_lists_are_cut() -> None:
    assert [extras.listed(list("abcde"[:size])) for size in (1, 2, 3, 4)] == [
        "a", "a and b", "a, b and c", "a, b and 2 more",
    ]  # fmt: skip
