"""Bodies for the server, made from a seed: requests of every dialect and content type, half of them then spoilt.

A body depends on its seed and its index alone, so that one that did harm can be made again. Texts come from a small
pool, so that their scores are known, and each holds CANARY, which no error and no log line may show.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

CANARY = "qzxv"
MOST_BYTES = 6_291_456
MOST_DOCUMENTS = 10_000

_WORDS = (
    *(
        "rain",
        "clouds",
        "cold",
        "front",
        "a",
        "the",
        "of",
        "what",
        "causes",
        "how",
        "sleep",
        "stages",
        "cat",
        "dog",
    ),
    *("house", "vitamin", "bank", "open", "account", "measles", "symptoms", "river", "delta", "42", "3.14"),
    *("naïve", "Zürich", "東京", "данные"),
)
# What has a meaning to some tokenizer, parser or terminal.
_ODD = (
    "[SEP] [CLS] [PAD] [MASK]",
    "</s><s>",
    "one\u2028two\u2029three\x85four",
    "tab\tand\r\nline\nends\x0b\x0c\x1c",
    "nul \x00 \x01 \x7f",
    'quote " comma, backslash \\ apostrophe \' ""',
    "\ufeffmark",
    "가나다라마바사",
    "𝔘𝔫𝔦 👩‍👩‍👧 🇩🇪",
    "e\u0301\u0327 \u202eright to left",
    "\ufffe\uffff\U0010ffff",
    "null",
    "NaN",
    "{}[]:,",
    "a" * 300,
    "!" * 200,
    "<script>alert(1)</script>",
    "%00%n{0}{{}}",
)
JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
_PATHS = ("/invocations", "/rerank", "/v1/rerank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One body and how it is sent. `rows` is what a CSV says, for the oracle has no reader of CSV; None once spoilt."""

    body: bytes
    content_type: str | None = JSON
    path: str = "/invocations"
    rows: tuple[dict[str, Any], ...] | None = None


class Raw(str):
    """A piece of JSON that json.dumps would not write, such as 1e999 or an object with two equal keys."""


def _deep(left: str, right: str, depth: int) -> Raw:
    return Raw(left * depth + "1" + right * depth)


_STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    10**18,
    2**64,
    "",
    " ",
    "\u2028",
    "\x00",
    "x",
    [],
    {},
    [[]],
    [[], []],
    {"text": None},
    {"text": "x", "image": "x"},
    {"": ""},
    Raw("9" * 5000),
    Raw("-" + "9" * 5000),
    Raw("1e999"),
    Raw("-1e999"),
    Raw("1e-999"),
    Raw("-0"),
    Raw("1.0"),
    Raw("NaN"),
    Raw("-Infinity"),
    Raw('"\\ud800"'),
    Raw('"a\\udc00\\ud800z"'),
    Raw('"\\ud83d\\ude00"'),
    Raw('{"\\ud800":1}'),
    Raw('{"text":"a","text":"b"}'),
    Raw('"\ud800"'),  # written as the bytes that UTF-8 forbids
    Raw("[1,]"),
    Raw("01"),
    Raw("'x'"),
    _deep("[", "]", 50),
    _deep("[", "]", 2000),
    _deep('{"a":', "}", 2000),
)
_BYTES = (
    b"\xef\xbb\xbf",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\r\n",
    b"\r",
    b"\n",
    b'"',
    b"\\",
    b",",
    b"\\u",
    b"\\ud800",
    b"{",
    b"]",
    b"1e999",
    b"NaN",
    b" " * 100,
)
_CONTENT_TYPES: tuple[str | None, ...] = (
    None,
    JSON,
    "application/json; charset=utf-8",
    'Application/JSON;Charset="UTF-8"',
    "application/json;;;",
    "application/json; charset",
    "application/json; charset=latin-1",
    "application/json; charset=utf-16; boundary=x",
    "application/json; profile=a; charset=utf-8",
    "text/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "*/*",
    "",
    ";",
    "application/octet-stream",
    LINES,
    "application/x-ndjson",
    "application/x-jsonlines; charset=utf-8",
    CSV,
    "text/csv; header=absent; charset=utf-8",
    "x" * 3000,
)


def _pool() -> tuple[list[str], list[str]]:
    chance = random.Random(0)

    def text(most: int) -> str:
        return " ".join([*chance.choices(_WORDS, k=chance.randint(1, most)), CANARY])

    return [text(6) for _ in range(40)], [text(14) for _ in range(120)]


QUERIES, DOCUMENTS = _pool()


class Maker:
    """One body at a time, from its own source of chance. `spoil` False makes requests of which each is to be answered."""

    def __init__(self, seed: int, index: int, *, spoil: bool = True) -> None:
        self._chance = random.Random(f"{seed}/{index}")
        self._spoil = spoil

    def case(self) -> Case:
        roll = self._chance.random()
        if self._spoil and roll < 0.0002:
            return self.giant()
        if roll < 0.80:
            case = self._json()
        elif roll < 0.90:
            case = self._lines()
        else:
            case = self._csv()
        if self._spoil and self._some(0.2):
            case = replace(case, body=self._bitten(case.body), rows=None)
        if self._spoil and self._some(0.05):
            case = replace(case, content_type=self._chance.choice(_CONTENT_TYPES))
        return case

    def _some(self, share: float) -> bool:
        return self._chance.random() < share

    def _text(self, pool: Sequence[str]) -> str:
        if self._some(0.9):
            return self._chance.choice(pool)
        parts = self._chance.sample((*_ODD, *_WORDS), k=self._chance.randint(1, 3))
        return " ".join([*parts, CANARY])

    def _query(self) -> str:
        return self._text(QUERIES)

    def _document(self) -> str:
        return "" if self._some(0.02) else self._text(DOCUMENTS)

    def _count(self) -> int:
        roll = self._chance.random()
        if roll < 0.75:
            return self._chance.randint(1, 4)
        if roll < 0.98:
            return self._chance.randint(5, 30)
        if roll < 0.9997 or not self._spoil:
            return self._chance.randint(31, 200)
        return MOST_DOCUMENTS + self._chance.choice((-1, 0, 1))

    def _documents(self, *, objects: float) -> list[Any]:
        return [self._object() if self._some(objects) else self._document() for _ in range(self._count())]

    def _object(self, *names: str) -> dict[str, Any]:
        document: dict[str, Any] = {name: self._document() for name in names or ("text",)}
        if self._some(0.4):
            extras: dict[str, Any] = {
                "id": 7,
                "url": None,
                "score": 0.25,
                "tags": ["a", {"b": [True]}],
                "país": 1e5,
                "": {},
            }
            document |= {
                name: extras[name]
                for name in self._chance.sample(sorted(extras), k=self._chance.randint(1, 3))
            }
        return document

    def _options(self, **options: Sequence[Any]) -> dict[str, Any]:
        return {name: self._chance.choice(values) for name, values in options.items() if self._some(0.25)}

    # Of the dialects: each makes a request that has to be answered.

    def jina(self) -> tuple[dict[str, Any], str]:
        payload = {"query": self._query(), "documents": self._documents(objects=0.3)}
        payload |= self._options(
            model=["jina-reranker-v1-tiny-en", None],
            top_n=[1, 2, 5, 10_000, 10**17, None],
            return_documents=[True, False, None],
            truncate=[True, None],
            max_doc_length=[1, 3, 1024],
            raw_scores=[True, False],
            min_score=[0, 0.2, 0.5, 1],
            unknown=[1],
        )
        return payload, self._chance.choice(_PATHS)

    def cohere_v1(self) -> tuple[dict[str, Any], str]:
        names = self._chance.sample(["text", "title", "body", "größe"], k=self._chance.randint(1, 3))
        documents = [
            self._object(*names) if self._some(0.6) else self._document() for _ in range(self._count())
        ]
        payload = {"query": self._query(), "documents": documents, "rank_fields": names}
        payload |= self._options(
            top_n=[1, 3, 100, None], return_documents=[True, False], max_chunks_per_doc=[10]
        )
        return payload, self._chance.choice(_PATHS)

    def cohere_v2(self) -> tuple[dict[str, Any], str]:
        payload = {"query": self._query(), "documents": self._documents(objects=0.1), "model": "rerank-v3.5"}
        payload |= self._options(top_n=[1, 3, 100], max_tokens_per_doc=[2, 4096])
        if self._some(0.5):
            return payload, "/v2/rerank"
        return payload | {"api_version": 2}, self._chance.choice(_PATHS)

    def marketplace(self) -> tuple[dict[str, Any], str]:
        several = self._some(0.3)
        entries = [self._entry() for _ in range(self._chance.randint(1, 5) if several else 1)]
        return {"data": entries if several else entries[0]}, "/invocations"

    def _entry(self) -> dict[str, Any]:
        documents = [{"text": self._document()} for _ in range(min(50, self._count()))]
        return {"query": self._query(), "documents": documents} | self._options(top_n=[1, 2, 10, None])

    def tei(self) -> tuple[dict[str, Any], str]:
        payload = {"query": self._query(), "texts": [self._document() for _ in range(self._count())]}
        payload |= self._options(
            raw_scores=[True, False],
            return_text=[True, False],
            truncate=[True],
            truncation_direction=["Left", "Right", "left", None],
        )
        return payload, self._chance.choice(_PATHS)

    def voyage(self) -> tuple[dict[str, Any], str]:
        payload = {"query": self._query(), "documents": self._documents(objects=0), "truncation": True}
        payload |= {"top_k": self._chance.choice((None, 1, 3, 100))}
        return payload | self._options(
            model=["rerank-2.5"], return_documents=[True, False]
        ), self._chance.choice(_PATHS)

    def weaviate(self) -> tuple[dict[str, Any], str]:
        return {"query": self._query(), "documents": self._documents(objects=0), "property": ""}, "/rerank"

    def pinecone(self) -> tuple[dict[str, Any], str]:
        payload: dict[str, Any] = {
            "query": self._query(),
            "documents": self._documents(objects=0.8),
            "model": "any",
        }
        payload |= {"parameters": {"truncate": "END"}, "rank_fields": ["text"]}
        return payload | self._options(top_n=[1, 3], return_documents=[True, False]), "/rerank"

    def bedrock(self) -> tuple[dict[str, Any], str]:
        texts = [{"type": "TEXT", "textDocument": {"text": self._document()}} for _ in range(self._count())]
        inner: dict[str, Any] = {"modelConfiguration": {"modelArn": "arn:any"}}
        payload = {
            "queries": [{"type": "TEXT", "textQuery": {"text": self._query()}}],
            "sources": [{"type": "INLINE", "inlineDocumentSource": text} for text in texts],
            "rerankingConfiguration": {
                "type": "BEDROCK_RERANKING_MODEL",
                "bedrockRerankingConfiguration": inner | self._options(numberOfResults=[1, 3, 100]),
            },
        }
        return payload, self._chance.choice(("/rerank", "/invocations"))

    def nvidia(self) -> tuple[dict[str, Any], str]:
        passages = [{"text": self._document()} for _ in range(self._count())]
        payload = {"query": {"text": self._query()}, "passages": passages, "model": "any"}
        return payload | self._options(truncate=["END"], top_n=[1, 5]), self._chance.choice(_PATHS)

    def dashscope(self) -> tuple[dict[str, Any], str]:
        inside = {"query": self._query(), "documents": self._documents(objects=0)}
        return {
            "input": inside,
            "parameters": self._options(top_n=[1, 3, 100], return_documents=[True, False]),
        }, "/invocations"

    def mixedbread(self) -> tuple[dict[str, Any], str]:
        payload = {
            "query": self._query(),
            "input": self._documents(objects=0.2),
            "top_k": self._chance.choice((None, 1, 9)),
        }
        return payload | self._options(return_input=[True, False], rank_fields=[None]), self._chance.choice(
            _PATHS
        )

    def elastic(self) -> tuple[dict[str, Any], str]:
        texts = [self._document() for _ in range(self._count())]
        payload = {"query": self._query(), "input": texts[0] if len(texts) == 1 else texts}
        return payload | self._options(
            top_n=[1, 3], return_documents=[True], task_settings=[{}]
        ), "/invocations"

    def score(self) -> tuple[dict[str, Any], str]:
        left, right = self._chance.choice(
            (("text_1", "text_2"), ("data_1", "data_2"), ("queries", "documents"), ("queries", "items"))
        )
        documents = [self._document() for _ in range(self._count())]
        roll = self._chance.random()
        queries: Any = self._query() if roll < 0.4 else [self._query() for _ in documents]
        if roll > 0.9:
            queries, documents = documents, queries
            queries = [text or "x" for text in queries]
        return {left: queries, right: documents} | self._options(
            raw_scores=[True, False]
        ), self._chance.choice(_PATHS)

    def deepinfra(self) -> tuple[dict[str, Any], str]:
        documents = [self._document() for _ in range(self._count())]
        return {"queries": [self._query()], "documents": documents}, "/v1/inference/a-model"

    def predict(self) -> tuple[dict[str, Any], str]:
        pairs = self._pairs()
        alone = len(pairs) == 1 and self._some(0.5)
        return {"inputs": pairs[0] if alone else pairs} | self._options(raw_scores=[True, False]), "/predict"

    def ranking(self) -> tuple[dict[str, Any], str]:
        return {"inputs": self._pairs()}, "/invocations"

    def ranked_texts(self) -> tuple[dict[str, Any], str]:
        inside = {"query": self._query(), "texts": [self._document() for _ in range(self._count())]}
        return {"inputs": inside | self._options(return_documents=[True, False])}, "/invocations"

    def sentences(self) -> tuple[dict[str, Any], str]:
        inside = {
            "source_sentence": self._query(),
            "sentences": [self._document() for _ in range(self._count())],
        }
        return {"inputs": inside}, self._chance.choice(("/", "/invocations"))

    def langchain(self) -> tuple[dict[str, Any], str]:
        return {"text_pairs": self._pairs()}, "/invocations"

    def huggingface(self) -> tuple[dict[str, Any], str]:
        pairs = [{"text": query, "text_pair": document} for query, document in self._pairs()]
        single = len(pairs) == 1 and self._some(0.3)
        return {"inputs": pairs[0] if single else pairs} | self._options(parameters=[{}]), "/invocations"

    def dify(self) -> tuple[dict[str, Any], str]:
        pairs = self._pairs()
        return {"inputs": [pair[0] for pair in pairs], "docs": [pair[1] for pair in pairs]}, "/invocations"

    def _pairs(self) -> list[list[str]]:
        query, pairs = self._query(), []
        for _ in range(self._count()):
            if self._some(0.3):
                query = self._query()
            pairs.append([query, self._document()])
        return pairs

    # Of the content types.

    def _request(self, names: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
        payload, path = REQUESTS[self._chance.choice(names or tuple(REQUESTS))](self)
        if self._spoil and self._some(0.4):
            for _ in range(self._chance.choice((1, 1, 1, 2, 5))):
                self._change(payload)
        return payload, path

    def _json(self) -> Case:
        payload, path = self._request()
        return Case(body=self._encoded(payload, spaced=True), path=path)

    def _lines(self) -> Case:
        count = self._chance.choice((1, 2, 3, 8)) if self._some(0.98) else 100
        requests = [self._request(_ANYWHERE)[0] for _ in range(count)]
        ends = self._chance.choice((b"\n", b"\n", b"\r\n"))
        body = ends.join(map(self._encoded, requests)) + (ends if self._some(0.7) else b"")
        return Case(body=body, content_type=self._chance.choice((LINES, "application/x-ndjson")))

    def _csv(self) -> Case:
        return self._pairs_of_csv() if self._some(0.3) else self._requests_of_csv()

    def _pairs_of_csv(self) -> Case:
        rows: list[dict[str, Any]] = [
            {"query": query, "passage": document} for query, document in self._pairs()
        ]
        cells = [[row["query"], row["passage"]] for row in rows]
        if self._some(0.3):
            cells.insert(0, ["query", "passage"])
        body = self._table(cells, jina=False)
        # What marks a text as UTF-8 is no part of its first cell.
        known = not body.startswith(b"\xef\xbb\xbf")
        return Case(body=body, content_type=CSV, rows=tuple(rows) if known else None)

    def _requests_of_csv(self) -> Case:
        rows, table = [], []
        jina = self._some(0.5)
        for number in range(self._chance.choice((1, 2, 3, 8))):
            entry = {"id": f"row-{number}"} | self._entry()
            rows.append(entry)
            documents = json.dumps(entry["documents"], ensure_ascii=self._some(0.5))
            if self._spoil and self._some(0.2):
                documents = self._encoded(self._changed(entry["documents"])).decode(errors="replace")
                rows.clear()
            cells = [entry["id"], entry["query"], documents]
            if entry.get("top_n") or self._some(0.3):
                cells.append(str(entry.get("top_n") or ""))
            if self._spoil and self._some(0.1):
                cells[-1:] = [
                    self._chance.choice(("9" * 5000, "²", "٣", "0", "-1", "1e3", " 2 ", "", "a,b,c"))
                ]
                rows.clear()
            table.append(cells)
        # A lone carriage return has no form there.
        jina = jina and not any("\r" in cell for cells in table for cell in cells)
        known = len(rows) == len(table)
        return Case(body=self._table(table, jina=jina), content_type=CSV, rows=tuple(rows) if known else None)

    def _table(self, rows: Sequence[Sequence[str]], *, jina: bool) -> bytes:
        """As the standard has it, or as jina-sagemaker writes: commas and quotation marks behind a backslash."""
        written = io.StringIO()
        if jina:
            writer = csv.writer(written, quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\n")
        else:
            writer = csv.writer(written, lineterminator="\r\n")
        writer.writerows(rows)
        return written.getvalue().encode(errors="surrogatepass")

    def _encoded(self, payload: Any, *, spaced: bool = False) -> bytes:
        raw: list[Raw] = []

        def marked(value: Any) -> Any:
            if isinstance(value, Raw):
                raw.append(value)
                return f"@raw{len(raw) - 1}@"
            if isinstance(value, dict):
                return {name: marked(entry) for name, entry in value.items()}
            return [marked(entry) for entry in value] if isinstance(value, list) else value

        indent = 1 if spaced and self._some(0.05) else None
        text = json.dumps(marked(payload), ensure_ascii=self._some(0.3), indent=indent)
        if raw:
            text = re.sub('"@raw([0-9]+)@"', lambda found: raw[int(found[1])], text)
        if spaced and self._some(0.03):
            text = self._chance.choice(("\ufeff", " \n\t", "\r\n")) + text
        return text.encode(errors="surrogatepass")

    # Of harm.

    def _change(self, payload: Any) -> None:
        """Change something at a random place of the request."""
        place, keys = payload, list(payload)
        while keys:
            key = self._chance.choice(keys)
            inside = place[key]
            if not isinstance(inside, dict | list) or not inside or self._some(0.35):
                break
            place, keys = inside, list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        else:
            return  # all of it is deleted
        what = self._chance.choice(("strange", "strange", "delete", "wrap", "repeat", "swap", "add"))
        if what == "strange":
            place[key] = self._strange()
        elif what == "delete":
            del place[key]
        elif what == "wrap":
            place[key] = self._chance.choice(([inside], {"text": inside}, {"image": inside}))
        elif what == "repeat":
            self._repeat(place, key)
        elif what == "swap":
            other = self._chance.choice(keys)
            place[key], place[other] = place[other], place[key]
        elif isinstance(place, dict):
            name = self._chance.choice(
                (
                    "top_n",
                    "query",
                    "documents",
                    "text",
                    "image",
                    "return_embeddings",
                    "api_version",
                    "rank_fields",
                )
            )
            place[name] = self._strange()
        else:
            place.append(self._strange())

    def _strange(self) -> Any:
        # A copy: what is in the request may be changed again.
        return copy.deepcopy(self._chance.choice(_STRANGE))

    def _repeat(self, place: Any, key: Any) -> None:
        inside, times = place[key], self._chance.choice((2, 10, 300))
        if isinstance(inside, list):
            place[key] = inside * times if len(inside) * times < 5000 else []
        elif isinstance(inside, str) and not isinstance(inside, Raw):
            place[key] = f"{inside} " * times if len(inside) * times < 100_000 else ""
        elif isinstance(place, dict):
            place[key] = [inside] * min(10, times)

    def _changed(self, documents: list[Any]) -> list[Any]:
        changed = list(documents)
        self._change({"documents": changed})
        return changed

    def _bitten(self, body: bytes) -> bytes:
        """Change bytes, whatever they mean."""
        bitten = bytearray(body)
        for _ in range(self._chance.choice((1, 1, 2, 5))):
            at, end = sorted(self._chance.randrange(len(bitten) + 1) for _ in range(2))
            what = self._chance.choice(("flip", "insert", "insert", "delete", "double", "cut"))
            if what == "flip" and at < len(bitten):
                bitten[at] ^= 1 << self._chance.randrange(8)
            elif what == "insert":
                bitten[at:at] = self._chance.choice(_BYTES)
            elif what == "delete":
                del bitten[at : min(end, at + self._chance.choice((1, 4, 1000)))]
            elif what == "double":
                bitten[at:at] = bitten[at : min(end, at + 1000)]
            elif what == "cut" and self._some(0.3):
                del bitten[at:]
        return bytes(bitten)

    def giant(self) -> Case:
        """A body of megabytes."""
        name = self._chance.choice(tuple(GIANTS))
        size = self._chance.choice((1_000_000, MOST_BYTES, MOST_BYTES, MOST_BYTES + 1))
        return GIANTS[name](size)


# What a body alone tells, on any route.
_ANYWHERE = (
    "jina",
    "cohere-v1",
    "jina-marketplace",
    "tei",
    "langchain",
    "huggingface",
    "dify",
    "voyage",
    "score",
)

# By the server's names of the dialects.
REQUESTS: dict[str, Callable[[Maker], tuple[dict[str, Any], str]]] = {
    "jina": Maker.jina,
    "cohere-v1": Maker.cohere_v1,
    "cohere-v2": Maker.cohere_v2,
    "jina-marketplace": Maker.marketplace,
    "tei": Maker.tei,
    "langchain": Maker.langchain,
    "huggingface": Maker.huggingface,
    "dify": Maker.dify,
    "voyage": Maker.voyage,
    "weaviate": Maker.weaviate,
    "pinecone": Maker.pinecone,
    "bedrock": Maker.bedrock,
    "nvidia": Maker.nvidia,
    "dashscope": Maker.dashscope,
    "mixedbread": Maker.mixedbread,
    "elastic": Maker.elastic,
    "score": Maker.score,
    "deepinfra": Maker.deepinfra,
    "tei-predict": Maker.predict,
    "huggingface-ranking": Maker.ranking,
    "huggingface-texts": Maker.ranked_texts,
    "huggingface-sentences": Maker.sentences,
}


def padded(head: bytes, unit: bytes, tail: bytes, size: int, *, last: bytes = b"") -> Case:
    """A body of JSON of exactly `size` bytes: head, unit after unit with `last` after them, blanks, tail."""
    count = (size - len(head) - len(last) - len(tail)) // len(unit)
    body = head + unit * count + last + tail
    return Case(body=body + b" " * (size - len(body)))


def _document_of(unit: str) -> Callable[[int], Case]:
    return lambda size: padded(b'{"query":"what causes rain","documents":["', unit.encode(), b'"]}', size)


# Bodies of a given size that some part of a server could take too much time or memory for.
GIANTS: dict[str, Callable[[int], Case]] = {
    "exclamation marks": _document_of("!"),
    "letters": _document_of("a "),
    "Hangul": _document_of("가나다라"),
    "one word": _document_of("pneumono"),
    "words": _document_of("rain falls on the house "),
    "emoji": _document_of("👩‍👩‍👧"),
    "escapes": _document_of("\\u00e9"),
    "long query": lambda size: padded(b'{"documents":["rain"],"query":"', b"rain ", b'"}', size),
    "empty lists": lambda size: padded(
        b'{"query":"rain","documents":[{"text":"a","x":[', b"[],", b"]}]}", size, last=b"[]"
    ),
    "empty objects": lambda size: padded(
        b'{"query":"rain","documents":[{"text":"a","x":[', b"{},", b"]}]}", size, last=b"{}"
    ),
    "numbers": lambda size: padded(b'{"query":"rain","top_n":', b"9", b',"documents":["a"]}', size),
    "digits": lambda size: padded(
        b'{"query":"rain","documents":[{"text":"a","x":[', b"1,", b"]}]}", size, last=b"1"
    ),
    "documents": lambda size: padded(b'{"query":"rain","documents":[', b'"a",', b"]}", size, last=b'"a"'),
    "keys": lambda size: padded(b'{"query":"rain","documents":["a"]', b',"k":1', b"}", size),
    "brackets": lambda size: padded(b"", b"[", b"", size),
    "blanks": lambda size: padded(b'{"query":"rain","documents":["a"]}', b" ", b"", size),
    "lines": lambda size: replace(
        padded(b"", b'{"query":"rain","documents":["a"]}\n', b"", size), content_type=LINES
    ),
    "blank lines": lambda size: replace(padded(b"", b"\n", b"", size), content_type=LINES),
    "commas": lambda size: replace(padded(b"", b",", b"", size), content_type=CSV),
    "quotes": lambda size: replace(padded(b"", b'"', b"", size), content_type=CSV),
    "backslashes": lambda size: replace(padded(b"", b"\\", b"", size), content_type=CSV),
}
