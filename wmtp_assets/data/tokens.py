"""Counting tokens exactly as the training code's tokenizer does."""

from __future__ import annotations

from collections.abc import Sequence

from wmtp_assets.errors import InvalidInput


class TokenCounter:
    """Counts sentencepiece tokens, without BOS and EOS.

    Args:
        model: the bytes of a ``tokenizer.model``.
        where: its path, for errors.

    Raises:
        InvalidInput: if ``model`` is no sentencepiece model.
    """

    def __init__(self, model: bytes, where: str) -> None:
        from sentencepiece import SentencePieceProcessor

        if not model:
            raise InvalidInput(f"{where}: not a sentencepiece model: it is empty")
        try:
            self._processor = SentencePieceProcessor(model_proto=model)
        except (RuntimeError, UnicodeDecodeError) as error:  # the latter: about a damaged piece
            raise InvalidInput(f"{where}: not a sentencepiece model: {error}") from error

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self._processor.encode(list(texts), num_threads=1)]
