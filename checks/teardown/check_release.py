"""Before the instance went: the release, the file, the box, the operator's word."""

from __future__ import annotations

import pytest

from harness.facts.teardown import TeardownFacts
from harness.plugin.looking import Evidence


@pytest.mark.remedy("harness release check FILE --log says why")
@pytest.mark.seed("vastai-training-agent.md", "rule 1")
@pytest.mark.seed("vastai-training-agent.md", "step 4")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "download before destroy")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "step 4")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "safe download script")
def check_release_is_valid(teardown: TeardownFacts, evidence: Evidence) -> None:
    """The release bound this instance to this file's digest and to a passed postdownload gate."""
    problems = evidence.saw("problems of the release", teardown.release_problems)
    assert not problems, "; ".join(problems)


@pytest.mark.remedy("keep every copy: the verified file has changed since it was released")
@pytest.mark.seed("vastai-training-agent.md", "rule 1")
@pytest.mark.seed("vastai-training-agent.md", "step 4")
def check_file_still_matches_release(teardown: TeardownFacts, evidence: Evidence) -> None:
    """The file, read again now, still is the released one."""
    problems = evidence.saw("problems of the file", teardown.file_problems)
    assert not problems, "; ".join(problems)


@pytest.mark.remedy("nothing can be done now; look at the report's evidence")
def check_nothing_still_running(teardown: TeardownFacts, evidence: Evidence) -> None:
    """No training or writing process was on the box when the guard looked; none is on an instance that is gone."""
    running = evidence.saw("processes", teardown.running)
    assert not running, "; ".join(running[:3])


@pytest.mark.remedy("harness destroy {job} asks for it")
@pytest.mark.seed("vastai-training-agent.md", "download script")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "safe download script")
def check_operator_confirmed(teardown: TeardownFacts, evidence: Evidence) -> None:
    """A person typed it, or the job was told so in advance; nobody is asked where somebody else destroyed it."""
    how = evidence.saw("confirmed", teardown.confirmed)
    assert how, "nobody confirmed"
