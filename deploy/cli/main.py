"""The command `authtally`. A command imports its code when it runs, so `--help` and completion stay fast."""

from __future__ import annotations

from typing import Any

import click

from deploy.cli.commands import data, operate, report, services
from deploy.cli.commands import help as manual
from deploy.cli.commands.options import Choice


@click.command()
@click.argument("shell", type=Choice(manual.SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes commands, options, formats and topics.

    \b
      eval "$(authtally completion bash)"                                            in ~/.bashrc
      eval "$(authtally completion zsh)"                                             in ~/.zshrc
      authtally completion fish > ~/.config/fish/completions/authtally.fish
    """
    from click.shell_completion import get_completion_class

    completes: Any = get_completion_class(shell)
    program = manual.PROGRAM
    click.echo(completes(context.find_root().command, {}, program, f"_{program.upper()}_COMPLETE").source())


main = click.version_option(package_name="authtally")(
    manual.HelpGroup(
        name=manual.PROGRAM,
        help=manual.HELP,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        sections={
            "Run": (services.demo, services.worker, services.api),
            "Operate": (
                operate.doctor,
                operate.topics,
                operate.positions,
                operate.dead_letters,
                operate.settings,
                operate.realm,
                operate.audit,
            ),
            "Data": (data.publish, data.import_stat, data.snapshot, data.recount),
            "Read": (report.report,),
            "Shell": (completion,),
        },
    )
)


if __name__ == "__main__":
    main(prog_name=manual.PROGRAM)
