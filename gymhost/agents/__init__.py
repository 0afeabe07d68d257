"""Agents: a model and its harness, which attempt a task with the tools of MCP servers."""

from __future__ import annotations

from gymhost.agents.base import Agent, AgentFailure, AgentRun, McpServers, Usage

__all__ = ["Agent", "AgentFailure", "AgentRun", "McpServers", "Usage"]
