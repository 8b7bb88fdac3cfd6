"""`sagerank connect`: what to paste into a search engine or an application so that it asks an endpoint."""
