"""Settings: frozen, bounded, and refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from chain_world import ChainWorld
from pydantic import ValidationError

from delegate.backtrack import BacktrackConfig, VectorBacktrack


def test_the_yaml_of_the_docstring_is_valid() -> None:
    text = (BacktrackConfig.__doc__ or "").split("\n\n", 1)[1]
    config = BacktrackConfig(**yaml.safe_load(text)["backtrack"])
    assert config.depths == (1, 4)
    assert config.observe == ("flag", "action", "origin")
    assert BacktrackConfig(**yaml.safe_load(text)["backtrack"]) == config
    assert BacktrackConfig.model_validate_json(config.model_dump_json()) == config


def test_backtracking_has_a_price_unless_said_otherwise() -> None:
    assert BacktrackConfig().cost > 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"depth": 2}, "Extra inputs"),
        ({"depths": ()}, "at least 1"),
        ({"depths": (0,)}, "greater than or equal to 1"),
        ({"depths": (4, 1)}, "must ascend"),
        ({"depths": (1, 1)}, "must ascend"),
        ({"depths": (1.5,)}, "valid integer"),
        ({"depths": (65,)}, "beyond horizon 64; raise horizon"),
        ({"budget": -1}, "greater than or equal to 0"),
        ({"budget": 10**9}, "less than or equal to 1000000"),
        ({"budget": True}, "valid integer"),
        ({"horizon": 0}, "greater than or equal to 1"),
        ({"cost": -0.1}, "greater than or equal to 0"),
        ({"cost": float("nan")}, "finite"),
        ({"cost": float("inf")}, "finite"),
        ({"refund": "half"}, "'sum' or 'discounted'"),
        ({"refund": "discounted"}, "needs gamma"),
        ({"gamma": 0.9}, "refund: discounted only"),
        ({"refund": "discounted", "gamma": 1.5}, "less than or equal to 1"),
        ({"observe": ("flags",)}, "'flag'"),
        ({"observe": ("flag", "flag")}, "twice"),
        ({"time_limit": 0}, "greater than or equal to 1"),
        ({"threshold": 1.0}, "less than 1"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        BacktrackConfig(**settings)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        BacktrackConfig().budget = 9  # type: ignore[misc]


def test_another_autoreset_mode_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="'bogus'; give one of NextStep, SameStep, Disabled"):
        VectorBacktrack(ChainWorld(1), autoreset_mode="bogus")  # type: ignore[arg-type]
