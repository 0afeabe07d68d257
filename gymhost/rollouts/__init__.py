"""Rollouts: an agent attempts tasks, each attempt is scored, and a file has the scores."""
