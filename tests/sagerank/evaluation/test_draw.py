"""Pictures hold their points and are reproducible."""

from __future__ import annotations

from pathlib import Path

from sagerank.evaluation.draw import Point, picture, scatter_text


def test_pictures_hold_their_points_and_are_reproducible(tmp_path: Path) -> None:
    points = [Point("micro", 20.0, 41.0), Point("tiny", 5.0, 48.5)]
    table = [("model", "ours"), ("micro", "41.00"), ("tiny", "48.50"), ("base", "not run")]
    for name in ("a.svg", "b.svg", "c.png"):
        picture(points, "NDCG@10", table, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    for word in ("micro", "tiny", "not run", "documents per 50 ms"):
        assert word in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    text = scatter_text(points, "NDCG@10")
    assert "micro" in text
    assert "tiny" in text
