"""An agent of one's own, which a plugin offers under a name: it says what it is asked."""

from collections.abc import Callable

from gymhost import Task, hookimpl
from gymhost.agents import AgentFailure, AgentRun, McpServers


class Parrot:
    def __init__(self, times: int = 1) -> None:
        self.times = times

    async def run(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
        asked = task.responses_create_params.get("input")
        if not isinstance(asked, str):
            raise AgentFailure("a parrot repeats one text", "no_text", terminal=True)
        content = [{"type": "output_text", "text": " ".join([asked] * self.times)}]
        run.output.append({"type": "message", "role": "assistant", "content": content})
        run.turns += 1


class Parrots:
    @hookimpl
    def register_agents(self, register: Callable[..., None]) -> None:
        register("parrot", Parrot)
