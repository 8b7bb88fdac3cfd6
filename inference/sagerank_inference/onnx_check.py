"""Whether a model.onnx is made of what our graph writer writes, seen before ONNX Runtime reads it. Standard library only.

An artefact's graph is data from elsewhere. It may hold the writer's operators in the writer's form and no others: no
functions, strings or operator domains of its own; and it may read the artefact's own weights, inside the file. What the
operators compute together is for the golden pairs to tell, and for `sagerank build`, which compares every byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from .artefact import ArtefactError

# By domain, all operators that sagerank.models.graph and its neighbours write.
OPERATORS = {
    "": frozenset(
        (
            "Abs",
            "Add",
            "Attention",
            "Cast",
            "Ceil",
            "CumSum",
            "Div",
            "Equal",
            "Expand",
            "Gather",
            "Gelu",
            "Gemm",
            "GreaterOrEqual",
            "Identity",
            "If",
            "LayerNormalization",
            "Less",
            "Loop",
            "MatMul",
            "Max",
            "Min",
            "Mod",
            "Mul",
            "NonZero",
            "QuantizeLinear",
            "Range",
            "ReduceL2",
            "ReduceMax",
            "ReduceMean",
            "ReduceSum",
            "Reshape",
            "Shape",
            "Softmax",
            "Squeeze",
            "Sub",
            "Tanh",
            "Transpose",
            "Unique",
            "Unsqueeze",
            "Where",
        )
    ),  # fmt: skip
    "com.microsoft": frozenset({"FusedMatMul", "MatMulIntegerToFloat"}),
}
_MOST_BYTES = 16 << 20  # of model.onnx; base's has 0.1 MB
_MOST_DEPTH = 8  # of graphs inside graphs; the writer's has 3
_WIDTHS = {1: 4, 3: 1, 10: 2, 16: 2}  # bytes of an element that is stored: float32, int8, float16, bfloat16

# The fields that the writer uses, by the numbers of onnx.proto.
_MODEL = {1, 2, 7, 8}  # ir_version, producer_name, graph, opset_import
_GRAPH = {1, 2, 5, 11, 12}  # node, name, initializer, input, output
_NODE = {1, 2, 3, 4, 5, 7}  # input, output, name, op_type, attribute, domain
_ATTRIBUTE = {1, 2, 3, 6, 8, 20}  # name, f, i, g, ints, type
_MOST_DIMS = 8
_TENSOR = {1, 2, 8, 9, 13, 14}  # dims, data_type, name, raw_data, external_data, data_location

Value = int | bytes  # of a field


def check_graph(folder: Path, weights: str = "model.safetensors") -> None:
    """Raise ArtefactError unless folder/model.onnx is in the form that `sagerank build` writes, over the weights beside it."""
    path = folder / "model.onnx"
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise _Strange(f"it has {size:,} bytes")
        model = _fields(path.read_bytes(), _MODEL)
        for entry in model.get(8, []):
            domain = _string(_fields(entry, {1, 2}), 1)
            if domain not in OPERATORS:
                raise _Strange(f"operators of {ascii(domain[:80])}")
        (graph,) = model.get(7, [])
        _check_graph(graph, weights, (folder / weights).stat().st_size, depth=0)
        given = {
            number: [_string(_fields(value, {1, 2}), 1) for value in _fields(graph, _GRAPH).get(number, [])]
            for number in (11, 12)
        }
        if given != {11: ["input_ids", "lengths"], 12: ["logits"]}:
            raise _Strange("other inputs or outputs")
    except (_Strange, ValueError, IndexError) as error:
        raise ArtefactError(
            f"{path} is not a graph that `sagerank build` writes ({error}), and is not loaded: build the artefact again."
        ) from None


class _Strange(Exception):
    """What the graph has and the writer never writes."""


def _check_graph(data: Value, weights: str, size: int, *, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise _Strange("graphs nested too deep")
    graph = _fields(data, _GRAPH)
    for tensor in graph.get(5, []):
        _check_tensor(_fields(tensor, _TENSOR), weights, size)
    for node in graph.get(1, []):
        fields = _fields(node, _NODE)
        domain, operator = _string(fields, 7), _string(fields, 4)
        if operator not in OPERATORS.get(domain, ()):
            raise _Strange(f"the operator {ascii(f'{domain}:{operator}'[:80])}")
        for attribute in fields.get(5, []):
            for inner in _fields(attribute, _ATTRIBUTE).get(6, []):
                _check_graph(inner, weights, size, depth=depth + 1)


def _check_tensor(fields: dict[int, list[Value]], weights: str, size: int) -> None:
    stored = fields.get(13, [])
    if not stored and fields.get(14, [0]) == [0]:
        return  # a constant in the graph itself
    place = {_string(entry, 1): _string(entry, 2) for entry in (_fields(each, {1, 2}) for each in stored)}
    if place.keys() != {"location", "offset", "length"} or place["location"] != weights:
        raise _Strange("weights in another file")
    offset, length = (int(place[key]) if place[key].isdecimal() else -1 for key in ("offset", "length"))
    dims = [value for value in fields.get(1, []) if isinstance(value, int)]
    width = next((_WIDTHS.get(kind, 0) for kind in fields.get(2, []) if isinstance(kind, int)), 0)
    if (
        not width
        or len(dims) > _MOST_DIMS
        or length != width * math.prod(dims)
        or not 0 <= offset <= offset + length <= size
    ):
        raise _Strange("weights outside their file")


def _string(fields: dict[int, list[Value]], number: int) -> str:
    values = fields.get(number, [b""])
    if len(values) != 1 or not isinstance(values[0], bytes):
        raise _Strange("a damaged name")
    return values[0].decode()


def _fields(message: Value, known: set[int]) -> dict[int, list[Value]]:
    """The values of a protobuf message by field number: numbers and byte strings. Refuses other fields than the known."""
    if isinstance(message, int):
        raise _Strange("a number where a message belongs")
    found: dict[int, list[Value]] = {}
    for number, value in _read(message):
        if number not in known:
            raise _Strange(f"field {number}")
        found.setdefault(number, []).append(value)
    return found


def _read(message: bytes) -> Iterator[tuple[int, Value]]:
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise _Strange("a damaged number")

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        length = varint() if kind == 2 else {1: 8, 5: 4}.get(kind, -1)
        if length < 0 or at + length > len(message):
            raise _Strange("a damaged field")
        yield key >> 3, message[at : at + length]
        at += length
