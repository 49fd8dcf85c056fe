"""Small worlds with known answers that experiments take their texts from."""
