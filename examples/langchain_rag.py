"""LangChain's own SageMaker cross-encoder as the compressor of a retriever, against an endpoint or this machine.

    pip install langchain-community langchain-classic boto3
    python examples/langchain_rag.py                                  # the endpoint my-reranker in eu-west-1

    sagerank serve &                                                  # or without AWS
    AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=http://localhost:8080 AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any \
        python examples/langchain_rag.py

Nothing of sagerank is imported: the server answers LangChain in its own format. For an endpoint of inference
components add endpoint_kwargs={"InferenceComponentName": "..."}.
"""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_community.cross_encoders import SagemakerEndpointCrossEncoder
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "what causes rain"
PASSAGES = (Path(__file__).parent / "passages.txt").read_text(encoding="utf-8").splitlines()


class Words(BaseRetriever):
    """Passages that share a word with the question: stands for your vector store."""

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain gives it
    ) -> list[Document]:
        words = set(query.lower().split())
        return [Document(text) for text in PASSAGES if words & set(text.lower().split())]


model = SagemakerEndpointCrossEncoder(endpoint_name="my-reranker", region_name="eu-west-1")
retriever = ContextualCompressionRetriever(
    base_compressor=CrossEncoderReranker(model=model, top_n=3), base_retriever=Words()
)
for document in retriever.invoke(QUESTION):
    print(document.page_content)
