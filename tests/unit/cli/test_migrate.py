"""`migrate`: what is in the way, who restarts in which order, and that a refusal changes nothing. The real thing: tests/system."""

import json
from typing import Any

import pytest

from podcidr.cli.connect import Changed
from podcidr.cli.main import main
from podcidr.cli.workloads import Budget, budget, workloads
from podcidr.core.selectors import LabelSelector
from tests.unit.cli.objects import FakeApi, Object, block, lease, namespace, node, nodecidr, pod, pool

World = dict[str, list[Object]]
ANNOTATE = "kubectl annotate namespace default --overwrite podcidr.io/pools="
DRAINED = {"type": "Drained", "status": "True", "reason": "Empty", "message": ""}


class Recorder(FakeApi):
    """A cluster whose pools can be disabled."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world
        self.conflicts = 0

    def workload_pods(self) -> list[Object]:
        return self.world.get("pods", [])

    def all_of(self, path: str) -> list[Object]:
        assert path.endswith("/poddisruptionbudgets")
        return self.world.get("budgets", [])

    def get(self, path: str) -> Object | None:
        for kind in ("replicasets", "ippools"):
            if f"/{kind}/" in path:
                return next((item for item in self.world.get(kind, []) if path.endswith(f"/{item['metadata']['name']}")), None)
        return super().get(path)

    def merge(self, path: str, body: Object) -> Object | None:
        found = self.get(path)
        assert found
        if self.conflicts:
            self.conflicts -= 1
            raise Changed("the object has been modified")
        found["spec"].update(body["spec"])
        return found


def of_deployment(name: str, address: str, app: str) -> Object:
    owner = {"kind": "ReplicaSet", "name": f"{app}-5d", "controller": True}
    return pod(name, "n1", address, labels={"app": app}, ownerReferences=[owner])


def two_pools() -> World:
    """Node n1 has a block of old with two pods."""
    return {
        "ippools": [pool("old", "10.64.0.0/24", priority=1), pool("new", "10.80.0.0/24")],
        "nodes": [node("n1")],
        "nodecidrs": [nodecidr("n1", {"10.64.0.0/28": 2}, pool="old")],
        "ipblocks": [block("10.64.0.0/28", "n1", pool="old")],
        "pods": [of_deployment("web-1", "10.64.0.2", "web"), pod("bare", "n1", "10.64.0.3"), pod("other", "n1", "10.80.0.2")],
        "replicasets": [{"metadata": {"name": "web-5d", "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": True}]}}],
        "namespaces": [namespace("default")],
        "leases": [lease()],
    }


Result = tuple[int, Any]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], api: object, *words: str) -> Result:
    monkeypatch.setattr("podcidr.cli.migrate.connect", lambda: api)
    status = main(["migrate", "pool", "old", "--to=new", "--wait-seconds=0", *words, "-o", "json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else captured.err


def test_it_disables_and_lists_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = two_pools()
    status, found = run(monkeypatch, capsys, Recorder(world), "--yes")
    assert (status, found["stage"], world["ippools"][0]["spec"]["disabled"]) == (1, "Draining", True)
    assert found["progress"] == {
        "pods": 2,
        "addressesInUse": 2,
        "addressesCooling": 0,
        "blocks": 1,
        "blocksResting": 0,
        "nodes": ["n1"],
        "drained": False,
    }
    assert [(one["kind"], one["name"], one["commands"]) for one in found["workloads"]] == [
        ("Deployment", "web", ["kubectl -n default rollout restart deployment/web"]),
        ("", "bare", ["kubectl -n default delete pod bare"]),
    ]


def test_a_dry_run_changes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = two_pools()
    status, found = run(monkeypatch, capsys, Recorder(world), "--dry-run", "--yes")
    assert (status, found["stage"], found["obstacles"]) == (0, "Ready", [])
    assert "disabled" not in world["ippools"][0]["spec"]


def test_it_goes_on_where_it_was_broken_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = two_pools()
    world["ippools"][0]["spec"]["disabled"] = True
    status, found = run(monkeypatch, capsys, Recorder(world))  # nothing is asked: nothing is changed any more
    assert (status, found["stage"]) == (1, "Draining")


def test_it_ends_when_the_pool_is_drained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    drained = pool("old", "10.64.0.0/24", disabled=True, conditions=[DRAINED])
    world = two_pools() | {"ippools": [drained, pool("new", "10.80.0.0/24")], "ipblocks": [], "nodecidrs": [], "pods": []}
    assert run(monkeypatch, capsys, Recorder(world))[1]["stage"] == "Drained"
    world["ipblocks"] = [block("10.64.0.0/28", "n1", pool="old", state="Quarantined")]
    assert run(monkeypatch, capsys, Recorder(world))[1]["stage"] == "Draining", "a condition of before does not outweigh a block"


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"new": {"disabled": True}}, "pool new is disabled", "correct pool new"),
        ({"new": {"allocation": "Pinned"}}, "pool new is Pinned, pool old Automatic", "set spec.allocation of pool new"),
        ({"new": {"nodeSelector": {"matchLabels": {"a": "b"}}}}, "nodes with blocks of pool old are not selected", "widen"),
        ({"new": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}, "no automatic pool selects namespace default", "let spec"),
        ({"old": {"ipv6": {"cidrs": ["fd00::/64"]}}}, "pool new has no ipv6: restarted pods would lose theirs", "add ipv6 to pool new"),
        ({"namespace": "old"}, "namespace default pins pool old", f"{ANNOTATE}'new'"),
        ({"namespace": "gold,old"}, "namespace default pins pool old", f"{ANNOTATE}'gold,new'"),
        ({"used": 300}, "pool new has 253 free addresses of ipv4, and 300 of pool old are in use", "append a CIDR to pool new"),
        ({"pin": "old"}, 'pod default/web-1 pins pool "old", which its namespace does not allow', "put new in the place of old"),
    ],
)  # fmt: skip
def test_what_stops_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: dict[str, Any], what: str, remedy: str
) -> None:
    world = two_pools()
    world["ippools"] += [pool("gold", "10.90.0.0/24", allocation="Pinned")]
    for spec, name in zip(world["ippools"], ("old", "new"), strict=False):
        spec["spec"] |= change.get(name, {})
    if "namespace" in change:
        world["namespaces"] = [namespace("default", change["namespace"])]
    if "used" in change:
        world["nodecidrs"] = [nodecidr("n1", {"10.64.0.0/28": change["used"]}, pool="old")]
    if "pin" in change:
        world["pods"][0]["metadata"]["annotations"] = {"podcidr.io/pools": change["pin"]}
    status, found = run(monkeypatch, capsys, Recorder(world), "--yes")
    assert (status, found["stage"]) == (1, "Refused")
    stopping = [one for one in found["obstacles"] if one["stops"]]
    assert any(one["what"].startswith(what) and one["remedy"].startswith(remedy) for one in stopping), stopping
    assert "disabled" not in world["ippools"][0]["spec"]


def test_a_pool_over_the_old_space_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = two_pools()
    world["ippools"][1] = pool("new", "10.64.0.0/24", accepted=[], conditions=[])
    obstacle = run(monkeypatch, capsys, Recorder(world), "--yes")[1]["obstacles"][0]
    assert obstacle["what"].startswith("no CIDR of pool new is accepted")
    assert "needs space of its own" in obstacle["remedy"]


def test_nobody_leads_is_a_note(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run(monkeypatch, capsys, Recorder(two_pools() | {"leases": []}), "--dry-run")
    assert (status, found["stage"], [one["stops"] for one in found["obstacles"]]) == (0, "Ready", [False])


def test_counts_written_meanwhile_do_not_stop_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = two_pools()
    for item in world["ippools"]:
        item["metadata"]["resourceVersion"] = "5"
    api = Recorder(world)
    api.conflicts = 2
    assert run(monkeypatch, capsys, api, "--yes")[1]["stage"] == "Draining"
    world["ippools"][0]["spec"].pop("disabled")
    api.conflicts = 9
    status, complaint = run(monkeypatch, capsys, api, "--yes")
    assert (status, "run the command again" in complaint) == (1, True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["pool", "old", "--to=old"], "is the pool to move from"),
        (["pool", "nope", "--to=new"], "no such pool: nope"),
        (["node", "a", "--to=b"], "'node' is not"),
    ],
)
def test_wrong_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str) -> None:
    monkeypatch.setattr("podcidr.cli.migrate.connect", lambda: Recorder(two_pools()))
    assert main(["migrate", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_what_cools_down_is_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = two_pools()
    for found in world["nodecidrs"]:
        for counted in found["status"]["blocks"]:
            counted |= {"inUse": 0, "cooling": 3}
    blocks = sum(len(found["spec"]["blocks"]) for found in world["nodecidrs"])
    monkeypatch.setattr("podcidr.cli.migrate.connect", lambda: Recorder(world))
    assert main(["migrate", "pool", "old", "--to=new", "--yes", "--wait-seconds=0"]) == 1
    assert f"0 addresses in use and {3 * blocks} cooling down" in capsys.readouterr().out


def test_ctrl_c_still_prints_the_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("podcidr.cli.migrate.connect", lambda: Recorder(two_pools()))
    monkeypatch.setattr("podcidr.cli.migrate.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(["migrate", "pool", "old", "--to=new", "--yes", "-o", "json"])
    assert json.loads(capsys.readouterr().out)["stage"] == "Draining"


def test_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("podcidr.cli.migrate.connect", lambda: Recorder(two_pools()))
    assert main(["migrate", "pool", "old", "--to=new", "--yes", "--wait-seconds=0"]) == 1
    out = capsys.readouterr().out
    assert "1. Deployment default/web: 1 pods\n       kubectl -n default rollout restart deployment/web" in out
    assert out.splitlines()[-1].startswith("migrate: pool old: 2 addresses in use and 0 cooling down on 1 node; 1 blocks left")


# order and commands


def pods_of(*labels: str) -> list[Object]:
    return [pod(f"{label}-{number}", "n1", labels={"app": label}) for label in labels for number in range(2)]


def guard(app: str, allowed: int) -> Budget:
    return Budget("default", f"pdb-{app}", LabelSelector.parse({"matchLabels": {"app": app}}), allowed)


def test_order_is_by_budgets() -> None:
    owner = {"free": "Deployment", "two": "StatefulSet", "five": "Deployment", "none": "Deployment", "alone": ""}

    def owner_of(obj: Object) -> tuple[str, str]:
        app = obj["metadata"]["labels"]["app"]
        return owner[app], app if owner[app] else ""

    found = workloads(pods_of(*owner), owner_of, [guard("two", 2), guard("five", 5), guard("none", 0)])
    assert [one.name for one in found] == ["free", "five", "two", "none", "alone-0"]
    assert found[3].note == "PodDisruptionBudget pdb-none allows none now: wait until it does (kubectl get poddisruptionbudgets -A)"
    assert found[4].note == "nothing makes it again: create it anew yourself"
    assert found[2].commands == ("kubectl -n default rollout restart statefulset/two",)


def test_pods_under_a_budget_are_evicted() -> None:
    found = workloads(pods_of("a"), lambda _: ("Rollout", "a"), [guard("a", 1)])
    (first, _) = found[0].commands
    assert first.endswith("| kubectl create --raw /api/v1/namespaces/default/pods/a-0/eviction -f -")
    assert json.loads(first.split("'")[1]) == {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a-0"}}


def test_a_budget_without_a_selector_guards_nobody() -> None:
    meta = {"namespace": "default", "name": "x"}
    assert not budget({"metadata": meta, "spec": {}}).covers(pods_of("a")[0])
    assert budget({"metadata": meta, "spec": {"selector": {}}}).covers(pods_of("a")[0])
    assert not budget({"metadata": {**meta, "namespace": "b"}, "spec": {"selector": {}}}).covers(pods_of("a")[0])
