"""The machine: its device, its processor, its memory."""
