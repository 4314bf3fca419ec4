"""An agent that was just started takes over what one before it left, and throws nothing away."""

from __future__ import annotations

import pytest

from tests.unit.agent.checkpoints.shop import Shop, for_a_while, shop_definition, until
from tests.unit.builders import make_container, make_export, make_template
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import Role, parse
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.api.template import EmptyDir, Template, Volume, VolumeMount
from tryitnow.podman.errors import PodmanUnreachableError


async def test_demos_are_restored_before_any_archive_is_read_through(shop: Shop) -> None:
    """B19. Somebody else reads an archive for as long as this takes."""
    shop.order()
    await shop.until_ready()
    await shop.ends()
    async with shop.tools.readings.turn("default"):
        actor = await shop.starts_again()
        await until(lambda: actor.is_ready)
        assert actor.generation is not None
        assert actor.state.checked_at == float("-inf")
    await until(lambda: actor.state.checked_at > 0)


async def test_nothing_is_built_fetched_unpacked_or_tested_again(shop: Shop) -> None:
    shop.order()
    await shop.until_ready()
    before = shop.status
    await shop.starts_again()
    await shop.until_calm()
    await until(lambda: shop.actor.state.checked_at > 0)
    await shop.until_calm()
    assert shop.asked("pull", "checkpoint", "build image", "restore") == []
    assert shop.status == before
    assert shop.kubernetes.reasons().count("Ready") == 1, "nothing has happened"


async def test_it_is_tested_again_where_the_software_changed_meanwhile(shop: Shop) -> None:
    shop.order()
    await shop.until_ready()
    await shop.ends()
    shop.has_software(kernel="6.19")
    await shop.starts_again()
    await until(lambda: shop.status.verified_with == shop.node.health.current.versions)
    assert len(shop.asked("restore prepared")) == 1


async def test_the_status_stands_until_the_agent_knows_better(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """What the status tells of the archive is all that the next agent has."""
    shop.order()
    await shop.until_ready()
    archive = shop.status.archive
    kubernetes.writes.clear()
    podman.failures["has_image"] = PodmanUnreachableError("Podman does not answer")
    await shop.starts_again()
    await until(lambda: shop.actor.state.failure is not None)
    await until(lambda: shop.ready.reason == "PodmanUnreachable")
    assert shop.ready.status == "False", "nobody can be restored here now"
    assert shop.status.archive == archive
    # The next one is started while Podman is still away.
    await shop.starts_again()
    await until(lambda: shop.actor.state.failure is not None)
    del podman.failures["has_image"]
    shop.clock.forward(minutes=1)
    shop.actor.turn()
    await shop.until_ready()
    assert shop.asked("checkpoint") == []
    assert shop.status.archive == archive


@pytest.mark.parametrize("is_paused", [False, True], ids=["running", "paused"])
async def test_warm_sandboxes_outlive_the_agent(shop: Shop, *, is_paused: bool) -> None:
    shop.order(warm=2, pause=is_paused)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    waiting = shop.sandboxes(Role.WARM)
    ports = [shop.node.ports.of(name) for name in waiting]
    await shop.starts_again()
    await shop.until_stocked(warm=2)
    assert shop.sandboxes(Role.WARM) == waiting
    assert [shop.node.ports.of(name) for name in waiting] == ports


async def test_a_warm_sandbox_that_does_not_answer_is_replaced(
    shop: Shop, podman: FakePodman
) -> None:
    shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    ended, kept = shop.sandboxes(Role.WARM)
    podman.stop(ended)
    await shop.starts_again()
    await shop.until_stocked(warm=2)
    assert kept in shop.sandboxes(Role.WARM)
    assert ended not in shop.sandboxes(Role.WARM)


async def test_a_warm_sandbox_that_strangers_could_use_is_replaced(
    shop: Shop, firewall: FakeFirewall
) -> None:
    """Found by a seed: the agent was killed while it handed it out."""
    shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [opened] = shop.sandboxes(Role.WARM)
    await firewall.open(1, [80])
    await shop.starts_again()
    await shop.until_stocked(warm=1)
    assert opened not in shop.sandboxes(Role.WARM)


async def test_a_warm_sandbox_whose_volumes_are_gone_is_replaced(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    """Found by a seed: they were removed while Podman's storage was away, and it came back."""
    template = make_template(volume_mounts=(VolumeMount(name="data", mount_path="/data"),))
    template = template.model_copy(update={"volumes": (Volume(name="data", empty_dir=EmptyDir()),)})
    shop = Shop(node, kubernetes, podman, shop_definition(template=template))
    shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [half] = shop.sandboxes(Role.WARM)
    for tag in node.volumes.tags():
        node.volumes.remove(tag)
    await shop.starts_again()
    await shop.until_stocked(warm=1)
    assert half not in shop.sandboxes(Role.WARM)
    await shop.ends()


async def test_a_warm_sandbox_that_lost_a_container_is_replaced(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    """A person removed one while no agent was there: all else waits for the look through."""
    members = (make_container(), make_container("cache", ports=()))
    podman.export_bytes = make_export()
    shop = Shop(node, kubernetes, podman, shop_definition(template=Template(containers=members)))
    shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [half] = shop.sandboxes(Role.WARM)
    name = parse(half)
    assert name is not None
    found = await node.sandboxes.find(name)
    assert found is not None
    await shop.ends()
    await podman.remove(found.pod.member("cache"))
    await shop.starts_again()
    await shop.until_stocked(warm=1)
    assert half not in shop.sandboxes(Role.WARM)
    await shop.ends()


async def test_precreated_sandboxes_are_made_anew(shop: Shop) -> None:
    """What they were made from may have changed: a Secret, an image, this program."""
    shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    old = set(shop.sandboxes(Role.PRECREATED))
    await shop.starts_again()
    await shop.until_stocked()
    assert old.isdisjoint(shop.sandboxes(Role.PRECREATED))


async def test_nothing_is_made_while_what_waits_is_looked_through(
    shop: Shop, podman: FakePodman
) -> None:
    """Or it would be taken for what the agent before left."""
    shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    await shop.ends()
    podman.delay["inspect pod"] = 0.1
    actor = await shop.starts_again()
    await until(lambda: actor.is_ready)
    while not actor.state.adopted:
        shop.registry.turn_all()
        assert shop.asked("create stopped", "restore") == []
        await for_a_while(0.01)
    del podman.delay["inspect pod"]
    await shop.until_stocked(warm=1)


async def test_what_waits_is_taken_in_once_when_podman_goes_away_meanwhile(
    shop: Shop, podman: FakePodman
) -> None:
    shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    await shop.ends()
    podman.disconnects["inspect pod"] = 0
    asked: list[str] = []
    inspect_pod = podman.inspect_pod

    async def breaks_off(name: str) -> object:
        asked.append(name)
        if len(asked) == 4:  # the first is taken in, the second is being looked at
            msg = "Podman broke off"
            raise PodmanUnreachableError(msg)
        return await inspect_pod(name)

    podman.inspect_pod = breaks_off  # type: ignore[method-assign, assignment]
    actor = await shop.starts_again()
    await until(lambda: actor.state.failure is not None)
    shop.clock.forward(minutes=1)
    actor.turn()
    await shop.until_stocked(warm=2)
    taken = [actor.take_warm(), actor.take_warm()]
    assert len({one.name for one in taken if one is not None}) == 2


async def test_leases_count_when_the_taking_over_needs_two_tries(
    shop: Shop, podman: FakePodman
) -> None:
    shop.order()
    await shop.until_ready()
    await shop.ends()
    podman.failures["list"] = PodmanUnreachableError("Podman does not answer")
    actor = await shop.starts_again()
    await until(lambda: actor.state.failure is not None)
    held = actor.generation
    assert held is not None, "demos need nothing of what failed"
    del podman.failures["list"]
    shop.clock.forward(minutes=1)
    actor.turn()
    await shop.until_ready()
    assert actor.generation is held


async def test_an_archive_that_is_gone_is_reported_and_not_built_anew_by_itself(shop: Shop) -> None:
    """The controller orders it, maybe elsewhere: other nodes may have the same archive."""
    shop.order()
    await shop.until_ready()
    await shop.ends()
    shop.path.unlink()
    await shop.starts_again()
    await shop.until_phase(NodeCheckpointPhase.QUARANTINED)
    assert "is missing" in shop.ready.message
    await for_a_while()
    assert shop.asked("pull") == []


async def test_what_an_interrupted_build_left_is_no_obstacle(
    shop: Shop, podman: FakePodman
) -> None:
    podman.delay["checkpoint"] = 60
    shop.order()
    await until(lambda: shop.asked("checkpoint"))
    build = shop.sandboxes(Role.BUILD)
    assert build
    killed = shop.registry  # it is not told to stop
    shop.new_agent().seen(shop.kubernetes.find(next(iter(killed)).resource))
    del podman.delay["checkpoint"]
    await until(lambda: build[0] not in podman.containers() or len(shop.asked("checkpoint")) == 2)
    await shop.until_ready()
    await killed.stop()


# -- namesakes -------------------------------------------------------------------------------------


async def test_a_namesake_begins_when_the_one_before_has_ended(
    shop: Shop, podman: FakePodman
) -> None:
    """Both build in a sandbox of the same name."""
    podman.delay["checkpoint"] = 0.3
    shop.order(uid="the-first")
    await until(lambda: shop.asked("checkpoint"))
    shop.order(uid="the-second")
    assert shop.actor.resource.metadata.uid == "the-second"
    podman.delay.clear()
    await shop.until_ready()
    assert len(shop.registry) == 1
    assert shop.sandboxes(Role.BUILD) == []


async def test_an_object_that_vanished_leaves_its_files_to_the_collector(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    shop.registry.gone(actor.resource)
    assert shop.registry.get(actor.resource.key) is None
    await for_a_while()
    assert shop.path.exists()


async def test_news_of_a_namesakes_end_ends_nobody_else(shop: Shop) -> None:
    first = shop.order(uid="the-first").resource
    second = shop.order(uid="the-second")
    shop.registry.gone(first)
    assert shop.registry.get(first.key) is second
