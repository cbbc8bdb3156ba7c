"""Settings that cannot be: one line that names whose they are, what was given, what would do."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from delegate.settings import LONGEST, checked, known, nearest


class Lamp(BaseModel):
    """lamp: {watts: 5, colours: [red], place: [0.0, 1.0]}"""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    watts: int = Field(5, ge=1)
    colours: tuple[Literal["red", "green"], ...] = ("red",)
    size: float | Literal["fits"] = "fits"
    maker: str = Field(default="none")

    @model_validator(mode="after")
    def _red_is_weak(self) -> Lamp:
        if self.colours == ("red",) and self.watts > 100:
            raise ValueError("red lamps have at most 100 watts")
        return self


class Owned(Lamp):
    owner: str


def test_what_is_right_is_taken() -> None:
    assert checked("lamp", Lamp, {"watts": 7}).watts == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"wats": 7},
            'lamp: setting "wats" is not known; did you mean "watts"? There are: watts, ',
        ),
        ({"WATTS": 7}, 'did you mean "watts"'),
        ({"watts": 0}, "lamp: watts is 0; give at least 1"),
        ({"watts": 0.7}, "lamp: watts is 0.7; give a whole number"),
        ({"colours": ("red", "blue")}, "lamp: colours[1] is 'blue'; give 'red' or 'green'"),
        ({"size": "big"}, "lamp: size is 'big'; give a number, or give 'fits'"),
        ({"watts": 200}, "lamp: red lamps have at most 100 watts"),
        ({"maker": ["x" * 500]}, "lamp: maker is ['xxxx"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        checked("lamp", Lamp, given)
    told = str(caught.value)
    assert told.startswith(message) or message in told
    assert len(told.splitlines()) == 1
    assert len(told) < 120 + LONGEST


def test_a_setting_that_is_missing() -> None:
    with pytest.raises(ValueError, match=r"^lamp: owner is missing; give it$"):
        checked("lamp", Owned, {})


def test_names_that_are_accepted_elsewhere_are_suggested() -> None:
    with pytest.raises(ValueError, match='did you mean "rows"'):
        checked("lamp", Lamp, {"row": 3}, also=("rows",))
    with pytest.raises(ValueError, match='setting "rows" is not known'):
        checked("lamp", Lamp, {"rows": 3}, also=("rows",))


def test_names() -> None:
    assert known("lamp", "a", ["a", "b"]) == "a"
    with pytest.raises(ValueError, match="there are none, so leave it out"):
        known("lamp", "a", [])
    assert nearest("CARTPOLE", ["Corner", "CartPole-v1"]) == "CartPole-v1"
    assert nearest("Corner", ["CartPole-v1"], alike=0.8) is None
