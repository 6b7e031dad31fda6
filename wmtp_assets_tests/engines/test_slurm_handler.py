"""What the handler makes of what Slurm says. Slurm's programs are played by shell scripts, with the
output of Slurm 22.05: no test waits for ``MinJobAge``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wmtp_assets.base.errors import StoreError
from wmtp_assets.components.engines import NOT_AGAIN, slurm
from wmtp_assets.components.engines.slurm import Job, SlurmError, SlurmStepHandler, job_of

Play = Callable[..., None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Lets programs print something, or fail with it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def play(**programs: str | tuple[int, str]) -> None:
        for name, said in programs.items():
            code, text = (0, said) if isinstance(said, str) else said
            (folder / f"{name}.txt").write_text(text)
            stream = 2 if code else 1
            path = folder / name
            path.write_text(
                f'#!/bin/sh\necho "$@" >>{folder}/{name}.args\n'
                f"/bin/cat {folder}/{name}.txt >&{stream}\nexit {code}\n"
            )
            path.chmod(0o755)

    said = {"sacct": (1, "accounting storage is disabled"), "sinfo": "a\nb\n"}
    play(squeue="", sbatch="", scontrol="", scancel="", **said)
    return play


@pytest.fixture
def context(tmp_path: Path) -> Any:
    """Of a step."""
    return SimpleNamespace(
        execute_step_args=SimpleNamespace(
            step_keys_to_execute=["mbpp_raw"],
            run_id="7f",
            known_state=None,
            get_command_args=lambda **_: ["dagster", "api", "execute_step"],
            get_command_env=lambda: [{"name": "ARGS", "value": "x"}],
        ),
        instance=SimpleNamespace(storage_directory=lambda: str(tmp_path)),
        step_tags={"mbpp_raw": {}},
    )


def test_running_job_is_healthy(play: Play, context: Any) -> None:
    """So is one that waits for its turn for days."""
    handler = SlurmStepHandler()
    for state in ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING"):
        play(squeue=f"7|{state}|Resources|\n")
        for _ in range(3):
            assert handler.check_step_health(context).is_healthy


@pytest.mark.parametrize(
    ("squeue", "scontrol", "reason"),
    [
        ("7|COMPLETED|None|a\n", " ExitCode=0:0", "did not say that it ended"),
        ("7|FAILED|NonZeroExitCode|a\n", " ExitCode=1:0", "ended on a as FAILED, exit code 1"),
        ("7|FAILED|RaisedSignal|a\n", " ExitCode=0:9", "as FAILED, by signal 9"),
        ("7|NODE_FAIL|NodeDown|b\n", " ExitCode=0:0", "ended on b as NODE_FAIL"),
        ("", "", "Slurm knows no job mbpp_raw-"),
    ],
)
def test_job_that_ended_is_given_one_more_poll(
    play: Play, context: Any, squeue: str, scontrol: str, reason: str
) -> None:
    """The last event of its step may be on its way: it was written before the job ended, and is
    read before the next poll."""
    play(squeue=squeue, scontrol=scontrol)
    handler = SlurmStepHandler()
    assert handler.check_step_health(context).is_healthy
    health = handler.check_step_health(context)
    assert not health.is_healthy
    assert health.unhealthy_reason is not None and reason in health.unhealthy_reason
    assert NOT_AGAIN not in health.unhealthy_reason


@pytest.mark.parametrize("state", ["CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"])
def test_job_that_would_end_so_again(play: Play, context: Any, state: str) -> None:
    """Time and memory are what the asset asked for."""
    play(squeue=f"7|{state}|None|a\n")
    handler = SlurmStepHandler()
    handler.check_step_health(context)
    assert NOT_AGAIN in (handler.check_step_health(context).unhealthy_reason or "")


def test_last_words_of_a_job(play: Play, context: Any) -> None:
    """What a step says before it can say it to Dagster, such as that a module is missing."""
    play(squeue="7|FAILED|NonZeroExitCode|a\n", scontrol=" ExitCode=1:0")
    log = slurm._log_of(context)
    log.parent.mkdir(parents=True)
    log.write_text("Traceback\nModuleNotFoundError: No module named 'dagster'\n\n")
    handler = SlurmStepHandler()
    handler.check_step_health(context)
    said = handler.check_step_health(context).unhealthy_reason or ""
    assert said.endswith("Its last words: ModuleNotFoundError: No module named 'dagster'")


def test_forgotten_job_is_looked_for_in_accounting(play: Play) -> None:
    """``slurmctld`` forgets after ``MinJobAge``, 300 s: a run that was resumed later asks then."""
    play(sacct="6|COMPLETED|None|a|0:0\n9|CANCELLED by 1000|None|b|0:15\n")
    assert job_of("x") == Job("9", "CANCELLED", "None", "b", "0:15")
    play(sacct="")
    assert job_of("x") is None


def test_newest_job_of_a_name_counts(play: Play) -> None:
    """A run that is resumed submits a dead step again, under the same name."""
    play(squeue="9|RUNNING|None|a\n10|PENDING|Priority|\n8|FAILED|None|b\n")
    job = job_of("x")
    assert job is not None and job.number == "10"


def test_question_that_is_not_answered_is_no_answer(play: Play, context: Any) -> None:
    """Dagster logs the error and asks again."""
    play(squeue=(1, "slurm_load_jobs error: Unable to contact slurm controller"))
    with pytest.raises(SlurmError, match="Unable to contact slurm controller"):
        SlurmStepHandler().check_step_health(context)


def test_job_is_not_submitted_twice(play: Play, context: Any, tmp_path: Path) -> None:
    """A process that died between the submission and its word on it."""
    handler = SlurmStepHandler()
    play(squeue="7|PENDING|None|\n")
    assert handler._submit(context, "x", tmp_path / "log/x") == "7"
    assert not (tmp_path / "bin/sbatch.args").exists()


def test_options_of_an_asset(play: Play, context: Any, tmp_path: Path) -> None:
    """They come last, so that they win."""
    play(sbatch="12;cluster\n")
    context.step_tags = {"mbpp_raw": {"slurm/sbatch": "--mem=32G --comment='two words'"}}
    assert SlurmStepHandler()._submit(context, "x", tmp_path / "log/x") == "12"
    words = (tmp_path / "bin/sbatch.args").read_text().strip()
    assert words.endswith("--output=/dev/null --mem=32G --comment=two words")
    assert "--no-requeue" in words and "--job-name=x" in words


def test_wrong_options_are_an_error_of_the_step(play: Play, context: Any, tmp_path: Path) -> None:
    """Said once, not tried for a minute."""
    play(sbatch=(1, "sbatch: error: Invalid --mem specification"))
    context.step_tags = {"mbpp_raw": {"slurm/sbatch": "--mem=lots"}}
    with pytest.raises(SlurmError, match="Invalid --mem specification"):
        SlurmStepHandler()._submit(context, "x", tmp_path / "log/x")


@pytest.mark.parametrize(
    "said",
    [
        "Unable to contact slurm controller (connect failure)",
        "Socket timed out on send/recv operation",
        "Slurm backup controller in standby mode",
        "Zero Bytes were transmitted or received",
        "Protocol authentication error",
        'Munge encode failed: Failed to access "/run/munge/munge.socket.2"',
        "Transport endpoint is not connected",
    ],
)
def test_controller_that_is_away_is_waited_for(
    play: Play, context: Any, tmp_path: Path, said: str
) -> None:
    """A restart or an upgrade of it must not end a run, however long it takes: the job is
    submitted at the first poll at which it answers."""
    play(squeue=(1, f"slurm_load_jobs error: {said}"))
    handler = SlurmStepHandler()
    assert handler._submit(context, slurm._name_of(context), tmp_path / "log/x") == ""
    for _ in range(3):
        assert handler.check_step_health(context).is_healthy
    assert not (tmp_path / "bin/sbatch.args").exists()
    play(squeue="", sbatch="12\n")
    assert handler.check_step_health(context).is_healthy
    assert f"--job-name={slurm._name_of(context)}" in (tmp_path / "bin/sbatch.args").read_text()
    play(squeue="12|RUNNING|None|a\n")
    assert handler.check_step_health(context).is_healthy
    assert (tmp_path / "bin/sbatch.args").read_text().count("--job-name") == 1


def test_job_that_is_refused_late(play: Play, context: Any, tmp_path: Path) -> None:
    """It would be refused again."""
    play(squeue=(1, "slurm_load_jobs error: Unable to contact slurm controller"))
    handler = SlurmStepHandler()
    handler._submit(context, slurm._name_of(context), tmp_path / "log/x")
    play(squeue="", sbatch=(1, "sbatch: error: Batch job submission failed: Invalid account"))
    reason = handler.check_step_health(context).unhealthy_reason or ""
    assert "Invalid account" in reason and NOT_AGAIN in reason


def test_job_that_no_node_can_run(play: Play, context: Any) -> None:
    """It asks for 5 CPUs, and the largest node has 2: the state alone, FAILED, says nothing."""
    play(squeue="7|FAILED|BadConstraints|\n")
    handler = SlurmStepHandler()
    handler.check_step_health(context)
    said = handler.check_step_health(context).unhealthy_reason or ""
    assert "BadConstraints: no node is what it asks for" in said and NOT_AGAIN in said


def test_options_of_the_site(
    play: Play, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many clusters take no job without an account; an asset's own options win."""
    monkeypatch.setenv("WMTP_SBATCH", "--account=nlp --comment='two words'")
    play(sbatch="12\n")
    context.step_tags = {"mbpp_raw": {"slurm/sbatch": "--mem=32G"}}
    SlurmStepHandler()._submit(context, "x", tmp_path / "log/x")
    words = (tmp_path / "bin/sbatch.args").read_text().strip()
    assert words.endswith("--account=nlp --comment=two words --mem=32G")


def test_job_does_not_inherit_the_job_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run may be a job itself: the memory of that job is not meant for a step."""
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    monkeypatch.setenv("SBATCH_PARTITION", "long")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    found = slurm._environment([{"name": "ARGS", "value": "x"}])
    assert not {"SLURM_MEM_PER_NODE", "SBATCH_PARTITION"} & found.keys()
    assert found["SLURM_CONF"] == "/etc/slurm.conf" and found["ARGS"] == "x"


@pytest.mark.parametrize(
    ("host", "excluded"),
    [("a.example.org", " --exclude=a"), ("login", ""), ("c", "")],
)
def test_look_from_another_node(
    play: Play, monkeypatch: pytest.MonkeyPatch, host: str, excluded: str
) -> None:
    """The run may be on a node itself; where that is the only one, it looks all the same."""
    monkeypatch.setattr(slurm.socket, "gethostname", lambda: host)
    if host == "c":
        play(sinfo="c\n")
    run: Any = None
    options = slurm._elsewhere(run, run)["slurm/sbatch"]
    assert options == f"--mem=1G --time=5 --cpus-per-task=1{excluded}"


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody forgot ``module load slurm``."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        StoreError, match="needs sbatch, squeue, scontrol, scancel, sinfo, not found"
    ):
        slurm.require_slurm()


def test_no_controller(play: Play) -> None:
    """One error before the first step."""
    play(squeue=(1, "slurm_load_jobs error: Unable to contact slurm controller"))
    with pytest.raises(StoreError, match="the controller of Slurm does not answer"):
        slurm.require_slurm()
