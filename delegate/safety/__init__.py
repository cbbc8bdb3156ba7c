"""What a run was worth: metrics and a report, from its logs alone."""

from delegate.safety.logs import DamagedTrial, Run, Trial, load_run, load_trial, verify_trial
from delegate.safety.metrics import compute_metrics, write_metrics
from delegate.safety.report import write_report
from delegate.safety.summary import headline, monitor_rows, ranked_monitors, summary_rows

__all__ = [
    "DamagedTrial",
    "Run",
    "Trial",
    "compute_metrics",
    "headline",
    "load_run",
    "load_trial",
    "monitor_rows",
    "ranked_monitors",
    "summary_rows",
    "verify_trial",
    "write_metrics",
    "write_report",
]
