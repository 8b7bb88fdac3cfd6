"""The reranker in other people's frameworks: langchain, llamaindex and haystack, a module each."""
