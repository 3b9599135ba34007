"""The data files hold the rows that were promised, and rows fit to train on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.core.contract import section
from harness.facts.preflight import PreflightFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.seed("vastai-training-agent.md", "rule 3")
@pytest.mark.remedy(
    "mend lines that do not parse, add what is missing, or state the true numbers in [data] of the job file, "
    "then: harness run {job}"
)
def check_dataset_counts(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The data files hold exactly the rows that the training log must state."""
    evidence.wants("log line", job.data.demanded_line)
    wanted = evidence.wants("rows", job.data.counts)
    counts = evidence.saw("rows", preflight.counts)
    uncounted = "; lines that are no rows are not counted: see dataset_rows_parse"
    assert counts == wanted, (
        f"{_added_up(job, counts)}; the log must say {' and '.join(map(str, job.data.rows.values()))}"
        + (uncounted if preflight.unreadable_rows.get() else "")
    )


@pytest.mark.seed("vastai-training-agent.md", "rule 3")
@pytest.mark.remedy(
    "put your own files into the data directory of package.source, or say allow_built_rows = true in [data] of the job "
    "file when this is a rehearsal, then: harness run {job}"
)
def check_dataset_is_yours(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """No row to be trained on was made by a program in place of your data, unless the job file allows it."""
    allowed = evidence.wants("allow_built_rows", job.data.allow_built_rows)
    built = evidence.saw("rows that say built_by", preflight.built_rows)
    files = ", ".join(f"{count} in {name}" for name, count in built.items())
    assert allowed or not built, f"these rows are not your data, the package built them: {files}"


@pytest.mark.remedy("mend or remove the lines named above in the data files of package.source, then: harness run {job}")
def check_dataset_rows_parse(preflight: PreflightFacts, evidence: Evidence) -> None:
    """Every line of the data files parses and fits its schema; none is skipped in silence."""
    unreadable = evidence.saw("lines that are no rows", preflight.unreadable_rows)
    assert not unreadable, f"lines that are no rows {section('Data')}: " + "; ".join(unreadable)


@pytest.mark.remedy(
    "mend the rows named above in the data files of package.source, or what generates them; a rule that does not apply "
    "to this data goes into data.ignored_rules of the job file; then: harness run {job}"
)
def check_dataset_rows_sound(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The rows hold no unrendered values, told outcomes, damage, repeats, contradictions or time travel."""
    evidence.wants("share of repeated rows at most", job.data.max_duplicate_share)
    evidence.wants("share of the largest class at most", job.data.max_class_share)
    evidence.wants("share of rows with suspect words at most", job.data.max_flawed_share)
    unsound = evidence.saw("unsound rows", preflight.unsound_rows)
    evidence.saw("suspect rows within the limit", preflight.suspect_rows)
    assert not unsound, "a model would learn these: " + "; ".join(unsound)


@pytest.mark.remedy(
    "fetch the tokenizer if it was not found, else shorten the rows or raise model.max_length (memory grows with it); "
    "then: harness run {job}"
)
def check_dataset_fits_context(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """Few enough rows are cut off by the model's context, counted with the tokenizer that trains."""
    limit = evidence.wants("share of rows cut at most", job.data.max_cut_share)
    evidence.wants("tokens a row at most", job.model.max_length)
    context = evidence.saw("context", preflight.context)
    assert context.share <= limit, (
        f"{context.cut} of {context.rows} rows ({context.share:.1%}) lose their end at {job.model.max_length} tokens"
    )


def _added_up(job: Job, counts: Mapping[str, int]) -> str:
    """Rows of each kind and each trainer's sum: ``8 features + 3 scenarios = 11 SFT rows and 2 pairs``."""
    told = []
    for trainer, total in job.data.by_trainer(counts).items():
        kinds = [f"{counts.get(kind, 0)} {kind}" for kind, one in job.data.files.items() if one.trainer == trainer]
        told.append(" + ".join(kinds) + (f" = {total} {trainer.upper()} rows" if len(kinds) > 1 else ""))
    return " and ".join(told)
