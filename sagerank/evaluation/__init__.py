"""How well a reranker ranks: test collections, first stages, scorers, metrics, and the announcement's tables.

collection -> first_stage -> scorer -> metrics -> commands, and `rag` for question-context pairs. Positives are
never injected into the candidates: a query whose relevant documents the first stage missed counts.
"""

from pathlib import Path

# Texts of OpenStax (CC BY 4.0), which no benchmark's judgements touch: passages, queries, and a held-out BEIR folder.
SAMPLE = Path(__file__).parent / "sample"
DEMO = SAMPLE / "demo.json"  # a query, and 36 passages of which some answer it


class EvaluationError(ValueError):
    """Something about data, scorers or options that the person who asked can put right; the message says how."""
