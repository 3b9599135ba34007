"""Files judged by their bytes: digests, manifests, GGUF models, checkpoints, adapters and datasets."""
