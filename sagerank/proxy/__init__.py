"""`sagerank proxy`: the server's HTTP door on this machine, and a SageMaker endpoint or another server behind it."""
