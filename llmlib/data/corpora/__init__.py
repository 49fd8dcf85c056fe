"""Where text comes from: pinned packages, the reader's environment, files, the Hub."""
