"""The two planes over HTTP: control for trainers, MCP for agents."""
