"""`gymhost rollout`: an agent attempts tasks, and a file has the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gymhost.cli.options import Name
from gymhost.cli.settings import ConfigFile

__all__ = ["rollout"]


def rollout(
    name: Name,
    agent: Annotated[
        str,
        typer.Option(
            "--agent",
            "-a",
            metavar="AGENT",
            help="Who attempts them: of the configuration, or a type.",
        ),
    ] = "scripted",
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="The tasks, as JSONL.",
            show_default="the environment's own",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The tasks: one of the environment's `datasets`."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the scores go, as JSONL.")
    ] = Path("rollouts.jsonl"),
    attempts: Annotated[int, typer.Option(min=1, help="How often each task is attempted.")] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="How many attempts run at a time.")
    ] = 16,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take this many tasks.", show_default="all")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that the agent gets for an attempt.")
    ] = 1800.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that the output is of.")
    ] = False,
    retries: Annotated[
        int, typer.Option(min=0, help="How often an attempt that failed is made again in this run.")
    ] = 2,
    max_attempts: Annotated[
        int, typer.Option(min=1, help="How often one is made over all runs with --resume.")
    ] = 10,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="GYMHOST_URL",
            help="A running gymhost.",
            show_default="one of its own, for as long as the command runs",
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Let an agent attempt tasks, and write the scores to a file.

    Each attempt gets a session of its own. A score is a row of the output; what is no score is a
    row of the file beside it that ends in _failures.jsonl, and is never a reward. Ctrl-C lets the
    attempts that run end, closes the sessions, and says how to go on; a second one ends them.

    Exit code 0 where everything is scored, 1 where something failed, 2 for wrong use.

    \b
    Examples:
      gymhost rollout weather
      gymhost rollout weather --agent claude-code --attempts 4 --concurrency 16
      gymhost rollout weather -i tasks.jsonl -o rollouts.jsonl --limit 100
      gymhost rollout weather -i tasks.jsonl -o rollouts.jsonl --resume
      gymhost rollout weather --url http://gym.example:8000 -i tasks.jsonl
    """
    # here: a shell that completes a word imports this file
    from gymhost.cli import rollout_parts, rollout_run
    from gymhost.rollouts.runner import Plan

    rollout_run.rollout(
        rollout_parts.Wanted(
            name=name,
            agent=agent,
            input=input_file,
            dataset=dataset,
            output=output,
            attempts=attempts,
            limit=limit,
            timeout=timeout,
            resume=resume,
            url=url,
            config=config,
            plan=Plan(concurrency=concurrency, retries=retries, max_attempts=max_attempts),
        )
    )
