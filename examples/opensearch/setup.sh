#!/usr/bin/env bash
# OpenSearch 2.12 or newer with ml-commons: connector, model and search pipeline for an endpoint, and one search.
#
#   OPENSEARCH=https://my-domain.example bash examples/opensearch/setup.sh
#
# Write the endpoint's name, its region and a role that may call it into connector.json first. Not run by our tests,
# which have no OpenSearch: they send what the connector would, and check what its functions read of the answer.
set -euo pipefail
cd "$(dirname "$0")"
: "${OPENSEARCH:?the address of your cluster, credentials included or in ~/.netrc}"
call() { curl --fail-with-body --silent --show-error --netrc-optional -H 'Content-Type: application/json' -X "$1" "$OPENSEARCH/$2" -d "$3"; }
field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }

connector=$(call POST _plugins/_ml/connectors/_create @connector.json | field connector_id)
model=$(call POST '_plugins/_ml/models/_register?deploy=true' \
  "{\"name\": \"sagerank\", \"function_name\": \"remote\", \"connector_id\": \"$connector\"}" | field model_id)
call PUT _search/pipeline/sagerank "$(sed "s/MODEL_ID/$model/" pipeline.json)"
call POST 'my-index/_search?search_pipeline=sagerank' '{
  "query": {"match": {"passage_text": "what causes rain"}},
  "size": 20,
  "ext": {"rerank": {"query_context": {"query_text": "what causes rain"}}}
}'
