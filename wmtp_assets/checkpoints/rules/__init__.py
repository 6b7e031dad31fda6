"""Rules about checkpoints and tokenizers, one module for each thing they are about."""
