"""Generation, inference, prompting, tools, agents and retrieval."""
