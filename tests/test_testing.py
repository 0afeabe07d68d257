"""What plugin authors test with: a host and its real HTTP application, in this process."""

from __future__ import annotations

import pytest

from gymhost import Environment, EnvironmentConfig, Session, Trajectory, testing
from gymhost.errors import PluginLoadError
from tests.environments import Diary


class Unstartable(Environment):
    async def startup(self) -> None:
        raise RuntimeError("no database")

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 0.0


class Living(Diary):
    """Keeps what has happened to it."""

    def __init__(self) -> None:
        super().__init__()
        self.life: list[str] = []

    async def startup(self) -> None:
        self.life.append("startup")

    async def shutdown(self) -> None:
        self.life.append("shutdown")


async def test_an_environment_is_started_served_and_shut_down() -> None:
    living = Living()
    async with testing.client({"living": living}) as client:
        assert living.life == ["startup"]
        assert client.host.mounts["living"].instance is living
        async with client.episode("living") as episode:
            assert (await episode.call_tool("write", {"note": "one"})).text == "one"
    assert living.life == ["startup", "shutdown"]


@pytest.mark.parametrize("unmountable", [Unstartable, "no-such-plugin"])
async def test_what_can_not_be_served_fails_the_test(unmountable: type | str) -> None:
    living = Living()
    config = EnvironmentConfig(plugin=unmountable)
    with pytest.raises(PluginLoadError, match=r"(?s)not everything can be served.*broken: "):
        async with testing.client({"living": living, "broken": config}):
            pytest.fail("it started")  # pragma: no cover
    assert living.life == ["startup", "shutdown"]


async def test_without_strict_the_others_are_served() -> None:
    broken = {"diary": Diary, "broken": Unstartable}
    async with testing.client(broken, strict=False) as client:
        listed = await client.environments()
        assert [each["name"] for each in listed["environments"]] == ["diary"]
        assert [each["name"] for each in listed["failed"]] == ["broken"]
        assert "no database" in listed["failed"][0]["reason"]


async def test_installed_plugins_are_looked_for_on_request() -> None:
    async with testing.client({}) as client:
        assert (await client.environments())["environments"] == []
    async with testing.client({}, discover=True, strict=False) as client:
        names = [each["name"] for each in (await client.environments())["environments"]]
    assert "weather" in names


async def test_two_hosts_in_one_process_share_nothing() -> None:
    async with testing.client({"diary": Diary}) as one, testing.client({"diary": Diary}) as other:
        seeded = await one.seed("diary")
        assert (await one.environment("diary"))["use"]["open_sessions"] == 1
        assert (await other.environment("diary"))["use"]["open_sessions"] == 0
        assert one.key != other.key
        assert await other.host.store.get(seeded.session_id) is None


async def test_a_failed_assertion_in_the_block_stays_what_it_is() -> None:
    with pytest.raises(AssertionError, match="mine"):
        async with testing.client({"diary": Diary}) as client, client.episode("diary"):
            raise AssertionError("mine")
