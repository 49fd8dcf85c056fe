"""What a decoder keeps of the tokens it has read: whole, paged, rolling, or as memories."""
