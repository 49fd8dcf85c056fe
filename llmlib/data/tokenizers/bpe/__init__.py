"""Byte-pair encoding over bytes and over characters: learning merges and applying them."""
