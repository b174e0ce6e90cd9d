from tests.cluster.ledger import Holding, Ledger


def ledger(*holdings: tuple[str, float, float | None]) -> Ledger:
    made = Ledger()
    made.holdings = [Holding(address, f"c{number}", "n1", since, until) for number, (address, since, until) in enumerate(holdings)]
    return made


def test_one_after_the_other_is_well() -> None:
    sound = ledger(("10.0.0.1", 0, 1), ("10.0.0.1", 3, None), ("10.0.0.2", 0, None), ("10.0.0.1", 1.5, 2))
    assert sound.check_overlaps() == []
    assert sound.shortest_rest_seconds() == 0.5


def test_two_at_a_time_are_named() -> None:
    (found,) = ledger(("10.0.0.1", 0, 2), ("10.0.0.1", 1, 3)).check_overlaps()
    assert found == "10.0.0.1 held by c0 on n1 from 0.000 to 2.000 and by c1 on n1 from 1.000 to 3.000"


def test_a_long_holding_overlaps_more_than_its_neighbour() -> None:
    assert len(ledger(("10.0.0.1", 0, None), ("10.0.0.1", 1, 2), ("10.0.0.1", 3, 4)).check_overlaps()) == 2
    assert len(ledger(("10.0.0.1", 0, 9), ("10.0.0.1", 1, 2), ("10.0.0.1", 3, 4)).check_overlaps()) == 2


def test_assignment_ends_with_its_release() -> None:
    made = Ledger()
    made.assign("10.0.0.1", "a", "n1")
    made.assign("fd00::1", "a", "n1")
    assert set(made.held()) == {"10.0.0.1", "fd00::1"}
    made.release("a")
    made.assign("10.0.0.1", "b", "n2")
    assert made.check_overlaps() == []
    made.assign("10.0.0.1", "c", "n1")
    assert len(made.check_overlaps()) == 1
    assert made.held()["10.0.0.1"].container == "c"
