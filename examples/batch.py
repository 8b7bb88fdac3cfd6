"""Files for a batch transform job: write the requests, run the job, read the answers.

    python examples/batch.py write requests.jsonl
    sagerank transform --instance ml.c7i.xlarge --input requests.jsonl --output answers
    python examples/batch.py read requests.jsonl answers/requests.jsonl.out

A line of the input is a request and the same line of the output its answer. To try it without AWS, post the file:
curl -H 'Content-Type: application/jsonlines' --data-binary @requests.jsonl localhost:8080/invocations
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PASSAGES = (Path(__file__).parent / "passages.txt").read_text(encoding="utf-8").splitlines()
QUERIES = ["what causes rain", "how do glaciers shape valleys", "where do hurricanes get their energy"]


def write(requests: Path) -> None:
    """One request a line, with the passages that a first search found for its query."""
    lines = [
        json.dumps({"query": query, "documents": PASSAGES, "top_n": 2, "return_documents": False})
        for query in QUERIES
    ]
    requests.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(requests: Path, answers: Path) -> None:
    """Print the best passages of each query: an answer has places in its own request's list."""
    pairs = zip(_lines(requests), _lines(answers), strict=True)
    for number, (request, answer) in enumerate(pairs, 1):
        if "results" not in answer:
            raise SystemExit(f"Line {number} of {answers} is no answer: {answer}")
        print(request["query"])
        for item in answer["results"]:
            print(f"    {item['relevance_score']:.2f}  {request['documents'][item['index']]}")


def _lines(path: Path) -> list[dict[str, object]]:
    # Not splitlines(), which takes characters inside a text for ends of lines.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


match sys.argv[1:]:
    case ["write", requests]:
        write(Path(requests))
    case ["read", requests, answers]:
        read(Path(requests), Path(answers))
    case _:
        raise SystemExit(__doc__)
