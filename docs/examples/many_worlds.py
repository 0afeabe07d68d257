"""An extension that mounts environments: one class, once for each size."""

from collections.abc import Callable

from gymhost import Environment, Session, Trajectory, hookimpl


class Grid(Environment):
    def __init__(self, size: int) -> None:
        self.size = size

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float(trajectory.final_text == f"{self.size * self.size} fields")


class ManyWorlds:
    @hookimpl
    def register_environments(self, register: Callable[..., None]) -> None:
        for size in (3, 5, 8):
            register(f"grid-{size}", Grid, size=size)
