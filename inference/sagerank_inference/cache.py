"""Scores of pairs that were scored before: exact, bounded in memory, and without a text.

A pair is found by a keyed hash of its token ids and of the model among an artefact's; all else that a score depends on is the same
for as long as a process lives. The key of the hash is random and never leaves the process: what is held says nothing of a text to
who reads it, and nobody can make two pairs collide. Standard library only: the server's own process holds the scores, so that what is
known waits in no queue, and batches hold what is to be computed.
"""

from __future__ import annotations

import math
import secrets
import struct
import threading
from array import array
from collections.abc import Sequence
from hashlib import blake2b

from .settings import SettingsError

# A record: the hash of a pair, and its logit in all the digits of a Python float.
_HASH, _RECORD = 16, 24
_SET = 16 * _RECORD  # records that make way for each other; the one used last stands first
_EMPTY, _EMPTY_SET = bytes(_RECORD), bytes(_SET)


class ScoreCache:
    """Logits by pair: at most `megabytes` (10^6 bytes) of 24 bytes a pair, taken at once. Any thread may ask.

    The table is divided into sets of 16 records by hash, and in each set a new pair takes the place of the one that was not asked for
    the longest. Python's OrderedDict took 204 bytes a pair, measured with a million of them.
    """

    def __init__(self, megabytes: int) -> None:
        """Raises SettingsError where there is not so much memory."""
        self._sets = megabytes * 1_000_000 // _SET
        self._lock = threading.Lock()
        try:
            self._table = bytearray(self._sets * _SET)
        except MemoryError:
            raise SettingsError(
                f"SAGERANK_CACHE_MB is {megabytes}, and there is not so much memory here: give less, or 0 for no cache."
            ) from None
        self._key = secrets.token_bytes(_HASH)
        self.pairs = 0  # held

    def clear(self) -> None:
        """Forget all scores. What was asked before and is answered later is not found again either: the key is another.

        Takes no memory: a machine may have run out of it, and the server goes on.
        """
        with self._lock:
            for begin in range(0, len(self._table), _SET):
                self._table[begin : begin + _SET] = _EMPTY_SET
            self._key = secrets.token_bytes(_HASH)
            self.pairs = 0

    def hash(self, pair: Sequence[int], model: int) -> bytes:
        """Return that by which a pair's logit is found. pair: token ids; model: the number of the model among the artefact's."""
        ids = array("i", pair)
        return blake2b(ids, digest_size=_HASH, key=self._key, person=model.to_bytes(2)).digest()

    def get(self, key: bytes) -> float | None:
        """Return the logit that was put there, the same float, or None."""
        begin = self._set(key)
        with self._lock:
            at = self._find(key, begin)
            if at < 0:
                return None
            record = self._table[at : at + _RECORD]
            self._first(record, begin, at)
        logit: float = struct.unpack_from("d", record, _HASH)[0]
        return logit

    def put(self, key: bytes, logit: float) -> None:
        """Hold a logit; one that is held already stays, and one that is no number is not held."""
        if not math.isfinite(logit):
            return
        begin = self._set(key)
        with self._lock:
            if self._find(key, begin) >= 0:
                return
            last = begin + _SET - _RECORD
            self.pairs += self._table.startswith(_EMPTY, last)
            self._first(key + struct.pack("d", logit), begin, last)

    def _set(self, key: bytes) -> int:
        """Return where in the table the set of a key begins."""
        return int.from_bytes(key[:8]) % self._sets * _SET

    def _find(self, key: bytes, begin: int) -> int:
        """Return where in the table the record of a key begins, or -1."""
        at = self._table.find(key, begin, begin + _SET)
        # Bytes of two records that happen to look like a third are none.
        return at if (at - begin) % _RECORD == 0 else -1

    def _first(self, record: bytes | bytearray, begin: int, at: int) -> None:
        """Lay a record before all others of its set, which move up to the place `at`, whose own is overwritten."""
        self._table[begin + _RECORD : at + _RECORD] = self._table[begin:at]
        self._table[begin : begin + _RECORD] = record


class Lookup:
    """Pairs for one model on their way past a cache, or where there is none: `add` all, score the `missing`, and `complete` the rest.

    A pair that is there twice is missing once.
    """

    def __init__(self, cache: ScoreCache | None, model: int) -> None:
        """model: the number of the model among the artefact's."""
        self._cache, self._model = cache, model
        self._logits: list[float] = []  # of all pairs, those that are missing to come
        self._numbers: dict[bytes, int] = {}  # among the missing, by hash
        # Of what is to come: its place among all pairs, and its number among the missing.
        self._places, self._sources = array("i"), array("i")
        self.missing: list[Sequence[int]] = []  # token ids

    def add(self, pairs: Sequence[Sequence[int]]) -> None:
        """Look for pairs of token ids, which come after those that were added before."""
        if self._cache is None:
            self.missing += pairs
            return
        for pair in pairs:
            key = self._cache.hash(pair, self._model)
            logit = self._cache.get(key)
            if logit is None:
                number = self._numbers.setdefault(key, len(self.missing))
                if number == len(self.missing):
                    self.missing.append(pair)
                self._places.append(len(self._logits))
                self._sources.append(number)
            self._logits.append(math.nan if logit is None else logit)

    @property
    def known(self) -> int:
        """How many pairs need not be scored."""
        return len(self._logits) - len(self._numbers)

    def complete(self, logits: Sequence[float]) -> list[float]:
        """Return the logits of all pairs in order, and hold those of the `missing`, which are given."""
        if self._cache is None:
            return list(logits)
        for key, logit in zip(self._numbers, logits, strict=True):
            self._cache.put(key, logit)
        for place, number in zip(self._places, self._sources, strict=True):
            self._logits[place] = logits[number]
        return self._logits
