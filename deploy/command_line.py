"""The command `authtally`. Commands import what they run when they run: `--help` answers at once."""

from __future__ import annotations

from typing import Any

import click

from deploy.commands import data, looking, manual, operating, running

COMMANDS = (
    *(running.worker, running.api, running.demo),
    *(operating.doctor, operating.positions, operating.dead_letters, operating.settings, operating.topics),
    *(data.publish, data.import_stat, data.snapshot, data.recount),
    looking.report,
)


@click.group(
    cls=manual.Manual,
    help=manual.MANUAL,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="authtally")
def main() -> None: ...


for command in COMMANDS:
    main.add_command(command)


@main.command()
@click.argument("shell", type=click.Choice(manual.SHELLS))
def completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options, formats and topics.

    \b
      eval "$(authtally completion bash)"                                            in ~/.bashrc
      eval "$(authtally completion zsh)"                                             in ~/.zshrc
      authtally completion fish > ~/.config/fish/completions/authtally.fish
    """
    from click.shell_completion import get_completion_class

    completes: Any = get_completion_class(shell)
    program = manual.PROGRAM
    click.echo(completes(main, {}, program, f"_{program.upper()}_COMPLETE").source())


if __name__ == "__main__":
    main(prog_name=manual.PROGRAM)
