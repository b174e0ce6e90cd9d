"""The mutants stay true to the code: each applies, once, and names checks that exist. (`make mutants` runs them.)"""

import pytest

from tests.mutants.catalogue import MUTANTS, QUICK
from tests.mutants.mutant import ROOT, Mutant


def test_there_are_enough_and_each_has_its_name() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) >= 25
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.path], ids=lambda mutant: mutant.name)
def test_it_applies_once_and_its_checks_exist(mutant: Mutant) -> None:
    assert (ROOT / mutant.path).read_text().count(mutant.old) == 1, f"write mutant {mutant.name} anew: {mutant.path} has changed"
    assert mutant.new != mutant.old
    assert mutant.checks
    for check in mutant.checks:
        files = [word.partition("::")[0] for word in check.command if word.startswith("tests/")]
        assert all((ROOT / file).exists() for file in files), check.name


def test_what_does_not_apply_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("tree")
    (root / "file").write_text("once twice twice")
    assert Mutant("good", "", "file", "once", "never", ()).apply(root) == "once twice twice"
    assert (root / "file").read_text() == "never twice twice"
    for old in ("twice", "absent"):
        with pytest.raises(ValueError, match="it has to be once"):
            Mutant("bad", "", "file", old, "", ()).apply(root)
