"""What the handler makes of what Slurm says. Slurm's programs are played by shell scripts, with the
output of Slurm 22.05: no test waits for ``MinJobAge``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wmtp_assets.base.errors import SpecError, StoreError
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
    """Two processes of a run may have submitted a step, one after the other."""
    play(squeue="9|RUNNING|None|a\n10|PENDING|Priority|\n8|FAILED|None|b\n")
    job = job_of("x")
    assert job is not None and job.number == "10"


@pytest.mark.parametrize(
    "said",
    [
        "CLUSTER: c1\n7|RUNNING|None|a\n",
        "\n7|RUNNING|None|a\n\n",
        "JOBID|STATE|REASON|NODELIST\n7|RUNNING|None|a\n",
    ],
)
def test_lines_of_an_answer_that_are_not_jobs(play: Play, said: str) -> None:
    """With ``SLURM_CLUSTERS`` squeue says of which cluster the jobs are, without a heading too."""
    play(squeue=said)
    assert job_of("x") == Job("7", "RUNNING", "None", "a")


def test_forgotten_job_of_a_cluster(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Slurm's programs, sacct alone does not read ``SLURM_CLUSTERS``."""
    monkeypatch.setenv("SLURM_CLUSTERS", "c1")
    play(squeue="CLUSTER: c1\n", sacct="9|COMPLETED|None|b|0:0\n")
    assert job_of("x") == Job("9", "COMPLETED", "None", "b", "0:0")
    assert "--clusters=c1" in (tmp_path / "bin/sacct.args").read_text()


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
    inherited = {
        "SLURM_MEM_PER_NODE",
        "SLURM_JOB_ID",
        "SLURM_CLUSTER_NAME",
        "SBATCH_MEM_BIND",
        "SBATCH_MEM_BIND_LIST",
        "SBATCH_CPU_BIND_TYPE",
    }
    for name in inherited:
        monkeypatch.setenv(name, "100")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    found = slurm._environment([{"name": "ARGS", "value": "x"}])
    assert not inherited & found.keys()
    assert found["SLURM_CONF"] == "/etc/slurm.conf" and found["ARGS"] == "x"


@pytest.mark.parametrize(
    "name",
    [
        "SBATCH_ACCOUNT",
        "SBATCH_PARTITION",
        "SBATCH_WAIT_ALL_NODES",
        "SLURM_CONF_SERVER",
        "SLURM_JWT",
        "SLURM_CLUSTERS",
    ],
)
def test_job_has_the_options_and_the_token_of_the_person(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without them sbatch takes another account, or does not take the job."""
    monkeypatch.setenv(name, "nlp")
    assert slurm._environment([])[name] == "nlp"


@pytest.mark.parametrize("name", ["ARRAY_INX", "CLUSTERS", "EXPORT", "JOB_NAME", "WAIT"])
def test_job_is_found_whatever_the_person_has_set(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """sbatch would wait for the end of the job, or start it where squeue does not ask."""
    monkeypatch.setenv(f"SBATCH_{name}", "1")
    assert f"SBATCH_{name}" not in slurm._environment([])


def test_questions_do_not_have_the_defaults_of_a_person(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``SQUEUE_PARTITION=gpu`` a job of another partition that runs would be unknown, and
    submitted again."""
    defaults = ("SQUEUE_PARTITION", "SQUEUE_LICENSES", "SCANCEL_STATE", "SACCT_LOCAL")
    for name in (*defaults, "SINFO_PARTITION", "SCONTROL_LOCAL"):
        monkeypatch.setenv(name, "gpu")
    monkeypatch.setenv("SLURM_JWT", "token")
    squeue = tmp_path / "bin/squeue"
    squeue.write_text("#!/bin/sh\nenv >&2\nexit 1\n")
    with pytest.raises(SlurmError) as error:
        job_of("x")
    assert "SLURM_JWT=token" in str(error.value)
    assert "=gpu" not in str(error.value)


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


def test_only_node_of_a_cluster(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``SLURM_CLUSTERS`` sinfo says of which cluster the nodes are."""
    monkeypatch.setattr(slurm.socket, "gethostname", lambda: "c")
    play(sinfo="CLUSTER: c1\nc\n")
    run: Any = None
    assert "--exclude" not in slurm._elsewhere(run, run)["slurm/sbatch"]


@pytest.fixture
def steps_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's part of the executor is played."""
    monkeypatch.setattr(slurm.StepDelegatingExecutor, "execute", lambda *_: iter(["a step"]))


def executed(is_resumed: bool) -> list[Any]:
    """What the executor of a run does first."""
    config = {"retries": {"enabled": {}}}
    made: Any = slurm._create(SimpleNamespace(executor_config=config))  # pyright: ignore[reportArgumentType]
    return [*made.execute(SimpleNamespace(resume_from_failure=is_resumed), None)]


def test_new_run_needs_the_controller(play: Play, steps_run: None) -> None:
    """One error, and not one for each step."""
    play(squeue=(1, "slurm_load_jobs error: Unable to contact slurm controller"))
    with pytest.raises(StoreError, match="the controller of Slurm does not answer"):
        executed(is_resumed=False)
    run: Any = None
    with pytest.raises(StoreError, match="the controller of Slurm does not answer"):
        slurm._elsewhere(run, run)  # asked before that, where another host is to look


def test_run_that_is_taken_over_waits_for_the_controller(
    play: Play, steps_run: None, context: Any, tmp_path: Path
) -> None:
    """It would fail, and its jobs would run on; they are found when the controller is back."""
    play(squeue=(1, "slurm_load_jobs error: Unable to contact slurm controller"))
    assert executed(is_resumed=True) == ["a step"]
    handler, name = SlurmStepHandler(), slurm._name_of(context)
    with pytest.raises(SlurmError):  # Dagster launches the step then
        handler.check_step_health(context)
    assert handler._submit(context, name, tmp_path / "log/x") == ""
    assert handler.check_step_health(context).is_healthy
    play(squeue="7|RUNNING|None|a\n")
    for _ in range(2):
        assert handler.check_step_health(context).is_healthy
    assert not (tmp_path / "bin/sbatch.args").exists()


def test_job_that_ended_while_nobody_could_ask(play: Play, context: Any, tmp_path: Path) -> None:
    """A person cancelled it before the new process of the run could ask: it is not started again,
    and its end is one like any other."""
    play(squeue=(1, "slurm_load_jobs error: Unable to contact slurm controller"))
    handler, name = SlurmStepHandler(), slurm._name_of(context)
    assert handler._submit(context, name, tmp_path / "log/x") == ""
    play(squeue="7|CANCELLED|None|a\n", sbatch="8\n")
    for _ in range(2):
        assert handler.check_step_health(context).is_healthy
    assert NOT_AGAIN in (handler.check_step_health(context).unhealthy_reason or "")
    assert not (tmp_path / "bin/sbatch.args").exists()


def test_run_that_is_taken_over_needs_the_programs(
    tmp_path: Path, steps_run: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not come by waiting."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="needs sbatch, squeue, scontrol, scancel, sinfo"):
        executed(is_resumed=True)


@pytest.fixture
def cancelled(context: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[SlurmStepHandler], str]:
    """Cancels the job of the step; what is said."""
    context.get_step_context = lambda _: None
    event = SimpleNamespace(engine_event=lambda step, said, data: said)
    monkeypatch.setattr(slurm, "DagsterEvent", event)
    return lambda handler: "\n".join(map(str, handler.terminate_step(context)))


AWAY = (1, "scancel: error: slurm_load_jobs error: Unable to contact slurm controller")


def test_jobs_are_cancelled_when_the_controller_is_back(
    play: Play,
    cancelled: Callable[[SlurmStepHandler], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was restarted when the run was cancelled."""
    play(scancel=AWAY)
    monkeypatch.setattr(slurm.time, "sleep", lambda _: play(scancel=""))
    said = cancelled(SlurmStepHandler())
    assert "is asked again" in said and "may still run" not in said
    assert len((tmp_path / "bin/scancel.args").read_text().splitlines()) == 2


def test_cancellation_ends_without_the_controller(
    play: Play,
    cancelled: Callable[[SlurmStepHandler], str],
    context: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error would keep Dagster from the jobs of the other steps. They do not wait as long
    again, and what to run is said."""
    monkeypatch.setattr(slurm, "CANCEL_SECONDS", 0.3)
    monkeypatch.setattr(slurm, "CANCEL_PAUSE", 0.2)
    play(scancel=AWAY)
    handler, name = SlurmStepHandler(), slurm._name_of(context)
    assert cancelled(handler).endswith(f"To cancel it: scancel --me --name={name}")
    asked = len((tmp_path / "bin/scancel.args").read_text().splitlines())
    assert asked >= 2
    assert "To cancel it: " in cancelled(handler)
    assert len((tmp_path / "bin/scancel.args").read_text().splitlines()) == asked + 1


@pytest.mark.parametrize("problem", ["refused", "gone"])
def test_cancellation_that_fails_at_once(
    play: Play,
    cancelled: Callable[[SlurmStepHandler], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: str,
) -> None:
    """No time makes it better."""
    play(scancel=(1, "scancel: error: Access/permission denied"))
    if problem == "gone":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert "may still run (scancel: " in cancelled(SlurmStepHandler())


RESERVED = [
    "-M c1",
    "-Mc1",
    "--clusters=c1",
    "--clus c1",
    "-J x",
    "-Jx",
    "-HJx",
    "--job-name=x",
    "--job-name x",
    "-a 1-3",
    "-a1-3",
    "--array=1-3",
    "-W",
    "--wait",
    "--test-only",
    "--wrap=true",
    "-Q",
    "--",
]


@pytest.mark.parametrize("options", RESERVED)
def test_options_with_which_a_job_is_not_found(
    play: Play, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    """Nothing is submitted, and the error names where they are set: of the site before the first
    step, of an asset at its step."""
    context.step_tags = {"mbpp_raw": {"slurm/sbatch": f"--mem=1G {options}"}}
    with pytest.raises(
        SpecError, match=f"op tag slurm/sbatch of mbpp_raw has {options.split()[0]}"
    ):
        SlurmStepHandler()._submit(context, "x", tmp_path / "log/x")
    monkeypatch.setenv("WMTP_SBATCH", options)
    with pytest.raises(SpecError, match=f"WMTP_SBATCH has {options.split()[0]}"):
        slurm.require_slurm()
    assert not (tmp_path / "bin/sbatch.args").exists()


def test_options_of_the_site_are_looked_at_before_the_first_step(
    play: Play, steps_run: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a daemon do not end a run that it takes over: its jobs run already."""
    monkeypatch.setenv("WMTP_SBATCH", "-J x")
    with pytest.raises(SpecError, match="WMTP_SBATCH has -J"):
        executed(is_resumed=False)
    run: Any = None
    with pytest.raises(SpecError, match="WMTP_SBATCH has -J"):
        slurm._elsewhere(run, run)
    assert executed(is_resumed=True) == ["a step"]


def test_options_that_look_like_those() -> None:
    """``--wait-all-nodes`` does not wait for the job."""
    text = "--wait-all-nodes=1 -A nlp -t5 --mem=1G -q long -wnode1 --account=aJ -n 1 --qos=x -k -s"
    assert slurm.options_of(text, "WMTP_SBATCH") == text.split()


def test_quote_that_is_not_closed(
    play: Play, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the setting."""
    context.step_tags = {"mbpp_raw": {"slurm/sbatch": "--comment='two"}}
    with pytest.raises(SpecError, match=r"op tag slurm/sbatch of mbpp_raw .*No closing quotation"):
        SlurmStepHandler()._submit(context, "x", tmp_path / "log/x")
    monkeypatch.setenv("WMTP_SBATCH", "--comment='two")
    with pytest.raises(SpecError, match=r"WMTP_SBATCH .*No closing quotation"):
        slurm.require_slurm()
