"""The committed certificates are of the environments that the study names, one of each verdict."""

from __future__ import annotations

import json

from delegate.run.certificate import certify
from experiments.certify.__main__ import NAMES
from experiments.study.records import EXPERIMENTS


def test_the_result_holds_a_certificate_of_each_and_every_kind() -> None:
    found = json.loads((EXPERIMENTS / "results" / "certify.json").read_text())["certificates"]
    assert len(found) >= 10
    verdicts = {each["verdict"] for each in found}
    assert verdicts == {"exact", "refused"}
    assert {each["codec"] for each in found} >= {"copy", "mujoco", "ale", "rows", None}
    assert sum(each["step"] is not None for each in found) == 1, "the recipe that is wrong"


def test_the_wrong_recipe_is_found_again() -> None:
    found = certify(NAMES[-1], allow_code=True)
    assert (found.verdict, found.field) == ("refused", "state.clock[0]")
