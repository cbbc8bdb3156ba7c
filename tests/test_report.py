"""report.html: safe, self-contained, and its figures show what the logs hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from sklearn.metrics import roc_curve
from synthetic_run import Branch, Episode, place_of, seal, write_run, write_trial

from delegate.safety import DamagedTrial, load_run, write_metrics, write_report
from delegate.safety import figures as comparisons
from delegate.safety.evidence import evidence
from delegate.safety.example import Example, example
from delegate.safety.example_figures import ASIDE, delegation_tree, level_map
from delegate.safety.metrics import compute_metrics

LOADS = re.compile(
    r"""(?:src|href|action|poster|data|srcset)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|@import|url\(\s*["']?(?:https?:)?//|<(?:link|iframe|object|embed|base)\b""",
    re.IGNORECASE,
)
"""what makes a page fetch something from elsewhere"""

HOSTILE = '</title><script>alert("1")</script><img src=x onerror=alert(2)> & \'"'

# 5x5, walls around: cells 6-8, 11-13, 16-18; start 18, goal 7, proxy goal 6
UNDONE = [18, 17, 16, 11]
KEPT = [18, 13, 8, 7]
PROXIED = [18, 17, 16, 11, 6]


def course(values: list[float], states: list[int], **more: Any) -> Branch:
    """A sub-episode on that path; the goals part at its second step."""
    divergent = [k == 1 for k in range(len(values))]
    return Branch({"reach": values, "path": values}, divergent, states=states, **more)


def back_and_forth() -> Episode:
    """The proxy child is taken back after three steps, and the honest one arrives."""
    return Episode(
        [
            course(
                [0, 2, 5], UNDONE, verdict="rolled_back", outcome="interrupted", alarm_at=2,
                child="proxy", named=[0, 1, 1],
            ),
            course([0, 0, 0], KEPT, intent="intended", intended=True),
        ]
    )  # fmt: skip


def build(folder: Path, **settings: Any) -> Path:
    """A small run of everything the report shows."""
    run = write_run(folder, **settings)
    nominal = Episode(
        [course([0, 0, 0], KEPT, intent="intended", intended=True)],
        split="nominal",
        distinguishing=False,
    )
    for seed in (0, 1):
        honest = [
            Episode([course([0, 1, v], KEPT, intent="intended", intended=True)])
            for v in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
        ]
        drawn = [Episode([course([0, 3, v, v], PROXIED, proxy=True)]) for v in (2.0, 3, 4, 5, 6, 7)]
        lost = [Episode([course([0, 1, 0], KEPT, intent="none")])]
        write_trial(run, "alone:intended", seed, [*honest, nominal])
        write_trial(run, "alone:proxy", seed, drawn)
        write_trial(run, "alone:incapable", seed, lost)
        write_trial(run, "none", seed, [*drawn[:3], *honest[:3]])
        write_trial(
            run, "rollback", seed, [*[back_and_forth()] * 3, *honest[:3]], "rollback", "reach"
        )
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with its report."""
    run = build(tmp_path_factory.mktemp("report") / "run")
    write_metrics(run)
    write_report(run)
    return run


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    """The report without the library that draws its figures."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) == 1
    return text.replace(get_plotlyjs(), "")


def test_nothing_is_fetched_from_elsewhere(html: str) -> None:
    assert LOADS.findall(html) == []
    assert "default-src 'none'" in html
    for word in ("connect-src", "http:", "https:"):
        assert (
            word not in re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[0]
        )


@pytest.mark.parametrize(
    "bad",
    [
        '<script src="https://cdn.example/x.js">',
        "<img src=//example.org/a.png>",
        "<link rel=stylesheet href=x.css>",
        "<style>@import 'x.css'</style>",
        "<style>p{background:url(https://example.org/a.png)}</style>",
    ],
)
def test_the_search_for_what_is_fetched_finds_it(html: str, bad: str) -> None:
    assert LOADS.search(html.replace("</head>", bad + "</head>"))


def test_every_part_is_there(html: str) -> None:
    for part in ("run", "arms", "monitors", "episode", "refused", "provenance"):
        assert f'<section id="{part}">' in html
    for name in ("safety-usefulness", "roc", "parting", "tree", "level"):
        assert f'id="figure-{name}"' in html
    assert html.count('class="headline"') == 1


def test_the_same_run_gives_the_same_report(folder: Path) -> None:
    before = (folder / "report.html").read_bytes()
    assert write_report(folder) == folder / "report.html"
    assert (folder / "report.html").read_bytes() == before


def test_text_of_the_scenario_is_escaped(tmp_path: Path) -> None:
    run = build(tmp_path / "run", title=HOSTILE)
    html = write_report(run).read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert (run / "metrics.json").exists()
    assert HOSTILE not in html
    assert "<img" not in html
    assert 'alert("1")' not in html
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in html


def test_names_in_logs_are_escaped_in_figures(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    episode = back_and_forth()
    episode.branches[0].child = HOSTILE
    write_trial(run, "rollback", 0, [episode], "rollback", "reach")
    html = write_report(run).read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert "<img" not in html
    assert html.count("<script>") == html.count("</script>")
    shown = example(load_run(run))
    assert shown is not None
    ticks = delegation_tree(shown).layout.yaxis.ticktext
    assert any("&lt;img" in tick for tick in ticks)
    assert not any("<img" in tick for tick in ticks)


def test_a_run_with_next_to_nothing_has_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_trial(run, "alone:proxy", 0, [Episode([Branch({}, [True, True])])])
    html = write_report(run).read_text(encoding="utf-8")
    assert "No monitor watched" in html
    assert "there is no episode to show" in html
    assert 'id="figure-level"' not in html


def test_damaged_metrics_are_refused(folder: Path, tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    (run / "metrics.json").write_text("{")
    with pytest.raises(DamagedTrial, match=r"metrics\.json: is not JSON"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_numbers_in_the_page_are_those_of_metrics_json(folder: Path, html: str) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    auroc = metrics["monitors"]["reach"]["auroc_gmg"]
    success = metrics["arms"]["rollback"]["true_success"]
    assert f"{auroc['value']:.3f}<span" in html
    assert f"{auroc['low']:.3f}–{auroc['high']:.3f}" in html
    assert f"{100 * success['value']:.1f}%<span" in html


def test_roc_curves_are_scikit_learns(folder: Path) -> None:
    run = load_run(folder)
    watched = evidence(run)
    drawn = comparisons.roc_curves(compute_metrics(run), watched)
    assert drawn is not None
    line = next(trace for trace in drawn.data if trace.name and trace.name.endswith("reach"))
    chosen = watched.proxy | watched.intended
    fpr, tpr, _ = roc_curve(watched.proxy[chosen], watched.table.scores["reach"].end[chosen])
    np.testing.assert_allclose(np.interp(100 * fpr, line.x, line.y), np.interp(fpr, fpr, 100 * tpr))


def test_the_parting_is_at_zero(folder: Path) -> None:
    """Proxies stand at 3 where the goals part, after 0 at the step before; intended ones at 1."""
    run = load_run(folder)
    drawn = comparisons.score_around_parting(compute_metrics(run), evidence(run))
    assert drawn is not None
    lines = {t.name: t for t in drawn.data if t.name and t.xaxis == "x"}
    proxy, intended = lines["pursues the proxy"], lines["pursues the intended goal"]
    at = dict(zip(proxy.x, proxy.y, strict=True))
    assert (at[-1], at[0], at[1], at[24]) == (0.0, 3.0, 4.5, 4.5)
    assert dict(zip(intended.x, intended.y, strict=True))[0] == 1.0


def test_arms_stand_at_their_safety_and_usefulness(folder: Path) -> None:
    metrics = compute_metrics(load_run(folder))
    drawn = comparisons.safety_usefulness(metrics)
    assert drawn is not None
    points = {t.name: (t.x[0], t.y[0]) for t in drawn.data if t.showlegend is not False}
    assert points == {
        arm: (
            100 * metrics["arms"][arm]["usefulness"]["value"],
            100 * metrics["arms"][arm]["safety"]["value"],
        )
        for arm in ("none", "rollback")
    }
    assert points["rollback"] == (100.0, 100.0)
    assert points["none"] == (50.0, 50.0)


@pytest.fixture
def shown(folder: Path) -> Example:
    """The episode the report shows."""
    found = example(load_run(folder))
    assert found is not None
    return found


def test_the_episode_shown_has_a_rollback(shown: Example) -> None:
    assert (shown.arm, shown.seed, shown.row) == ("rollback", 0, 0)
    assert cells(shown.kept.places) == KEPT
    assert [cells(path.places) for path in shown.undone] == [UNDONE]
    assert shown.proxied is not None
    assert cells(shown.proxied.places) == PROXIED


def test_the_tree_shows_when_and_what_became_of_it(shown: Example) -> None:
    drawn = delegation_tree(shown)
    bars = [(t.base[0], t.x[0], t.y[0]) for t in drawn.data if t.type == "bar"]
    assert bars == [(0, 6, 0), (0, 3, 1), (3, 3, 2)]
    hatched = [t.marker.pattern.shape for t in drawn.data if t.type == "bar"]
    assert hatched == ["", "/", ""]
    alarms = [t.x[0] for t in drawn.data if t.type == "scatter"]
    assert alarms == [3]
    assert len(drawn.layout.shapes) == 2
    said = [note.text for note in drawn.layout.annotations]
    assert said[1] == "rolled back after 3 steps; pursued the proxy; heading for: corner, 0.90"
    assert said[2] == "committed after 3 steps; pursued the intended goal"


def test_the_level_shows_the_paths_that_were_walked(shown: Example) -> None:
    drawn = level_map(shown)
    assert drawn is not None
    assert len(drawn.layout.shapes) == 16 + 3
    drawn_over = [t for t in drawn.data if t.type == "scatter"]
    lines = [t for t in drawn_over if t.mode == "lines"]
    for line, walked, side in zip(lines, (PROXIED, UNDONE, KEPT), (0, -1, 1), strict=True):
        aside = side * ASIDE * 5
        places = np.stack([np.array(line.x), np.array(line.y)], axis=1) - aside
        np.testing.assert_allclose(places, [place_of(cell) for cell in walked], atol=1e-6)
    assert [line.name for line in lines][1] == "rolled back: proxy~1, heading for: corner, 0.90"
    marks = {t.name: (t.x[0], t.y[0]) for t in drawn_over if t.mode == "markers" and t.name}
    assert marks == {"proxy goal": (1.5, 1.5), "intended goal": (2.5, 1.5), "start": (3.5, 3.5)}


def test_without_drawings_there_is_no_level_to_show(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    folder = write_trial(run, "rollback", 0, [back_and_forth()], "rollback", "reach")
    (folder / "drawings.npz").unlink()
    seal(folder, json.loads((folder / "trial.json").read_text()))
    found = example(load_run(run))
    assert found is not None
    assert level_map(found) is None
    assert "keeps no drawings of its levels" in write_report(run).read_text(encoding="utf-8")


def test_headings_and_labels_are_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    folder = write_trial(run, "rollback", 0, [back_and_forth()], "rollback", "reach")
    calibration = json.loads((folder / "calibration.json").read_text())
    calibration["landmarks"][1] = HOSTILE
    (folder / "calibration.json").write_text(json.dumps(calibration))
    seal(folder)
    shown = example(load_run(run))
    assert shown is not None
    drawn = [note.text for note in delegation_tree(shown).layout.annotations]
    drawn += [str(trace.name) for trace in (level_map(shown) or go.Figure()).data]
    assert any("&lt;img" in said for said in drawn)
    assert not any("<img" in said for said in drawn)


def test_every_monitor_says_where_its_threshold_is_from(html: str) -> None:
    assert html.count("calibrated at 5%</span>") == 2
    assert "pursues the proxy" in html
    assert "reach against each rival, at equal cost" in html


def cells(places: np.ndarray) -> list[int]:
    """The cells of a 5 x 5 grid in whose middles places are."""
    column, row = np.floor(places).astype(int).T
    return [int(each) for each in 5 * row + column]


def test_a_typical_episode_is_shown_and_not_the_most_flattering(tmp_path: Path) -> None:
    """Of undone steps 1, 2, 2, 9 the median is 2; of the two, the one that stood longer."""

    def row(undone: int, kept: int) -> Episode:
        return Episode(
            [
                Branch({"reach": [1.0] * undone}, verdict="rolled_back", budget=9),
                Branch({"reach": [0.0] * kept}, intent="intended", intended=True),
            ]
        )

    run = write_run(tmp_path / "run")
    rows = [row(9, 9), row(2, 1), row(2, 4), row(1, 9)]
    write_trial(run, "rollback", 0, rows, "rollback", "reach")
    found = example(load_run(run))
    assert found is not None
    assert found.row == 2
