"""Attention with ALiBi, in three forms that give the same result.

* Short pairs: all heads over all keys at once.
* Where the longest pair has LONG tokens (below, the bookkeeping costs more): blocks of query rows, and each
  head reads the keys of its own window only. ALiBi takes slope x distance from a score; beyond some distance a steep head's keys weigh nothing, and at 8,192 tokens that is
  four fifths of all cells. The window comes from the norms of this batch's queries and keys, so what is left
  out is bounded, not guessed (`_windows`). No tensor has the size heads x P x P, so an 8,192-token pair is an
  ordinary request.
* The last layer: row 0 of each pair only, and neither keys nor values are ever computed (`attend_first`).
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from sagerank_inference.checkpoint import JinaBertConfig, alibi_slopes
from sagerank_inference.plan import LONG

from .graph_nodes import Nodes

# Query rows of a window's block, and cells (rows x columns) of the blocks that run together.
WINDOW_ROWS, WINDOW_CELLS = 64, 1 << 21
# Share of a row's softmax mass that its window may leave out.
LEFT_OUT = 1e-6


class Attention:
    """Writes the attention of one model's layers into `nodes`."""

    def __init__(self, nodes: Nodes, config: JinaBertConfig) -> None:
        self.nodes, self.config = nodes, config

    def layout(self) -> None:
        """Indices between the packed [T] and the padded [B, P] form, P the longest length; once for all."""
        op, zero, one = self.nodes.op, self.nodes.integer(0), self.nodes.integer(1)
        op("ReduceMax", ["lengths"], "size", keepdims=0)  # P
        position = op("Range", [zero, "size", one])  # [P]
        op("Cast", [position], "place", to=TensorProto.FLOAT)
        op("Less", [position, self.nodes.column("lengths")], "real")  # [B, P]
        op("CumSum", ["lengths", zero], "first", exclusive=1)  # [B] row of each pair's token 0
        op("Sub", [op("Squeeze", [op("Shape", ["input_ids"])]), one], "last_row")
        # A padding cell may read any real row: the mask removes it as a key, and nothing reads it as a query.
        op("Min", [op("Add", [self.nodes.column("first"), position]), "last_row"], "pad")
        # Row-major order over [B, P] is the packed order again.
        flat = op("Reshape", ["real", self.nodes.integers(-1)])
        op("Squeeze", [op("NonZero", [flat]), self.nodes.integers(0)], "pack")  # [T]
        op("GreaterOrEqual", ["size", self.nodes.integer(LONG)], "long")
        self._all_bias = self.nodes.choose("long", lambda: op("Identity", ["place"]), self._bias)

    def attend_all(self, query: str, key: str, value: str, rows: str | None, pad: str) -> str:
        """Context [T, h] of every token. query, key and value are [T, h].

        With `rows` [T] they are [U, h], and it tells each token's; `pad` [B, P] are rows of theirs.
        """

        def packed(x: str) -> str:
            return x if rows is None else self.nodes.op("Gather", [x, rows])

        def padded(x: str) -> str:
            return self.nodes.op("Gather", [x, pad])

        return self.nodes.choose(
            "long",
            lambda: self._windowed(packed(query), packed(key), packed(value)),
            lambda: self._whole(padded(query), padded(key), padded(value)),
        )

    def attend_first(self, top: str, x: str, weights: dict[str, str]) -> str:
        """Context [B, h] of token 0, from its row `top` [B, h] and all rows x [B, P, h].

        The score of token j is q . (Wk x_j) = (Wk^T q) . x_j, and the context Wv (sum of p_j x_j): h products
        a token and head in place of the h x h of its key and of its value. The key's bias adds the same to
        each score of a row, which softmax takes out; the value's is added once, as the p_j sum to 1.
        """
        op, n, h, d = (
            self.nodes.op,
            self.config.num_attention_heads,
            self.config.hidden_size,
            self.config.head_size,
        )
        query = op("Gemm", [top, weights["query.weight"], weights["query.bias"]], transB=1)
        query = op("Mul", [query, self.nodes.constant("scale", np.array(d**-0.5, np.float32))])
        heads = self.nodes.integers(n, d, h)
        query = op("Reshape", [query, self.nodes.integers(-1, n, 1, d)])
        key = op("Reshape", [weights["key.weight"], heads])  # [n, d, h]
        folded = op("Reshape", [self._by_weight(query, key), self.nodes.integers(-1, n, h)])  # [B, n, h]
        mixed = self._mix(folded, x)
        value = op("Reshape", [weights["value.weight"], heads])
        value = op("Transpose", [value], perm=[0, 2, 1])  # [n, h, d]
        mixed = op("Reshape", [mixed, self.nodes.integers(-1, n, 1, h)])
        context = self._by_weight(mixed, value)  # [B, n, 1, d]
        return op("Add", [op("Reshape", [context, self.nodes.integers(-1, h)]), weights["value.bias"]])

    def _by_weight(self, x: str, weight: str) -> str:
        """Multiply x [B, n, 1, k] by each head's part of a weight, [n, k, m] -> [B, n, 1, m]."""
        return self.nodes.op("MatMul", [x, weight])

    def _mix(self, folded: str, x: str) -> str:
        """The rows of x [B, P, h], weighted by the softmax of each head's folded [B, n, h] . x -> [B, n, h]."""
        op, n = self.nodes.op, self.config.num_attention_heads
        scores = op("MatMul", [folded, op("Transpose", [x], perm=[0, 2, 1])])  # [B, n, P]
        # Token 0 is as far away as a token's position.
        bias = op("Mul", [self._slopes(n, 1), "place"])  # [n, P]
        real = op("Unsqueeze", ["real", self.nodes.integers(1)])  # [B, 1, P]
        lowest = self.nodes.constant("lowest", np.array(np.finfo(np.float32).min))
        masked = op("Where", [real, op("Add", [scores, bias]), lowest])
        return op("MatMul", [op("Softmax", [masked], axis=-1), x])

    def _slopes(self, *shape: int) -> str:
        slopes = -np.array(alibi_slopes(self.config.num_attention_heads), np.float32).reshape(shape)
        return self.nodes.constant("slopes_" + "_".join(map(str, shape)), slopes)

    def _bias(self) -> str:
        """ALiBi of all heads [1, n, P, P], the same in every layer."""
        distance = self.nodes.op("Abs", [self.nodes.op("Sub", [self.nodes.column("place"), "place"])])
        return self.nodes.op("Mul", [self._slopes(1, -1, 1, 1), distance])

    def _whole(self, query: str, key: str, value: str) -> str:
        """All heads over all keys, [B, P, h] each -> [T, h]."""
        heads = self.config.num_attention_heads
        context = self._attention(query, key, value, self._all_bias, "lengths", heads=heads)
        flat = self.nodes.op("Reshape", [context, self.nodes.integers(-1, self.config.hidden_size)])
        return self.nodes.op("Gather", [flat, "pack"])

    def _attention(self, query: str, key: str, value: str, bias: str, lengths: str, *, heads: int) -> str:
        """[B, R, h] over [B, C, h], of which the first `lengths` [B] (at least 1) are real -> [B, R, h]."""
        inputs = [query, key, value, bias, "", "", lengths]
        return self.nodes.op("Attention", inputs, q_num_heads=heads, kv_num_heads=heads)

    # -- long pairs ------------------------------------------------------------------------------------------

    def _windowed(self, query: str, key: str, value: str) -> str:
        """Each head over its own window of keys, [T, h] each -> [T, h]."""
        op, n, h = self.nodes.op, self.config.num_attention_heads, self.config.hidden_size
        query, key, value = (self._by_head(x) for x in (query, key, value))  # [n, T, d]
        reach = self._windows(query, key)  # [n] keys to each side
        one, rows = self.nodes.integer(1), self.nodes.integer(WINDOW_ROWS)
        # A pair of length L has ceil(L / R) blocks; of each: its pair's first row and length, and its start.
        count = op("Div", [op("Add", ["lengths", self.nodes.integer(WINDOW_ROWS - 1)]), rows])  # [B]
        ends = op("CumSum", [count, self.nodes.integer(0)])
        begins = op("Sub", [ends, count])
        total = op("ReduceSum", [count], keepdims=0)
        block = op("Range", [self.nodes.integer(0), total, one])
        pair = self._owner(block, ends)  # [blocks]
        start = op("Mul", [op("Sub", [block, op("Gather", [begins, pair])]), rows])
        first, length = op("Gather", ["first", pair]), op("Gather", ["lengths", pair])
        last_block = op("Sub", [total, one])
        row = op("Range", [self.nodes.integer(0), rows, one])  # [R]
        # The row of each token in the blocks one after the other.
        token = op("Range", [self.nodes.integer(0), op("Add", ["last_row", one]), one])
        of_token = self._owner(token, op("Add", ["first", "lengths"]))  # [T]
        ahead = op("Sub", [op("Mul", [begins, rows]), "first"])  # [B]
        unpack = op("Add", [token, op("Gather", [ahead, of_token])])

        def head(step: str) -> str:
            q, k, v = (op("Gather", [x, step]) for x in (query, key, value))  # [T, d]
            slope = op("Gather", [self._slopes(-1), step])
            near = op("Gather", [reach, step])
            wide = op("Min", [op("Add", [op("Add", [near, near]), rows]), "size"])  # C keys of a block
            fit = op("Max", [op("Div", [self.nodes.integer(WINDOW_CELLS // WINDOW_ROWS), wide]), one])
            chunks = op("Div", [op("Sub", [op("Add", [total, fit]), one]), fit])
            together = op("Div", [op("Sub", [op("Add", [total, chunks]), one]), chunks])  # N blocks
            column = op("Range", [self.nodes.integer(0), wide, one])  # [C]
            column_place = op("Cast", [column], to=TensorProto.FLOAT)
            latest = op("Sub", ["size", wide])

            def chunk(step: str) -> str:
                begin = op("Mul", [step, together])
                blocks = op("Range", [begin, op("Add", [begin, together]), one])
                blocks = op("Min", [blocks, last_block])  # [N]
                at, begins_at, real = (op("Gather", [x, blocks]) for x in (start, first, length))
                left = op("Min", [op("Max", [op("Sub", [at, near]), self.nodes.integer(0)]), latest])
                offset = self.nodes.column(op("Sub", [at, left]))
                # From the window's left, as the columns are.
                row_place = op("Cast", [op("Add", [offset, row])], to=TensorProto.FLOAT)  # [N, R]
                distance = op("Abs", [op("Sub", [self.nodes.column(row_place), column_place])])  # [N, R, C]
                bias = op("Unsqueeze", [op("Mul", [distance, slope]), self.nodes.integers(1)])
                # Rows past a pair's end are computed for nothing and never read; keys past it are masked.
                # Keys [N] that are real, at least 1: a block starts before its pair ends.
                upto = op("Min", [op("Sub", [real, left]), wide])
                part = op("Gather", [q, self._packed_rows(begins_at, at, row)])
                near_rows = self._packed_rows(begins_at, left, column)
                keys, values = op("Gather", [k, near_rows]), op("Gather", [v, near_rows])
                return self._attention(part, keys, values, bias, upto, heads=1)

            flat = op(
                "Reshape", [self.nodes.loop(chunks, chunk), self.nodes.integers(-1, self.config.head_size)]
            )
            return op("Gather", [flat, unpack])  # [T, d]

        context = self.nodes.loop(self.nodes.integer(n), head)  # [n, T, d]
        return op("Reshape", [op("Transpose", [context], perm=[1, 0, 2]), self.nodes.integers(-1, h)])

    def _windows(self, query: str, key: str) -> str:
        """Keys to each side [n] that a head must read; query and key are [n, T, d].

        What it leaves out is below LEFT_OUT of the softmax mass of every row. Softmax does not change when the
        same vector c is taken from every key of a head; let k be such keys, c their mean. A key at distance t has the score q.k / sqrt(d) - m t <= |q| max|k| / sqrt(d) - m t, and
        the mass is at least that of the row's own key, whose distance is 0. With

            a = max over rows of (|q| max|k| - q.k_own) / sqrt(d),

        all keys beyond w have at most the share

            2 exp(a) (exp(-m(w+1)) + exp(-m(w+2)) + ...) = 2 exp(a - m(w+1)) / (1 - exp(-m)).
        """
        op = self.nodes.op
        key = op("Sub", [key, op("ReduceMean", [key, self.nodes.integers(1)])])
        own = op("ReduceSum", [op("Mul", [query, key]), self.nodes.integers(2)], keepdims=0)  # [n, T]
        most = op("ReduceMax", [self._norm(key), self.nodes.integers(1)])  # [n, 1]
        excess = op("Sub", [op("Mul", [self._norm(query), most]), own])  # [n, T]
        excess = op("ReduceMax", [excess, self.nodes.integers(1)], keepdims=0)  # [n], a sqrt(d)
        slopes = np.array(alibi_slopes(self.config.num_attention_heads))
        # In float32 a few more keys cost less than the doubt about the last digit.
        need = np.log(2 / LEFT_OUT) - np.log1p(-np.exp(-slopes)) + 1e-2
        scale = self.config.head_size**-0.5 / slopes
        reach = op("Mul", [excess, self.nodes.constant("window_scale", scale.astype(np.float32))])
        reach = op("Add", [reach, self.nodes.constant("window_need", (need / slopes).astype(np.float32))])
        # Cast is undefined for what an integer cannot hold, and NaN has no window at all.
        reach = op("Min", [reach, self.nodes.constant("window_most", np.array(1 << 30, np.float32))])
        return op("Min", [op("Cast", [op("Ceil", [reach])], to=TensorProto.INT64), "size"])

    def _norm(self, x: str) -> str:
        return self.nodes.op("ReduceL2", [x, self.nodes.integers(2)], keepdims=0)

    def _by_head(self, x: str) -> str:
        """Split x [T, h] into heads -> [n, T, d]."""
        heads = self.nodes.integers(-1, self.config.num_attention_heads, self.config.head_size)
        return self.nodes.op("Transpose", [self.nodes.op("Reshape", [x, heads])], perm=[1, 0, 2])

    def _owner(self, place: str, ends: str) -> str:
        """Which of the consecutive ranges that end (exclusively) at `ends` [B] each of place [X] is in."""
        after = self.nodes.op("GreaterOrEqual", [self.nodes.column(place), ends])  # [X, B]
        after = self.nodes.op("Cast", [after], to=TensorProto.INT64)
        return self.nodes.op("ReduceSum", [after, self.nodes.integers(1)], keepdims=0)

    def _packed_rows(self, first: str, start: str, offset: str) -> str:
        """Packed rows [N, X] of positions start [N] + offset [X] in pairs whose token 0 is row first [N]."""
        row = self.nodes.column(self.nodes.op("Add", [first, start]))  # [N, 1]
        return self.nodes.op("Min", [self.nodes.op("Add", [row, offset]), "last_row"])
