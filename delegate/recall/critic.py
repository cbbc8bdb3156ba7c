"""Reachability learned from pairs: a contrastive critic, for worlds whose states are vectors."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delegate.recall.config import CriticConfig
from delegate.recall.goals import GoalTable
from delegate.recall.model import Array
from delegate.recall.pairs import PairBatch, Pairs
from delegate.recall.reachability import Reachability
from delegate.recall.saving import Saveable, adam, training_state
from delegate.recall.variables import Normaliser, mlp
from delegate.settings import checked

Layers = list[tuple[Array, Array]]
"""weight float64 [in, out] and bias float64 [out] of each layer"""


class LearnedReachability(Reachability, Saveable):
    """log h by a critic f(s, g) = log h_g(s) + c(g), with a head for each λ.

    The critic tells pairs (state k steps before, goal state), k geometric in λ, from pairs with
    states of the reference at random: its best answer is the log of B_g(s) / μ(s), up to c(g).
    Then log h_g(s) = min(0, f(s, g) - f(g, g)). Of several examples of a goal it takes the
    weighted logsumexp. Coordinates of an infinite scale do not count for goals.

        reach = LearnedReachability(bank.goals, columns, discounts=(0.9, 0.97), seed=0)
        reach.fit(RememberedPairs(states, episodes))

    table: goals as float states · goals: int [L, K] those of each level, -1 after the last
    config: settings; `settings` replaces single ones · seed: of weights and batches
    It learns of one layout: levels may differ by where they begin, and by which goal is meant.
    Raises ValueError for settings that do not fit, and for a table of finite states.
    Source: InfoNCE, van den Oord et al. 2018 (arXiv 1807.03748), symmetric and with the penalty of
    Eysenbach et al. 2022 (arXiv 2206.07568).
    """

    def __init__(
        self,
        table: GoalTable,
        goals: Array,
        config: CriticConfig | None = None,
        *,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        settings = {**({} if config is None else config.model_dump()), **settings}
        self.config = checked(type(self).__name__, CriticConfig, settings)
        self.discounts = self.config.discounts
        self._heads = np.arange(len(self.discounts))
        self._bound(table, goals)
        self._seen = np.isfinite(self._scale(table))
        self._rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(self._rng.integers(2**63)))
        widths = (*self.config.hidden, len(self.discounts) * self.config.width)
        self._normaliser = Normaliser(len(self._seen))
        self._towers = {
            "state": mlp((len(self._seen), *widths), nn.ReLU, generator),
            "goal": mlp((int(self._seen.sum()), *widths), nn.ReLU, generator),
        }
        self.networks = nn.ModuleDict({"seen": self._normaliser, **self._towers})
        self.optimizer = adam(self.networks, self.config.learning_rate)
        self._known: dict[Any, Any] = {}

    def fit(self, pairs: Pairs) -> Array:
        """Train on `config.updates` batches of pairs, on one thread.

        Observes the scale of the states first where nothing was observed yet.
        returns float64 [updates], the loss of each (nats, mean over λ)
        Raises ValueError for states of another length, FloatingPointError where the loss is not
        finite.
        """
        if pairs.states.shape[1] != len(self._seen):
            raise ValueError(
                f"states have {pairs.states.shape[1]} coordinates and goals {len(self._seen)}; "
                "give pairs of the world that the goals are of"
            )
        if not self._normaliser.get_buffer("count"):
            self._normaliser.observe(pairs.states)
        self._known.clear()
        losses, updates = np.zeros(self.config.updates), self.config.updates
        with _one_thread():
            for update in range(updates):
                share = 0.5 * (1 + math.cos(math.pi * update / updates))
                self.optimizer.param_groups[0]["lr"] = share * self.config.learning_rate
                batch = pairs.draw(self.config.discounts, self.config.batch, self._rng)
                loss = self._loss(batch)
                losses[update] = loss.item()
                if not math.isfinite(losses[update]):
                    raise FloatingPointError(
                        f"update {update}: the loss is {losses[update]}; lower learning_rate "
                        f"{self.config.learning_rate}"
                    )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return losses

    def log_h(self, level: Array, goals: Array | None, state: Array) -> Array:
        """See Reachability. In double precision, rounded to single: products of matrices round by
        the rows beside them."""
        self._check(level)
        state = np.asarray(state, np.float64)
        if state.ndim != 2 or state.shape != (len(level), len(self._seen)):
            raise ValueError(
                f"state has shape {state.shape}; give [{len(level)}, {len(self._seen)}]"
            )
        goals = self.goals[level] if goals is None else np.asarray(goals)
        if goals.size and (wrong := (goals < -1) | (goals >= self._table.count)).any():
            raise IndexError(
                f"goal {int(goals[wrong][0])} is not there; give 0 to {self._table.count - 1}"
            )
        _, at_goal = self._embedded()
        found = np.minimum(self._critic(state) - at_goal, 0.0)[..., self._heads]
        found = np.take_along_axis(found, np.maximum(goals, 0)[..., None], axis=1)
        return np.where(goals[..., None] < 0, 0.0, found).astype(np.float32)

    def near(self, level: Array, goals: Array | None, goal: Array) -> Array:
        """See Reachability: those that share an example with `goal`, by `reached`; a step of a
        vector is too short to count."""
        self._check(level)
        goals = self.goals[level] if goals is None else np.asarray(goals)
        if "near" not in self._own:
            self._own["near"] = self._table.alike()
        there = self._own["near"][goal[:, None], np.maximum(goals, 0)]
        return np.asarray((goals >= 0) & there)

    def at(self, discounts: tuple[float, ...], goals: Array | None = None) -> LearnedReachability:
        """See Reachability. Raises ValueError for a λ that it has no head for."""
        for discount in discounts:
            if discount not in self.config.discounts:
                raise ValueError(
                    f"discount {discount} was not learned; give some of {self.config.discounts}, "
                    "or name it in the critic's discounts and fit it again"
                )
        if not discounts:
            raise ValueError("discounts is empty; give one or more")
        other = copy.copy(self)
        other.discounts = tuple(discounts)
        other._heads = np.array([self.config.discounts.index(each) for each in discounts])
        if goals is not None:
            other._bound(self._table, goals)
        return other

    def of(self, table: GoalTable, goals: Array) -> LearnedReachability:
        """The same critic for another bank of the world. Arrays as at first; raises ValueError
        where other coordinates count."""
        if not np.array_equal(np.isfinite(self._scale(table)), self._seen):
            raise ValueError("other coordinates count in these goals; fit a critic to them")
        other = copy.copy(self)
        other._bound(table, goals)
        return other

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state_dict)
        self._known.clear()

    def _loss(self, batch: PairBatch) -> Tensor:
        """Mean over λ: for each goal which state came before it, among those of the reference;
        for each state which goal came after it, among those of the batch."""
        state = self._own_heads(self._tower("state", batch.state))
        goal = self._own_heads(self._tower("goal", batch.goal[..., self._seen]))
        others = self._tower("state", batch.others).transpose(0, 1)
        paired = (state * goal).sum(-1)
        before = torch.cat([paired[..., None], goal @ others.mT], -1)
        spread = torch.logsumexp(before, -1)
        after = goal @ state.mT
        loss = (spread - paired).mean() + (torch.logsumexp(after, 1) - paired).mean()
        return loss / 2 + self.config.penalty * spread.square().mean()

    def _tower(self, name: str, value: Array) -> Tensor:
        """What all heads make of states, or of what is seen of goals: [..., Λ, width]."""
        found = self._towers[name](torch.from_numpy(self._normalised(name, value)).float())
        return found.unflatten(-1, (len(self.config.discounts), -1))

    @staticmethod
    def _own_heads(found: Tensor) -> Tensor:
        """[Λ, B, Λ, width] -> [Λ, B, width], each discount by its own head."""
        every = torch.arange(len(found))
        return found[every, :, every]

    def _normalised(self, name: str, value: Array) -> Array:
        which = self._seen if name == "goal" else slice(None)
        mean, scale = (self._normaliser.get_buffer(part).numpy() for part in ("mean", "scale"))
        return np.asarray((value - mean[which]) / scale[which])

    def _critic(self, state: Array) -> Array:
        """f of all goals and heads, float64 [N, G, Λ]. state: float [N, d]"""
        goal, _ = self._embedded()
        of_state = self._forward("state", state).transpose(1, 0, 2)
        found = (of_state @ goal).transpose(1, 2, 0) + np.log(self._table.weight)[:, None]
        if self._table.count == len(self._table.state):
            return np.asarray(found)
        return np.logaddexp.reduceat(found, self._table.first[:-1], axis=1)

    def _embedded(self) -> tuple[Array, Array]:
        """Embeddings of all examples, by head [Λ, width, M], and f(g, g) of all goals [G, Λ]."""
        if "goal" not in self._own:
            table = self._table
            embedded = self._forward("goal", table.state[:, self._seen])
            self._own["goal"] = embedded.transpose(1, 2, 0)
            of_goal = np.repeat(np.arange(table.count), np.diff(table.first))
            own = self._critic(table.state)[np.arange(len(of_goal)), of_goal]
            own += np.log(table.weight)[:, None]
            self._own["at_goal"] = np.logaddexp.reduceat(own, table.first[:-1], axis=0)
        return self._own["goal"], self._own.get("at_goal", np.zeros(0))

    def _forward(self, name: str, value: Array) -> Array:
        """What `_tower` gives, in double precision: float64 [N, Λ, width]."""
        found, layers = self._normalised(name, value), self._layers(name)
        for weight, bias in layers[:-1]:
            found = np.maximum(found @ weight + bias, 0.0)
        weight, bias = layers[-1]
        return (found @ weight + bias).reshape(len(value), len(self.config.discounts), -1)

    def _layers(self, name: str) -> Layers:
        if name not in self._known:
            flat = [
                part.detach().numpy().astype(np.float64) for part in self._towers[name].parameters()
            ]
            self._known[name] = [
                (weight.T, bias) for weight, bias in zip(flat[::2], flat[1::2], strict=True)
            ]
        return self._known[name]

    @property
    def _own(self) -> dict[str, Any]:
        """What is remembered of this table of goals until the critic learns more."""
        return self._known.setdefault(id(self._table), {"table": self._table})

    def _bound(self, table: GoalTable, goals: Array) -> None:
        goals = np.asarray(goals, np.int32)
        if goals.ndim != 2 or (goals.size and not -1 <= goals.min() <= goals.max() < table.count):
            raise ValueError(
                f"goals has shape {goals.shape}; give numbers below {table.count}, or -1, as "
                "[levels, goals]"
            )
        self._table, self.goals = table, goals

    def _check(self, level: Array) -> None:
        if level.size and not 0 <= level.min() <= level.max() < len(self.goals):
            raise IndexError(f"a level is not there; give 0 to {len(self.goals) - 1}")

    @staticmethod
    def _scale(table: GoalTable) -> Array:
        if table.scale is None or not np.isfinite(table.scale).any():
            raise ValueError(
                "goals of a critic are float states with a scale, finite in some coordinate; for "
                "a finite world use ExactReachability or RecalledReachability"
            )
        return table.scale

    def _description(self) -> dict[str, Any]:
        seen = {"coordinates": self._seen.tolist()}
        return {"class": type(self).__name__, **seen, **self.config.model_dump(mode="json")}

    def _live(self) -> dict[str, Tensor]:
        return training_state("networks", self.networks, self.optimizer)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums come out the same however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
