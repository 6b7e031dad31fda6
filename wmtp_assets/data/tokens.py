"""Counting tokens exactly as the training code's tokenizer does."""

from __future__ import annotations

from collections.abc import Sequence

from wmtp_assets.checkpoints.tokenizer import load_processor


class TokenCounter:
    """Counts sentencepiece tokens, without BOS and EOS.

    Args:
        model: the bytes of a ``tokenizer.model``.
        where: its path, for errors.

    Raises:
        InvalidInput: if ``model`` is no sentencepiece model.
    """

    def __init__(self, model: bytes, where: str) -> None:
        self._processor = load_processor(model, where)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self._processor.encode(list(texts), num_threads=1)]
