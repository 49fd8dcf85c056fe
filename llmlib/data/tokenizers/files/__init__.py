"""Published tokenizers, read from tokenizer.json, tiktoken's ranks and SentencePiece models."""
