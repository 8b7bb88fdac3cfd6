"""How well a reranker ranks: test collections, first stages, scorers, metrics, and the announcement's tables.

collection -> first_stage -> scorer -> metrics -> commands, and `rag` for question-context pairs. Positives are
never injected into the candidates: a query whose relevant documents the first stage missed counts.
"""


class EvaluationError(ValueError):
    """Something about data, scorers or options that the person who asked can put right; the message says how."""
