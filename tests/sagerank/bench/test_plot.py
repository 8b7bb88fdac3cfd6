"""Pictures of measurements."""

from __future__ import annotations

from pathlib import Path

from sagerank.bench.plot import Bar, bars, curves


def test_pictures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    entries = [Bar(label="Base", value=3.2, low=3.1, high=3.4), Bar(label="a peer", value=21.0, ours=False)]
    for name in ("one.svg", "two.svg"):
        bars(entries, "Documents per 50 ms", "documents per 50 ms", tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    drawn = (tmp_path / "one.svg").read_text()
    assert all(label in drawn for label in ("Base", "a peer", "3.2", "21"))
    curves({"p50": [(1, 2.0), (10, 9.0)]}, "One call", "documents", "ms", tmp_path / "curve.pdf")
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")
