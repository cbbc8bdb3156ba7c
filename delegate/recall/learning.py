"""What all learned models of transitions share: networks, normalisers, training, saving."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from delegate.recall import saving
from delegate.recall.codes import action_code, state_code
from delegate.recall.config import RecallModelConfig
from delegate.recall.encoding import Encoded, among, mean_density
from delegate.recall.networks import Mlp, Parameters, mlp_shapes
from delegate.recall.normaliser import Normaliser
from delegate.recall.transitions import (
    Transitions,
    checked_column,
    checked_conditions,
    checked_space,
    checked_transitions,
    space_size,
)
from delegate.settings import checked

_ENCODED_AT_ONCE = 1 << 25
"""numbers that `fit` holds ready for the networks; bounds its memory to 128 MiB, twice"""
_BATCHES_AT_ONCE = 64
"""that `fit` draws at most"""

_SCORED_AT_ONCE = 1 << 16
"""rows that `log_prob` holds at a time"""
_OVERFLOW = 1e9
"""nats above which a step would spoil the moments of the optimiser, or the networks"""

Rng = np.random.Generator | int | None


class TransitionModel:
    """A model of one state of a transition given the other and the action.

    Two networks, as in Recall Traces (arXiv 1804.00379): one says what action was taken, seeing
    the known state, the anchor (tanh); one what the other state is, seeing the action too (ReLU).
    Goals, layouts and the members of an ensemble are those of the settings.

    state_space, action_space: Box of one dimension, or Discrete from 0
    config: settings; `settings` replaces single ones
    seed: of the first weights, and of everything drawn where no rng is given
    Raises TypeError for another space, ValueError for settings that do not fit.
    """

    _backwards: ClassVar[bool] = True
    """the anchor is the later state"""
    _learns_actions: ClassVar[bool] = True
    _log_uniform = 0.0
    """log density of actions that are drawn at random"""

    def __init__(
        self,
        state_space: gymnasium.Space,
        action_space: gymnasium.Space,
        config: RecallModelConfig | None = None,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self.state_space = checked_space("state_space", state_space)
        self.action_space = checked_space("action_space", action_space)
        given = {} if config is None else config.model_dump()
        self.config = checked(type(self).__name__, RecallModelConfig, {**given, **settings})
        self.device = torch.device(device)
        self._rng = np.random.default_rng(seed)
        self._observed = False
        self._states = state_code(self.state_space, self.config, self.device)
        self._actions = action_code(self.action_space, self.config, self.device)
        self._goals = Normaliser(self.config.goal_size, self.device)
        self._normalisers = {
            **self._states.normalisers,
            **self._actions.normalisers,
            "goal": self._goals,
        }
        self._build()

    def _build(self) -> None:
        members, hidden = self.config.members, self.config.hidden
        state, action = self._states, self._actions
        self._context = state.width + self.config.goal_size + self.config.layout_size
        widths = {"state": (self._context + action.width, *hidden, state.head.width)}
        shapes = state.head.shapes()
        if self._learns_actions:
            widths["action"] = (self._context, *hidden, action.head.width)
            shapes |= action.head.shapes()
        for name, layers in widths.items():
            shapes |= mlp_shapes(name, members, layers)
        self._parameters = Parameters(shapes, self.device)
        generator = torch.Generator().manual_seed(int(self._rng.integers(2**63)))
        self._state_network = Mlp("state", self._parameters, "relu", generator)
        state.head.bind(self._parameters)
        if self._learns_actions:
            self._action_network = Mlp("action", self._parameters, "tanh", generator)
            action.head.bind(self._parameters)

    def observe(
        self,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        goal: np.ndarray | None = None,
        layout: np.ndarray | None = None,
    ) -> None:
        """Update the running means and deviations by which everything is normalised.

        Arrays as in Transitions. Do it before training on them: what the networks have
        learned is in the units of then.
        """
        self._observe(self._checked(Transitions(state, action, next_state, goal, layout)))

    def _observe(self, seen: Transitions) -> None:
        self._states.observe(*self._anchor_and_other(seen))
        self._actions.observe(seen.action)
        if seen.goal is not None:
            self._goals.observe(seen.goal)
        self._observed = True

    def update(self, batch: Transitions) -> float:
        """One step of the optimiser; returns the mean over rows and members of -log density
        before it (nats, in the units of the data). `observe` first.

        Raises ValueError or IndexError for transitions that cannot be learned from,
        FloatingPointError where the density overflows; the model is then as it was.
        """
        encoded = self._encode(self._checked_batch(batch))
        return self._step(encoded.for_all(self.config.members))

    def fit(
        self, transitions: Transitions, steps: int, batch_size: int = 256, rng: Rng = None
    ) -> np.ndarray:
        """Train on batches drawn with replacement, for each member its own.

        Observes the transitions first where nothing was observed yet. rng: the model's own
        stream where left out.
        returns float64 [steps], what `update` returns; raises what it raises, before the first
        step where transitions cannot be learned from
        """
        for name, given, least in (("steps", steps, 0), ("batch_size", batch_size, 1)):
            if given < least:
                raise ValueError(f"{name} is {given}; give {least} or more")
        transitions = self._checked_batch(transitions)
        rng = self._stream(rng)
        if not self._observed:
            self._observe(transitions)
        batches = self._batches(transitions, steps, batch_size, rng)
        return np.array([self._step(batch) for batch in batches], np.float64)

    def _batches(
        self, transitions: Transitions, steps: int, size: int, rng: np.random.Generator
    ) -> Iterator[Encoded]:
        """As many, drawn and encoded many at a time."""
        members, width = self.config.members, self._context + self._actions.width
        room = _ENCODED_AT_ONCE // width
        at_once = min(max(1, room // (members * size)), _BATCHES_AT_ONCE)
        once = len(transitions) <= min(room, steps * members * size)
        whole = self._encode(transitions) if once else None
        for first in range(0, steps, at_once):
            shape = (min(at_once, steps - first), members, size)
            rows = rng.integers(len(transitions), size=shape)
            if whole is not None:
                drawn = whole.take(torch.from_numpy(rows).to(self.device))
            else:
                drawn = self._encode(transitions.take(rows.ravel())).split(shape)
            yield from drawn

    @torch.no_grad()
    def _step(self, encoded: Encoded) -> float:
        head = self._states.head
        layers = self._state_network.forward(encoded.inputs)
        loss, gradient = head.loss(among(layers[-1], encoded.choices), encoded.state)
        self._state_network.backward(layers, gradient)
        if self._learns_actions:
            del layers, gradient  # what follows has room in the cache then
            layers = self._action_network.forward(encoded.inputs[..., : self._context])
            of_action, gradient = self._actions.head.loss(layers[-1], encoded.action)
            self._action_network.backward(layers, gradient)
            loss = loss + of_action
        nll = float(loss) / self.config.members
        if not abs(nll) < _OVERFLOW:
            raise FloatingPointError(
                f"the mean of -log density is {nll}; observe transitions of this range, leave out "
                f"those far from all others, or lower learning_rate {self.config.learning_rate}"
            )
        self._parameters.descend(self.config.learning_rate)
        head.keep_in_bounds()
        if self._learns_actions:
            self._actions.head.keep_in_bounds()
        return nll + self._log_volume - self._log_uniform

    @property
    def _log_volume(self) -> float:
        return self._states.log_volume + (self._actions.log_volume if self._learns_actions else 0.0)

    def _log_prob(self, seen: Transitions) -> np.ndarray:
        seen = self._checked(seen)
        found = [
            self._log_density(self._encode(seen.take(slice(first, first + _SCORED_AT_ONCE))))
            for first in range(0, len(seen), _SCORED_AT_ONCE)
        ]
        return torch.cat(found).cpu().numpy() if found else np.zeros(0)

    @torch.no_grad()
    def _log_density(self, encoded: Encoded) -> Tensor:
        """log of the members' mean density, float64 [B], in units of the data."""
        members = self.config.members
        inputs = encoded.inputs.expand(members, -1, -1)
        outputs = among(self._state_network.forward(inputs)[-1], encoded.choices)
        log_prob = self._state_log_prob(outputs, encoded.state)
        if self._learns_actions:
            outputs = self._action_network.forward(inputs[..., : self._context])[-1]
            log_prob = log_prob + self._actions.head.log_prob(outputs, encoded.action)
        return mean_density(log_prob) - self._log_volume

    def _state_log_prob(self, outputs: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            return self._states.head.log_prob(outputs, target)
        log_prob = self._states.head.log_prob(outputs, target.clamp(min=0))
        return log_prob.masked_fill(target < 0, -math.inf)

    def _draw_state(
        self,
        anchor: Tensor,
        context: Tensor,
        action: Tensor,
        member: Tensor,
        generator: torch.Generator,
        mean: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Other states [R, ...] and their log density [M, R], normalised units."""
        code = self._states
        inputs = torch.cat([context, self._actions.features(action)], 1)
        inputs = inputs.expand(self.config.members, *inputs.shape)
        outputs = among(self._state_network.forward(inputs)[-1], code.choices(anchor))
        drawn = code.settled(code.head.draw(outputs, member, generator, mean))
        return code.reach(anchor, drawn), code.head.log_prob(outputs, drawn[None])

    def _starts(
        self,
        name: str,
        states: np.ndarray,
        count: int,
        goal: np.ndarray | None,
        layout: np.ndarray | None,
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        """States, goals and layouts as tensors, each `count` times."""
        if count < 0:
            raise ValueError(f"count is {count} traces; give 0 or more")
        states = checked_column(name, states, self.state_space, None)
        goals, layouts = (
            None if part is None else part.repeat_interleave(count, 0)
            for part in map(self._given, checked_conditions(goal, layout, len(states), self.config))
        )
        starts = torch.tensor(states, device=self.device).repeat_interleave(count, 0)
        return (starts.float() if starts.is_floating_point() else starts), (goals, layouts)

    def _encode(self, seen: Transitions) -> Encoded:
        columns = (*self._anchor_and_other(seen), seen.action)
        anchor, other, action = (torch.tensor(column, device=self.device) for column in columns)
        context = self._seen(anchor, self._given(seen.goal), self._given(seen.layout))
        inputs = torch.cat([context, self._actions.features(action)], 1)
        choices = self._states.choices(anchor)
        return Encoded(
            inputs[None],
            self._actions.target(action)[None],
            self._states.target(anchor, other)[None],
            None if choices is None else choices[None],
        )

    def _anchor_and_other(self, seen: Transitions) -> tuple[np.ndarray, np.ndarray]:
        pair = seen.next_state, seen.state
        return pair if self._backwards else pair[::-1]

    def _given(self, vectors: np.ndarray | None) -> Tensor | None:
        return None if vectors is None else torch.tensor(vectors, device=self.device).float()

    def _seen(self, anchor: Tensor, goal: Tensor | None, layout: Tensor | None) -> Tensor:
        """What both networks see, float32 [B, context]."""
        parts = [self._states.features(anchor, layout)]
        if goal is not None:
            parts.append(self._goals.normalise(goal))
        if layout is not None:
            parts.append(layout)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _checked(self, given: Transitions) -> Transitions:
        return checked_transitions(given, self.state_space, self.action_space, self.config)

    def _checked_batch(self, given: Transitions) -> Transitions:
        """Transitions that can be learned from."""
        checked = self._checked(given)
        if not len(checked):
            raise ValueError("there are no transitions; give one at least")
        self._states.check(*self._anchor_and_other(checked))
        return checked

    def _stream(self, rng: Rng) -> np.random.Generator:
        return self._rng if rng is None else np.random.default_rng(rng)

    def _generator(self, rng: Rng) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(int(self._stream(rng).integers(2**63)))

    def _description(self) -> dict[str, Any]:
        spaces = {"state_space": self.state_space, "action_space": self.action_space}
        sizes = {name: space_size(space) for name, space in spaces.items()}
        return {"model": type(self).__name__, **sizes, **self.config.model_dump(mode="json")}

    def _tensors(self) -> dict[str, Tensor]:
        return {
            **{f"parameter {name}": value for name, value in self._parameters.values.items()},
            **{f"optimiser {name}": value for name, value in self._parameters.moments.items()},
            **{
                f"normaliser {name} {part}": torch.as_tensor(
                    getattr(kept, part), dtype=torch.float64
                )
                for name, kept in self._normalisers.items()
                for part in ("count", "mean", "m2")
            },
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all that learning changes, by name, and where the random stream stands."""
        stream = json.dumps([self._observed, self._rng.bit_generator.state]).encode()
        tensors = {name: tensor.cpu().clone() for name, tensor in self._tensors().items()}
        return {**tensors, "stream": torch.tensor(list(stream), dtype=torch.uint8)}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave. Raises ValueError for other names or shapes; this one
        is then as it was."""
        mine = self._tensors()
        for name in sorted(mine.keys() | (saved.keys() - {"stream"})):
            shapes = [tuple(s[name].shape) if name in s else None for s in (saved, mine)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"{name} has shape {shapes[0]}, and here {shapes[1]}; train anew")
        observed, stream = json.loads(bytes(saved["stream"].tolist()))
        self._become(saving.stream_from("the saved model", stream), observed, saved)

    def save(self, path: str | Path) -> None:
        """Write all there is to a file, whole or not at all: networks, optimiser, normalisers
        and the state of the random stream, so that training goes on as if never stopped."""
        stream = {"observed": self._observed, "rng": self._rng.bit_generator.state}
        saving.write(Path(path), self._description(), stream, self._tensors())

    def load(self, path: str | Path) -> None:
        """Become the model that was saved there.

        Raises FileNotFoundError, or ValueError where the file is not one of `save` or of a model
        with other settings, spaces or shapes; this one is then as it was.
        """
        stream, tensors = saving.read(Path(path), self._description(), self._tensors())
        rng = saving.stream_from(path, stream.get("rng", {}))
        if not isinstance(observed := stream.get("observed"), bool):
            raise ValueError(f"{path} does not say whether anything was observed; train anew")
        self._become(rng, observed, tensors)

    def _become(self, rng: np.random.Generator, observed: bool, tensors: dict[str, Tensor]) -> None:
        self._rng, self._observed = rng, observed
        for name, tensor in self._tensors().items():
            if not name.startswith("normaliser"):
                tensor.copy_(tensors[name])
        for name, kept in self._normalisers.items():
            count, mean, m2 = (
                tensors[f"normaliser {name} {part}"].numpy() for part in ("count", "mean", "m2")
            )
            kept.set(float(count), mean.copy(), m2.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        # The tensors are views of one vector, which copying one by one would tear apart.
        made = type(self), self.state_space, self.action_space, self.config, self.device
        tensors = {name: tensor.clone() for name, tensor in self._tensors().items()}
        return _remade, (*made, self._rng, self._observed, tensors)


def _remade(
    kind: type[TransitionModel],
    state_space: gymnasium.Space,
    action_space: gymnasium.Space,
    config: RecallModelConfig,
    device: torch.device,
    rng: np.random.Generator,
    observed: bool,
    tensors: dict[str, Tensor],
) -> TransitionModel:
    """A copy, which learns on by itself."""
    model = kind(state_space, action_space, config, device=device)
    model._become(rng, observed, tensors)
    return model
