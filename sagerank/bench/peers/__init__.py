"""Other people's rerankers on the same weights: the peers that `sagerank bench` measures beside sagerank.

Each runs in an environment and a process of its own. export turns an artefact into the folder that all of them load
(dense is the model, modeling_jina_bert its class for transformers), environment installs a peer, prepare lets it make its
own files of that folder, runner works in its process, and process is this side of it.
"""

from .catalogue import PEERS, PeerError, PeerSpec
from .process import PeerProcess, open_peer

__all__ = ["PEERS", "PeerError", "PeerProcess", "PeerSpec", "open_peer"]
