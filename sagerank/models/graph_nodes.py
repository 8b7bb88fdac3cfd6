"""ONNX nodes one after the other: what `graph` and `graph_attention` write with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


class Nodes:
    """Collects nodes in the order of the computation. A method returns the name of the value it made."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._count = 0

    def op(
        self, op: str, inputs: list[str], output: str | None = None, *, domain: str = "", **attributes: Any
    ) -> str:
        if output is None:
            output = self._name(op)
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        if all(existing.name != name for existing in self.initializers):
            self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant("i_" + "_".join(map(str, values)), np.array(values, np.int64))

    def integer(self, value: int) -> str:
        return self.constant(f"n_{value}", np.array(value, np.int64))

    def column(self, x: str) -> str:
        """Append an axis: x [..., k] -> [..., k, 1]."""
        return self.op("Unsqueeze", [x, self.integers(-1)])

    def choose(self, condition: str, then: Callable[[], str], otherwise: Callable[[], str]) -> str:
        """One of two values, of which only the chosen one is computed."""
        branches = {
            name: self._graph(make, [])
            for name, make in {"then_branch": then, "else_branch": otherwise}.items()
        }
        return self.op("If", [condition], **branches)

    def loop(self, count: str, body: Callable[[str], str]) -> str:
        """body(step) for each step below `count`, stacked: [count, ...]."""
        step, go, go_on = (self._name(name) for name in ("step", "go", "go_on"))
        inputs = [
            helper.make_tensor_value_info(step, TensorProto.INT64, []),
            helper.make_tensor_value_info(go, TensorProto.BOOL, []),
        ]
        graph = self._graph(lambda: body(step), inputs)
        graph.node.append(helper.make_node("Identity", [go], [go_on]))
        graph.output.insert(0, helper.make_tensor_value_info(go_on, TensorProto.BOOL, []))
        return self.op("Loop", [count, ""], body=graph)

    def _graph(self, make: Callable[[], str], inputs: list[Any]) -> Any:
        outer, self.nodes = self.nodes, []
        result = helper.make_tensor_value_info(make(), TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, self._name("body"), inputs, [result])
        self.nodes = outer
        return graph

    def _name(self, op: str) -> str:
        self._count += 1
        return f"{op}_{self._count}"
