"""One model on several processes, every kind written out and counted."""
