"""`sagerank cost measure`: rows for throughput.csv, of an endpoint's requests, of `sagerank bench throughput`, or by hand."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import CostError
from .arithmetic import precisions
from .catalogue import Catalogue, Instance
from .measured import Measurement, serverless
from .models import MODELS, check_precision, choice
from .questions import one

QUERY = "how do glaciers shape valleys"
# The tokens of the query and the special ones, which every pair has and a request is billed once for.
QUERY_TOKENS = 10
# What a benchmark's conditions call units of instance types.
UNITS = {"amx_int8": "AMX-INT8", "avx512": "AVX-512", "avx2": "AVX2", "sve": "SVE", "neon": "NEON"}
_TEXT = (
    "Alpine glaciers carve valleys as they move: ice plucks blocks from the bed, grinds what it carries against the "
    "walls, and leaves moraines of unsorted debris where it melts. "
)


def rows(options: argparse.Namespace, prices: Catalogue) -> list[Measurement]:
    """What the command line asks for. Raises CostError where it does not say what was or is to be measured, and where that fails."""
    ways = options.given & {"endpoint", "seconds", "from"}
    if not ways or not options.given >= ({"instance"} if "from" in ways else {"instance", "model"}):
        raise CostError(
            "Give --endpoint NAME, --seconds S or --from FILE, and --instance TYPE and --model NAME once: what it runs on, and what it runs."
        )
    place, model = one(options, "instance"), one(options, "model") if "model" in options.given else ""
    if "from" in ways:
        return rows_from_bench(getattr(options, "from"), prices.instance(place), model)
    usual, *_ = precisions(None if place.isdecimal() else prices.instance(place))
    instance = serverless(int(place)) if place.isdecimal() else place
    precision = check_precision(one(options, "precision") if "precision" in options.given else usual)
    name = choice(model).name
    if "seconds" in ways:
        by_hand = row_by_hand(
            instance=instance,
            model=name,
            precision=precision,
            documents=options.documents,
            tokens=options.tokens,
            seconds=options.seconds,
        )
        return [by_hand]
    timed = measure(
        options.endpoint,
        documents(options.documents, max(1, round(options.tokens / 1.3))),
        instance=instance,
        model=name,
        precision=precision,
        region=one(options, "region") if "region" in options.given else None,
        profile=options.profile,
        endpoint_url=options.endpoint_url,
    )
    return [timed]


def documents(count: int, words: int) -> list[str]:
    """Texts of that many words."""
    pool = _TEXT.split()
    return [" ".join(pool[(start + offset) % len(pool)] for offset in range(words)) for start in range(count)]


def measure(
    endpoint: str,
    texts: Sequence[str],
    *,
    instance: str,
    model: str,
    precision: str,
    region: str | None = None,
    profile: str | None = None,
    endpoint_url: str | None = None,
    repeats: int = 7,
) -> Measurement:
    """The median of whole calls through boto3's sagemaker-runtime, after one that warms up.

    Each call's documents begin with other numbers, since a server may keep the scores of pairs that it has seen.
    region: by default AWS_REGION's, AWS_DEFAULT_REGION's or the profile's; profile: by default AWS_PROFILE's.
    Raises CostError where the endpoint does not answer as a reranker.
    """
    if not texts or repeats < 1:
        raise CostError("Give at least one document and one repetition.")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    session = boto3.Session(profile_name=profile)
    # boto3 by itself does not read AWS_REGION.
    where = region or os.environ.get("AWS_REGION") or session.region_name
    if not where:
        raise CostError("No AWS region is set: give --region, or set AWS_REGION.")
    runtime = session.client(
        "sagemaker-runtime",
        region_name=where,
        endpoint_url=endpoint_url,
        config=Config(retries={"total_max_attempts": 1}),
    )
    times = []
    try:
        for _ in range(repeats + 1):
            new = [f"{secrets.randbelow(10**9)} {text}" for text in texts]
            body = json.dumps({"query": QUERY, "documents": new, "return_documents": False}).encode()
            began = time.perf_counter()
            response = runtime.invoke_endpoint(
                EndpointName=endpoint, ContentType="application/json", Body=body
            )
            answer: Any = json.loads(response["Body"].read())
            times.append(time.perf_counter() - began)
        results, tokens = len(answer["results"]), int(answer["usage"]["total_tokens"])
    except (BotoCoreError, ClientError) as error:
        raise CostError(f"The endpoint {endpoint} did not answer: {error}.") from None
    except (ValueError, KeyError, TypeError):
        raise CostError(
            f"The endpoint {endpoint} did not answer with results and usage.total_tokens: is it a sagerank endpoint?"
        ) from None
    finally:
        runtime.close()
    if results != len(texts):
        raise CostError(f"The endpoint {endpoint} answered {results} results for {len(texts)} documents.")
    return Measurement(
        model=model,
        precision=precision,
        instance=instance,
        documents=len(texts),
        tokens=round(tokens / len(texts) + QUERY_TOKENS, 1),
        seconds=round(statistics.median(times[1:]), 5),
        kind="measured",
        source=f"median of {repeats} whole calls of one client through sagemaker-runtime",
        date=_today(),
    )


def row_by_hand(
    *, instance: str, model: str, precision: str, documents: int, tokens: float, seconds: float
) -> Measurement:
    """What somebody measured otherwise. Raises CostError for numbers that are none, and names that do not exist."""
    if not all(0 < number < 1e9 for number in (documents, tokens, seconds)):
        raise CostError(
            f"{documents} documents of {tokens:g} tokens in {seconds:g} s: give numbers above 0 with --documents, --tokens and --seconds."
        )
    return Measurement(
        model=choice(model).name,
        precision=check_precision(precision),
        instance=instance,
        documents=documents,
        tokens=tokens,
        seconds=seconds,
        kind="measured",
        source="given by hand",
        date=_today(),
    )


def rows_from_bench(path: Path, instance: Instance, model: str = "") -> list[Measurement]:
    """The rows of sagerank in what `sagerank bench throughput --json` printed on such an instance: whole calls without HTTP.

    model: what it ran, where the benchmark knows it by another name, such as a folder's. Raises CostError for a file that is
    none of its, and where the machine cannot have been such an instance or ran with fewer threads than that has cores.
    """
    try:
        rows: Any = json.loads(path.read_text(encoding="utf-8"))
        ours = [row for row in rows if row["name"] == "sagerank"]
        if not ours:
            raise CostError(f"{path} has no row of sagerank: measure with this version.")
        if model and len(ours) != 1:
            raise CostError(f"{path} has {len(ours)} models: leave --model out, or give the JSON of one.")
        return [_benched(path, row, instance, model) for row in ours]
    except CostError:
        raise
    except OSError as error:
        raise CostError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CostError(
            f"{path} is not what `sagerank bench throughput --json` prints ({error!r}): measure again with this version."
        ) from None


def _benched(path: Path, row: Any, instance: Instance, model: str) -> Measurement:
    where = row["conditions"]
    machine = f"{where['cpu']}, {', '.join(where['vector'])}"
    if instance.gpu:
        raise CostError(f"{path} does not say what a GPU does, and {instance.name} has one: give --endpoint.")
    lacking = [name for flag, name in UNITS.items() if flag in instance.isa and name not in where["vector"]]
    if lacking:
        raise CostError(
            f"{path} was measured on {machine}, and {instance.name} has {lacking[0]}: measure on that type, or name the one that it was."
        )
    if int(row["threads"]) != instance.cores:
        raise CostError(
            f"{path} was measured with {row['threads']} threads, and {instance.name} has {instance.cores} cores: measure without --threads there."
        )
    name = model or row["model"].removeprefix("random:")
    if not model and name not in MODELS:
        raise CostError(f"{path} calls its model {name!r}: say with --model what it is, such as tiny.")
    by_hand = row_by_hand(
        instance=instance.name,
        model=name,
        precision=row["precision"],
        documents=int(row["documents"]),
        tokens=float(row["tokens"]),
        seconds=round(float(row["seconds"]), 5),
    )
    source = f"sagerank bench throughput, {machine}, ONNX Runtime {where['onnxruntime']}"
    return replace(by_hand, source=source, date=datetime.date.fromisoformat(row["date"]).isoformat())


def _today() -> str:
    return datetime.date.today().isoformat()
