"""The checks of the exercises, a module a section; `llmlib.teaching.catalogue` finds them."""
