"""A database outside the pod: each demo has its own there, and takes it along when it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.nodes import NODES, LabNodes
from tests.system.notes import on_node, visit
from tests.system.objects import Objects, wait_until
from tests.system.samples import sample
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartedBy

SERVER, DEMOS = NODES
"""The database runs on one node, by hand; the demos on the other."""

NAME = "database-of-somebody"
PASSWORD = "s3cret-of-the-template"
ROOT_PASSWORD = "s3cret-of-the-server"


class Server:
    """The database server, and what is in it."""

    def __init__(self, nodes: LabNodes) -> None:
        self._nodes = nodes

    def names(self, prefix: str) -> list[str]:
        """Databases whose names begin so."""
        return self._ask(f"SHOW DATABASES LIKE '{prefix}%'")

    def may_use(self, account: str) -> list[str]:
        """The databases that an account may use."""
        grantee = f"\\'{account}\\'@\\'%\\'"
        of = f"FROM information_schema.schema_privileges WHERE grantee = '{grantee}'"
        return self._ask(f"SELECT DISTINCT table_schema {of}")

    def accounts(self) -> list[str]:
        """The accounts of demos."""
        return self._ask("SELECT user FROM mysql.user WHERE user LIKE 'demo%'")

    def _ask(self, query: str) -> list[str]:
        told = self._nodes.podman(SERVER, "exec", NAME, "mariadb", "--skip-ssl", "--silent",
                                  "--skip-column-names", f"--execute={query}")  # fmt: skip
        return told.split()


@pytest.fixture(scope="module")
def server(nodes: LabNodes, shop_images: dict[str, str]) -> Iterator[Server]:
    environment = [f"--env=DB_PASSWORD={PASSWORD}", f"--env=DB_ROOT_PASSWORD={ROOT_PASSWORD}"]
    nodes.podman(SERVER, "run", "--detach", "--name", NAME, "--publish=3306:3306", *environment,
                 shop_images["database"])  # fmt: skip
    try:
        yield Server(nodes)
    finally:
        nodes.podman(SERVER, "rm", "--force", "--time=0", NAME)


@pytest.fixture(scope="module")
def shop(
    server: Server, module_objects: Objects, nodes: LabNodes, shop_images: dict[str, str]
) -> Iterator[Checkpoint]:
    spec = sample("external-database.yaml", "Checkpoint", shop_images)["spec"]
    template = spec["template"]
    for container in (*template["initContainers"], *template["containers"]):
        where = next(variable for variable in container["env"] if variable["name"] == "DB_HOST")
        where["value"] = nodes.cluster.node_address(SERVER)
    (rule,) = spec["network"]["egress"]
    assert rule["host"] == "database.example.com"
    address = f"{nodes.cluster.node_address(SERVER)}/32"
    spec["network"]["egress"] = [{"cidr": address, "ports": rule["ports"]}]
    spec["distribution"] = on_node(DEMOS)
    module_objects.secret("database-server", password=PASSWORD, root=ROOT_PASSWORD)
    module_objects.checkpoint("elsewhere", spec)
    yield module_objects.ready_checkpoint("elsewhere", 180)
    assert server.names("checkpointed")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)
    wait_until(
        lambda: server.names("demo") == [] and server.accounts() == [],
        "the demos' databases and accounts to be dropped",
    )


@pytest.mark.usefixtures("shop")
def test_each_demo_has_a_database_of_its_own_as_it_was_at_the_checkpoint(
    server: Server, module_objects: Objects
) -> None:
    for name in ("anna", "ben"):
        module_objects.demo(name, "elsewhere", host=f"{name}.example.com")
    anna, ben = (module_objects.ready_demo(name) for name in ("anna", "ben"))
    assert {anna.status.started_by, ben.status.started_by} == {StartedBy.RESTORE}
    assert len(server.names("demo")) == 2
    assert visit(anna).post("/?lab_order=hers").status_code == 201
    assert visit(anna).get("/?lab_orders=1").json() == ["hers"]
    assert visit(ben).get("/?lab_orders=1").json() == []
    for demo in (anna, ben):
        answer = visit(demo).get("/")
        assert answer.status_code == 200
        assert f"http://{demo.spec.host}/" in answer.text
    own = f"demo_{anna.metadata.uid.replace('-', '_')}"
    assert own in server.names("demo")
    assert server.may_use(own) == [own]
    module_objects.delete(DemoInstance, "anna")
    module_objects.wait_gone(DemoInstance, "anna")
    assert len(server.names("demo")) == 1
    assert own not in server.names("demo")
    assert visit(ben).get("/healthz.php").status_code == 200


@pytest.mark.usefixtures("shop")
def test_a_demo_that_is_started_again_keeps_its_database(
    nodes: LabNodes, module_objects: Objects
) -> None:
    module_objects.demo("dora", "elsewhere", host="dora.example.com")
    dora = module_objects.ready_demo("dora")
    assert visit(dora).post("/?lab_order=kept").status_code == 201
    nodes.podman(DEMOS, "kill", nodes.main_container(dora))
    module_objects.wait(DemoInstance, "dora", lambda demo: demo.status.restarts == 1)
    again = module_objects.ready_demo("dora")
    assert again.status.started_by is StartedBy.RESTART
    assert visit(again).get("/?lab_orders=1").json() == ["kept"]


@pytest.mark.usefixtures("shop")
def test_a_demo_that_starts_cold_has_its_own_as_well(
    server: Server, module_objects: Objects
) -> None:
    module_objects.demo("cold", "elsewhere", host="cold.example.com", start="ColdStart")
    cold = module_objects.ready_demo("cold")
    assert f"demo_{cold.metadata.uid.replace('-', '_')}" in server.names("demo")
    assert "http://cold.example.com/" in visit(cold).get("/").text
