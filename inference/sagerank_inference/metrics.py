"""The Prometheus metrics of /metrics, the path and port where SageMaker's detailed observability collects."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .batcher import BatchStats

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """What one application counts. Another in the same process, as in tests, has a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "sagerank_requests", "Answered requests", ["dialect", "status"], registry=registry
        )
        self.documents = Counter("sagerank_documents", "Documents scored", registry=registry)
        self.latency = Histogram(
            "sagerank_stage_seconds",
            "Time of a request by stage",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.restarts = Counter(
            "sagerank_worker_restarts", "Model processes that were replaced", registry=registry
        )
        self.ready = Gauge("sagerank_ready", "1 while /ping answers 200", registry=registry)
        self.drifted = Gauge(
            "sagerank_drifted", "1 while golden pairs are not scored as when it started", registry=registry
        )
        self.queued = Gauge("sagerank_queued_tokens", "Tokens waiting for a batch", registry=registry)
        self._scored = Counter(
            "sagerank_model_documents",
            "Documents that each model of the artefact scored",
            ["position", "model"],
            registry=registry,
        )
        self._tokens = Counter(
            "sagerank_tokens", "Tokens scored, special tokens among them", registry=registry
        )
        self._padding = Counter(
            "sagerank_padding_tokens", "Cells that attention computed for nothing", registry=registry
        )
        self._hits = Counter(
            "sagerank_cache_hits", "Pairs whose score was known, and not computed", registry=registry
        )
        self._misses = Counter(
            "sagerank_cache_misses", "Pairs that were computed and then kept", registry=registry
        )
        self.cached = Gauge("sagerank_cache_pairs", "Pairs whose score is kept", registry=registry)
        self._batch = Histogram(
            "sagerank_batch_pairs",
            "Pairs in a batch",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self._forward = Histogram(
            "sagerank_batch_seconds", "Time of a batch", buckets=_SECONDS, registry=registry
        )

    def observe_batch(self, stats: BatchStats) -> None:
        self._tokens.inc(stats.tokens)
        self._padding.inc(stats.charged - stats.tokens)
        self._batch.observe(stats.pairs)
        self._forward.observe(stats.seconds)

    def observe_lookup(self, hits: int, misses: int) -> None:
        """Count what a cache knew of a request's pairs, and what not."""
        self._hits.inc(hits)
        self._misses.inc(misses)

    def observe_stage(self, position: int, model: str, documents: int) -> None:
        self._scored.labels(str(position), model).inc(documents)

    def render(self) -> bytes:
        return generate_latest(self._registry)
