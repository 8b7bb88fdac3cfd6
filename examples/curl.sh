#!/usr/bin/env bash
# The same question in the words of four clients, with curl alone: Jina, Cohere, TEI and LangChain.
#
#   sagerank serve &
#   bash examples/curl.sh                        # or: bash examples/curl.sh http://localhost:9000
set -euo pipefail
url=${1:-http://localhost:8080}
post() { curl --fail-with-body --silent --show-error --noproxy '*' --json "$2" "$url$1" && echo; }

echo "Jina"
post /v1/rerank '{"query": "what causes rain", "documents": ["Cats sleep all day.", "Rain forms when moist air rises and cools."], "top_n": 1}'
echo "Cohere"
post /v2/rerank '{"query": "what causes rain", "documents": ["Cats sleep all day.", "Rain forms when moist air rises and cools."], "top_n": 1}'
echo "TEI"
post /rerank '{"query": "what causes rain", "texts": ["Cats sleep all day.", "Rain forms when moist air rises and cools."]}'
echo "LangChain"
post /invocations '{"text_pairs": [["what causes rain", "Cats sleep all day."], ["what causes rain", "Rain forms when moist air rises and cools."]]}'
