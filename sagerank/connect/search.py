"""Search engines that call an endpoint of SageMaker themselves: OpenSearch by ml-commons, Elasticsearch by its inference API."""

from __future__ import annotations

from .endpoint import ACCESS_KEY, SECRET_KEY, Endpoint, Piece, allow, piece

_NAME = "sagerank"  # of model, pipeline and inference endpoint
_QUERY = "what causes rain"  # of the search that shows how

# The scores come in the order of the documents. Not connector.post_process.cohere.rerank: ml-commons' reader of JSON makes
# a BigDecimal of every number of more than 18 characters, as logits can be, and that function takes nothing but a Double.
_TENSORS = """\
def out = new StringBuilder('[');
for (int i = 0; i < params.result.length; i++) {
  if (i > 0) { out.append(','); }
  out.append('{"name":"similarity","data_type":"FLOAT32","shape":[1],"data":[').append(params.result[i]).append(']}');
}
return out.append(']').toString();"""

_SETUP = """\
#!/usr/bin/env bash
# Connector, model and search pipeline of this folder, for OpenSearch 2.12 or newer:
#
#   OPENSEARCH=https://my-domain.example bash setup.sh
#
# With AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set, requests are signed, as a domain of Amazon's wants it; who signs
# needs es:ESHttp* on the domain, iam:PassRole on the role, and OpenSearch's ml_full_access. Else ~/.netrc has the password.
set -euo pipefail
cd "$(dirname "$0")"
: "${OPENSEARCH:?the address of your cluster}"
signature() { # read from here, since other users see a command's words
  [ -n "${AWS_ACCESS_KEY_ID:-}" ] || return 0
  printf 'aws-sigv4 = "aws:amz:%s:es"\\nuser = "%s:%s"\\n' "${AWS_REGION:-@REGION@}" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
  [ -z "${AWS_SESSION_TOKEN:-}" ] || printf 'header = "x-amz-security-token: %s"\\n' "$AWS_SESSION_TOKEN"
}
call() {
  curl --fail-with-body --silent --show-error --netrc-optional --config <(signature) \\
    -H 'Content-Type: application/json' -X "$1" "$OPENSEARCH/$2" --data-binary "$3"
}
field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }

connector=$(call POST _plugins/_ml/connectors/_create @connector.json | field connector_id)
model=$(call POST '_plugins/_ml/models/_register?deploy=true' \\
  "{\\"name\\": \\"@NAME@\\", \\"function_name\\": \\"remote\\", \\"connector_id\\": \\"$connector\\"}" | field model_id)
call PUT _search/pipeline/@NAME@ "$(sed "s/MODEL_ID/$model/" pipeline.json)"
"""


def opensearch(endpoint: Endpoint, *, role: str | None, field: str) -> list[Piece]:
    """Return role, connector and search pipeline: one request a search.

    role: its ARN, which Amazon OpenSearch Service takes to call. field: of the documents, what is read of them.
    """
    name = f"opensearch-calls-{endpoint.name}"[:64]
    role = role or f"arn:{endpoint.partition}:iam::{endpoint.account}:role/{name}"
    name = role.rpartition("/")[2]
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "opensearchservice.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": endpoint.account}},
    }
    component = {"X-Amzn-SageMaker-Inference-Component": endpoint.component} if endpoint.component else {}
    # ml-commons writes the query without its quotes and the documents as a JSON list, both escaped.
    body = '{"inputs": {"source_sentence": "${parameters.query}", "sentences": ${parameters.documents}}}'
    connector = {
        "name": f"{_NAME}: {endpoint.component or endpoint.name}",
        "description": "A reranker on SageMaker",
        "version": 1,
        "protocol": "aws_sigv4",
        "credential": {"roleArn": role},
        "parameters": {"region": endpoint.region, "service_name": "sagemaker"},
        "actions": [
            {
                "action_type": "predict",
                "method": "POST",
                "url": endpoint.url,
                "headers": {"content-type": "application/json"} | component,
                "request_body": body,
                "pre_process_function": "connector.pre_process.cohere.rerank",
                "post_process_function": _TENSORS,
            }
        ],
    }
    reranks = {"ml_opensearch": {"model_id": "MODEL_ID"}, "context": {"document_fields": [field]}}
    search = {
        "query": {"match": {field: _QUERY}},
        "size": 20,
        "ext": {"rerank": {"query_context": {"query_text": _QUERY}}},
    }
    setup = _SETUP.replace("@REGION@", endpoint.region).replace("@NAME@", _NAME)
    return [
        piece(
            "trust.json",
            f"aws iam create-role --role-name {name} --assume-role-policy-document file://trust.json",
            allow(trust),
        ),
        endpoint.policy(
            f"aws iam put-role-policy --role-name {name} --policy-name invoke --policy-document file://policy.json"
        ),
        piece(
            "connector.json",
            "POST _plugins/_ml/connectors/_create. On a cluster of your own there is no role: give access_key and secret_key "
            "of a user who has policy.json in place of roleArn",
            connector,
        ),
        piece(
            "pipeline.json",
            f"PUT _search/pipeline/{_NAME}, with the model's id, which setup.sh puts there",
            {
                "description": f"Reranks what a search found by the field {field}",
                "response_processors": [{"rerank": reranks}],
            },
        ),
        Piece("setup.sh", "posts the two, and registers the model between them", setup),
        piece("search.json", f"POST my-index/_search?search_pipeline={_NAME}", search),
    ]


def elasticsearch(endpoint: Endpoint, *, field: str) -> list[Piece]:
    """Return a user's policy, the inference endpoint, and a search that uses it. field: what is read of the documents."""
    name = f"elasticsearch-calls-{endpoint.name}"[:64]
    component = {"inference_component_name": endpoint.component} if endpoint.component else {}
    settings = {
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "region": endpoint.region,
        "api": "elastic",
        "endpoint_name": endpoint.name,
    }
    reranks = {
        "retriever": {"standard": {"query": {"match": {field: _QUERY}}}},
        "field": field,
        "inference_id": _NAME,
        "inference_text": _QUERY,
        "rank_window_size": 100,
    }
    return [
        endpoint.policy(
            f"Elasticsearch takes a user's keys, no role: aws iam create-user --user-name {name}, aws iam put-user-policy "
            f"--user-name {name} --policy-name invoke --policy-document file://policy.json, aws iam create-access-key "
            f"--user-name {name}"
        ),
        piece(
            "inference.json",
            f"PUT _inference/rerank/{_NAME}, Elasticsearch 9.1 (8.19) or newer",
            {"service": "amazon_sagemaker", "service_settings": settings | component},
        ),
        piece(
            "search.json",
            "POST my-index/_search. A hit's _score is 1 more than the probability, as Elasticsearch has it for rerankers",
            {"retriever": {"text_similarity_reranker": reranks}},
        ),
    ]
