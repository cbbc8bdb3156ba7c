"""What the study of recalled traces on MuJoCo runs."""

from __future__ import annotations

from typing import Any

from recall_mujoco_runs import Arm, Run

STEPS = {"trpo": 1_000_000, "sac": 100_000}
TASKS = {
    "trpo": ("HalfCheetah-v5", "Walker2d-v5", "Hopper-v5", "Ant-v5"),
    "sac": ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"),
}
SEEDS = {"trpo": (1, 2, 3, 4, 5), "sac": (0, 1, 2)}
"""0 of TRPO was looked at while its settings were sought"""
PLAIN = Arm(name="none")
ABLATED = ("Hopper-v5", "Walker2d-v5")
"""tasks of the random and the forward model"""
LENGTHS = (5, 10, 20, 50)
"""of traces, beside that of `recall`"""
CONTROLLED = "Hopper-v5"
"""task of the lengths and of the other controls: on the tuning seeds recall helped there"""
TUNING_SEEDS = tuple(range(1000, 1007))
TUNING_STEPS, SHORT_STEPS = 200_000, 30_000
"""of TRPO and of SAC"""
PAPER: dict[str, Any] = {"length": 20, "count": 64, "model_updates": 20}
"""traces to the best states of the best trajectories, imitated all alike by one small step"""
OFTEN: dict[str, Any] = {"every": 1_000, "model_updates": 40, "max_divergence": 0.1}
"""of SAC: settings of recall"""
OFTENNESS, RATIO_STEPS = (250, 1_000, 4_000), 40_000
STEP_STEPS = 50_000
"""of SAC while the length of its steps is sought"""
RECALLED = 5_120
"""steps, each time"""
NETWORKS: dict[str, Any] = {"learn_action_variance": True, "state_variance_from_input": True}


def of(algorithm: str, *arms: Arm, tasks: tuple[str, ...] = ()) -> list[Run]:
    """Those arms on those tasks, all unless said otherwise, seed by seed."""
    return [
        Run(algorithm=algorithm, task=task, arm=arm, seed=seed, steps=STEPS[algorithm])
        for seed in SEEDS[algorithm]
        for task in tasks or TASKS[algorithm]
        for arm in arms
    ]


def recall(name: str, networks: dict[str, Any] = NETWORKS, **settings: Any) -> Arm:
    """Recalled traces from a learned model with those settings."""
    return Arm(name=name, recall=settings, networks=networks)


def credited(length: int = 5, **changes: Any) -> dict[str, Any]:
    """Settings for traces to any recent state, each step weighted by what it gained, and a step
    of the policy of half the divergence of TRPO's own (on HalfCheetah an eighth)."""
    return {
        "length": length,
        "count": RECALLED // length,
        "imitation_batch": RECALLED,
        "optimiser": "natural",
        "max_divergence": 0.005,
        "weighting": "advantage",
        "trajectories": 1.0,
        "states": 1.0,
        "targets": 1.0,
        "buffer_size": 10_240,
        "model_updates": 10,
        **changes,
    }


FAST = NETWORKS | {"learning_rate": 3e-3}
GENTLE: dict[str, Any] = {
    "length": 2,
    "gae_lambda": 0.95,
    "max_divergence": 0.002,
    "adaptive": True,
}
"""of one and two steps two were the better on the tuning seeds"""
FIXED: dict[str, Any] = {"adaptive": False}
EARLIER: dict[str, Any] = {"gae_lambda": 0.9, "model_updates": 20, "mean_changes": True}
"""beside a divergence, while all steps were of one length"""


def exacter(name: str, **changes: Any) -> Arm:
    """What `credited` says but in smaller steps, shorter still where the last ones gained little,
    with a model that learns faster, and its mean changes: in drawn ones what an action did
    drowns."""
    settings = GENTLE | {"mean_changes": True, "model_updates": 15} | changes
    return recall(name, FAST, **credited(**settings))


RECALL = exacter("recall")


def remembered(**changes: Any) -> Arm:
    """What truly led there instead of what a model recalls."""
    settings = credited(model="remembered", **changes)
    of_a_model = ("states", "model_updates")
    kept = {name: value for name, value in settings.items() if name not in of_a_model}
    return Arm(name="remembered", recall=kept)


def trpo() -> list[Run]:
    """With and without recall; then what other models and lengths give."""
    ablations = (exacter(kind, model=kind) for kind in ("random", "forward"))
    lengths = (exacter(f"length {length}", length=length) for length in LENGTHS)
    return [
        *of("trpo", PLAIN, RECALL),
        *of("trpo", *ablations, tasks=ABLATED),
        *of(
            "trpo",
            *lengths,
            remembered(**GENTLE),
            recall("paper", **PAPER),
            recall("defaults", {}, length=20, count=64),
            tasks=(CONTROLLED,),
        ),
    ]


def tuning_strength() -> list[Run]:
    """How long a step of the policy may be, while all were of one length."""
    arms = (
        recall(f"exacter, {nats} nats", FAST, **credited(max_divergence=nats, **EARLIER))
        for nats in (0.001, 0.002)
    )
    return tuning(PLAIN, *arms)


def tuning_length() -> list[Run]:
    """How far back, once steps are as long as they have earned, credited as TRPO does (lambda
    0.95) or trusting the critic sooner."""
    return tuning(
        PLAIN,
        exacter("length 1", length=1),
        exacter("length 2"),
        exacter("length 2, lambda 0.5", gae_lambda=0.5),
    )


def tuning(*arms: Arm) -> list[Run]:
    """Those arms of TRPO on the tuning seeds."""
    return [
        Run(algorithm="trpo", task=task, arm=arm, seed=seed, steps=TUNING_STEPS)
        for arm in arms
        for seed in TUNING_SEEDS
        for task in TASKS["trpo"][:3]
    ]


def sac() -> list[Run]:
    """With and without recall, as the search on HalfCheetah found it, and that on Hopper."""
    return of("sac", PLAIN, stepped("recall"), stepped("recall, 0.02 nats", max_divergence=0.02))


def sac_ratio() -> list[Run]:
    """How often to recall, and how far back."""
    arms = (
        stepped(
            f"every {every}, length {length}", every=every, length=length, count=2_048 // length
        )
        for every in OFTENNESS
        for length in (2, 20)
    )
    return [
        run.model_copy(update={"steps": RATIO_STEPS})
        for run in of("sac", PLAIN, *arms, tasks=TASKS["sac"][:1])
    ]


def tuning_sac() -> list[Run]:
    """The search for SAC: what is followed."""
    arms = (PLAIN, best("best"), stepped("credited"))
    return [
        Run(algorithm="sac", task=TASKS["sac"][0], arm=arm, seed=seed, steps=SHORT_STEPS)
        for seed in TUNING_SEEDS[:4]
        for arm in arms
    ]


def tuning_sac_step() -> list[Run]:
    """How long a step of SAC's policy may be on Hopper, where 0.1 nats lost."""
    arms = (PLAIN, *(stepped(f"{nats} nats", max_divergence=nats) for nats in (0.1, 0.02)))
    return [
        Run(algorithm="sac", task="Hopper-v5", arm=arm, seed=seed, steps=STEP_STEPS)
        for seed in TUNING_SEEDS[:4]
        for arm in arms
    ]


def best(name: str, **changes: Any) -> Arm:
    """The paper's traces to the best states, all alike, and a natural step towards them."""
    return recall(name, FAST, **(PAPER | OFTEN | {"optimiser": "natural"} | changes))


def stepped(name: str, **changes: Any) -> Arm:
    """What `exacter` says of TRPO, for SAC: of fewer steps."""
    settings: dict[str, Any] = {"count": 1_024, "imitation_batch": 2_048, "buffer_size": 20_000}
    return exacter(name, **(FIXED | settings | OFTEN | changes))


PLANS = {
    "trpo": trpo,
    "sac": sac,
    "sac_ratio": sac_ratio,
    "tune_strength": tuning_strength,
    "tune_length": tuning_length,
    "tune_sac": tuning_sac,
    "tune_sac_step": tuning_sac_step,
}
