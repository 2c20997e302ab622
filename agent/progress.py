"""What a person sees at the command line while a turn runs: the plan, the calls, the answer."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from agent.plan import Plan


class Progress:
    """Prints trace events as they happen; silent where `quiet`."""

    def __init__(self, quiet: bool) -> None:
        self._console = Console(highlight=False, quiet=quiet)

    def listen(self, event: str, data: dict[str, Any], meta: dict[str, Any]) -> None:
        """Print one event, where it is of interest to a person."""
        if event == "plan.end" and data["plan"] is not None:
            self._console.print(f"[bold]Plan[/] [dim]({meta['seconds']:.2f} s)[/]")
            for ref, call in Plan.model_validate(data["plan"]).numbered().items():
                self._console.print(f"  {ref}  {escape(call_in_words(call.tool, call.args))}")
        elif event == "call.end":
            mark = "[green]✓[/]" if data["error"] is None else "[red]✗[/]"
            self._console.print(
                f"{mark} {data['call']} {data['tool']} [dim]({meta['seconds']:.2f} s)[/]"
            )
        elif event == "guard.question":
            self._console.print(f"[yellow]?[/] {escape(data['text'])} [dim](go on with --yes)[/]")
        elif event == "run.error":
            self._console.print(
                f"[red]failed inside[/] {escape(data['type'])}: {escape(data['message'])}"
            )
        elif event == "compose.end":
            self._console.print(f"\n{escape(data['answer']['text'])}\n")


def call_in_words(tool: str, args: dict[str, Any]) -> str:
    """A call as a person reads it: `count_nuclei lymphocyte within $1`."""
    words = [tool]
    for name, value in args.items():
        if value is None:
            continue
        if name == "text":  # shown by the composer, once it is checked
            continue
        plain = name in ("target", "cell_type", "kind")
        words.append(str(value) if plain else f"{name} {value}")
    return " ".join(words)
