"""Windows of a corpus: runs of tokens that a model predicts from the tokens before them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.data.corpus import Corpus

# Token before the first one of a document.
START = 0
# Target in places after the end of a document.
NONE = -100


@dataclass(frozen=True, eq=False)
class Windows:
    """Consecutive windows of each document, of T tokens or fewer at its end.

    The input at a place is the token before it. The first input of a window is the last token of
    the window before, or `START` at the beginning of a document, so that a token's prediction
    depends on earlier tokens of its document only.

    Attributes:
        inputs: tokens before, (N, T).
        targets: tokens, (N, T), uint8 or int64; beyond `lengths` they are without meaning.
        lengths: number of tokens of each window, (N,).
        documents: index of the document of each window, (N,).
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    documents: Tensor

    @classmethod
    def of(cls, corpus: Corpus, T: int) -> Windows:
        """Cut a corpus into windows of T tokens.

        Raises:
            ValueError: T is below 1, or above the number of tokens of the longest document.
        """
        most = max(len(document) for document in corpus.documents)
        if checks.whole("context", T) > most:
            raise ValueError(
                f"context must be at most the {most:,} tokens of the longest document, got {T:,}"
            )
        parts, lengths, documents = [], [], []
        for i, document in enumerate(corpus.documents):
            count = -(-len(document) // T)
            padded = document.new_zeros(count * T + 1)
            padded[0], padded[1 : len(document) + 1] = START, document
            parts.append((padded[:-1].view(count, T), padded[1:].view(count, T)))
            own = torch.full((count,), T)
            own[-1] = len(document) - T * (count - 1)
            lengths.append(own)
            documents.append(torch.full((count,), i))
        inputs, targets = (torch.cat(each) for each in zip(*parts, strict=True))
        return cls(inputs, targets, torch.cat(lengths), torch.cat(documents))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Tensor) -> Windows:
        parts = (self.inputs, self.targets, self.lengths, self.documents)
        return Windows(*(part[rows] for part in parts))

    @property
    def mask(self) -> Tensor:
        """Places that hold a token, (N, T)."""
        return torch.arange(self.inputs.shape[1]) < self.lengths[:, None]

    def labelled(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets in int64, with `NONE` for targets beyond the lengths."""
        targets = self.targets.long()
        return self.inputs.long(), torch.where(self.mask, targets, torch.full_like(targets, NONE))
