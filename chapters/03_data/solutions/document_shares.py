from torch import Tensor


def document_shares(token_shares: Tensor, mean_lengths: Tensor) -> Tensor:
    """Turn shares of the tokens [K] into shares of the documents [K]."""
    documents = token_shares / mean_lengths
    return documents / documents.sum()
