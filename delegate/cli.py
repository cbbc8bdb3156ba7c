"""The command line: run a scenario, check it, read its report, replay what happened."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from delegate.files import shown

# What computes (numpy, torch, the worlds) or checks scenarios is imported by the commands that
# need it, so that `delegate --help` answers at once.

app = typer.Typer(
    name="delegate",
    help="Hand work to child agents, watch them, take the work back, and measure what that is "
    "worth.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

REFUSED = 1
BAD_INPUT = 2
INTERRUPTED = 130
MAX_WORKERS = 256

ScenarioFile = Annotated[
    Path, typer.Argument(metavar="SCENARIO", help="the scenario, a YAML file", show_default=False)
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="the folder of a run", show_default=False)
]


class Listable(StrEnum):
    """What `delegate list` can show."""

    envs = "envs"
    policies = "policies"
    monitors = "monitors"
    protocols = "protocols"
    scenarios = "scenarios"


class Refusal(ValueError):
    """The command cannot do what was asked; the message says why and what would help."""


@app.command()
def run(
    scenario: ScenarioFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="where the run goes; runs/<name> if left out"),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=MAX_WORKERS, help="trials run at once, each in a process")
    ] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a run: redo what is missing or damaged")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1_000, help="how many seeds, instead of the scenario's")
    ] = None,
) -> None:
    """Run every arm of a scenario on every seed and write metrics.json and report.html."""
    from delegate import run as engine
    from delegate.terminal import progress

    plan = engine.load_scenario(scenario)
    folder = out if out is not None else Path("runs") / plan.name
    try:
        engine.check_place(folder, resume)
        with progress() as advance:
            folder = engine.execute(
                plan,
                source=scenario,
                out=folder,
                workers=workers,
                resume=resume,
                seeds=seeds,
                progress=advance,
            )
        _write_report(folder)
    except KeyboardInterrupt:
        words = ["delegate", "run", str(scenario), "--out", str(folder), "--resume"]
        words += [] if workers == 1 else ["--workers", str(workers)]
        words += [] if seeds is None else ["--seeds", str(seeds)]
        _complain(f"stopped; go on with: {shlex.join(words)}")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except engine.BadPlace as error:
        raise Refusal(f"--out {error}") from error
    except OSError as error:
        raise Refusal(
            f"--out {shown(folder)}: cannot be written ({_reason(error)}); name a folder that can"
        ) from error


@app.command()
def validate(scenario: ScenarioFile) -> None:
    """Check a scenario without running it."""
    from delegate import run as engine

    plan = engine.load_scenario(scenario)
    print(
        f"{shown(scenario)}: valid: {plan.name}, world {plan.world.id}, "
        f"{len(plan.children)} children, {len(plan.monitors)} monitors, {len(plan.arms)} arms, "
        f"{len(plan.seeds)} seeds"
    )


@app.command()
def report(run: RunFolder) -> None:
    """Write metrics.json and report.html of a run anew, from its logs alone."""
    _write_report(run)


@app.command()
def replay(
    run: RunFolder,
    sub_episode: Annotated[
        str | None,
        typer.Option(
            "--sub-episode",
            metavar="ID",
            help="<arm>/<seed>/<row>.<number>, as in rollback/0/217.2; without it, some are listed",
        ),
    ] = None,
    gif: Annotated[
        Path | None, typer.Option("--gif", metavar="FILE", help="write an animated GIF instead")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.5, max=50, help="steps shown in a second")] = 12.0,
) -> None:
    """Show one sub-episode again, in the terminal or as a GIF."""
    from rich.console import Console

    from delegate import replay as replays

    if sub_episode is None:
        if gif is not None:
            raise Refusal("--gif needs --sub-episode; `delegate replay RUN` lists some")
        print("\n".join(replays.sub_episode_ids(run)))
        return
    played = replays.load(run, sub_episode)
    if gif is None:
        replays.show(played, Console(), frames_per_second=fps)
        return
    from delegate.replay_gif import write_gif

    write_gif(played, gif, frames_per_second=fps)
    print(gif)


@app.command()
def certify(
    env: Annotated[
        str,
        typer.Argument(
            metavar="ENV",
            help="a world of ours (Corner, Hopper-v5), a Gymnasium id (CartPole-v1, "
            "minigrid:MiniGrid-DoorKey-5x5-v0), or module:Callable",
            show_default=False,
        ),
    ],
    steps: Annotated[int, typer.Option(min=60, max=100_000, help="steps that are replayed")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="of resets and actions")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object instead of text")
    ] = False,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code", help="import from the working folder and call module:Callable"
        ),
    ] = False,
) -> None:
    """Play an environment, restore it and play again: exact, or what is lost and when it shows.

    The exit status is 0 if it is exact, 1 if it is refused, 2 if it cannot be made.
    """
    from delegate import run as engine
    from delegate.terminal import print_facts

    found = engine.certify(env, steps, seed, allow_code)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
    else:
        print_facts(*engine.in_words(found))
    if not found.exact:
        raise typer.Exit(REFUSED)


@app.command("list")
def list_names(
    kind: Annotated[Listable, typer.Argument(help="what to list", show_default=False)],
) -> None:
    """Show the names a scenario may use, each with one line on what it is."""
    from delegate import run as engine

    names = engine.listed(kind.value)
    width = max((len(name) for name in names), default=0)
    for name, text in names.items():
        print(f"{name:<{width}}  {text}".rstrip())


@app.command()
def schema() -> None:
    """Print the JSON Schema of the scenario YAML, for editors."""
    from delegate import run as engine
    from delegate.scenario import json_schema

    print(json.dumps(json_schema(engine.registries()), indent=2))


@app.command()
def bench(
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object instead of tables")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="grid, delegation, peers, going-back, restoring, recall; all if none",
        ),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="a MuJoCo task; five if left out")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=4096, help="environments in a batch")] = 64,
    threads: Annotated[int, typer.Option(min=1, max=256, help="threads of the physics")] = 2,
    rounds: Annotated[int, typer.Option(min=1, max=1_000, help="runs of each contestant")] = 5,
    seconds: Annotated[float, typer.Option(min=0.001, max=60, help="length of a run")] = 0.4,
    pairs: Annotated[int, typer.Option(min=1, max=10_000, help="runs behind each share")] = 40,
    horizon: Annotated[int, typer.Option(min=1, max=100_000, help="steps kept to go back")] = 64,
    levels: Annotated[
        int, typer.Option(min=2, max=100_000, help="levels of the delegation, a row each")
    ] = 2_048,
) -> None:
    """Measure how fast the worlds step and go back, beside their peers in the same process."""
    from delegate import bench as benchmark
    from delegate.terminal import print_table, progress

    settings = benchmark.Settings(
        parts=tuple(only or benchmark.PARTS),
        tasks=tuple(task or benchmark.TASKS),
        rows=rows,
        threads=threads,
        rounds=rounds,
        seconds=seconds,
        pairs=pairs,
        horizon=horizon,
        levels=levels,
    )
    try:
        with progress() as advance:
            record = benchmark.measure(settings, advance)
    except ValueError as error:
        raise Refusal(str(error)) from error
    if as_json:
        print(json.dumps(record, indent=2))
        return
    for title, table in benchmark.tables(record):
        print(title)
        print_table(table)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"delegate {version('delegate')}")
        raise typer.Exit()


@app.callback()
def root(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="print the version and exit"
        ),
    ] = False,
) -> None:
    """Options of every command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 where a certificate is refused, 2 for bad
    input, 130 when interrupted.

    arguments: as in sys.argv[1:], which is taken when left out
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        status = app(words or ["--help"], prog_name="delegate", standalone_mode=False)
    except KeyboardInterrupt:
        _complain("stopped")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not flush into the void.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{shown(Path(str(error.filename)))}: " if error.filename else ""
        _complain(f"{where}{_reason(error)}; name a place that can be read and written")
        return BAD_INPUT
    except _USAGE_ERROR as error:
        message = " ".join(error.format_message().replace("Value error, ", "").split())
        _complain(f"{message.rstrip(',.')} (see `{_command_of(error)} --help`)")
        return BAD_INPUT
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        _complain(str(error))
        return BAD_INPUT
    return status if isinstance(status, int) else 0


# Typer has its own copy of click in some versions and does not name this class in any.
_USAGE_ERROR = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


def _command_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "delegate"


def _expected() -> tuple[type[Exception], ...]:
    """Errors that are the input's fault and say so themselves.

    One can only have been raised if its module is loaded, so nothing is loaded to look.
    """
    named = (
        ("delegate.scenario.document", "ScenarioError"),
        ("delegate.run.certificate", "CannotBeMade"),
        ("delegate.store", "RunError"),
        ("delegate.replay", "UnknownSubEpisode"),
        ("delegate.safety.logs", "DamagedTrial"),
    )
    loaded = [getattr(sys.modules[module], name) for module, name in named if module in sys.modules]
    return (Refusal, *loaded)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _complain(message: str) -> None:
    """At most two lines on stderr."""
    print("\n".join(message.strip().splitlines()[:2]), file=sys.stderr)


def _write_report(folder: Path) -> None:
    """Metrics and report of a run folder, then the summary and where the report lies."""
    from delegate.safety.logs import load_run
    from delegate.safety.metrics import write_metrics
    from delegate.safety.report import write_report
    from delegate.safety.summary import monitor_rows, summary_rows
    from delegate.terminal import print_table

    run = load_run(folder)
    metrics = write_metrics(folder, run)
    path = write_report(folder, run)
    print_table(summary_rows(metrics))
    print_table(monitor_rows(metrics))
    print(f"report: {path}")


if __name__ == "__main__":
    raise SystemExit(main())
