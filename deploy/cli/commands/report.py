"""`authtally` report."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.cli.commands.options import Choice, json_option, settings_errors_as_usage

QUESTIONS = ("overview", "active-users", "logins", "tokens", "accounts", "m2m", "otp-tokens", "pipeline")
VERIFY = "verify"


@click.command()
@click.argument(
    "question",
    type=Choice((*QUESTIONS, VERIFY)),
    default="overview",
    metavar=f"[{'|'.join((*QUESTIONS, VERIFY))}]",
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Address of the api.  [default: AUTHTALLY_URL, else http://127.0.0.1:8080]")
@click.option("--token-file", metavar="FILE", help="File with the bearer token.  [default: AUTHTALLY_TOKEN]")
@click.option("--date", metavar="YYYY-MM-DD", help="Day of the overview.  [default: today]")
@click.option(
    "--month", metavar="YYYY-MM", help="Month of m2m or of a signed report.  [default: this month; signed: the last]"
)
@click.option("--from", metavar="YYYY-MM-DD", help="First day of a series.  [default: 30 days up to --to]")
@click.option("--to", metavar="YYYY-MM-DD", help="Last day of a series.  [default: today]")
@click.option(
    "--granularity", metavar="G", help="day, week, month or range; for counters day or month.  [default: day]"
)
@click.option("--group-by", metavar="NAMES", help="realm, client_id or node; for counters also reason, grant_type, …")
@click.option("--realm", help="Only this realm.")
@click.option("--client-id", help="Only this client.")
@click.option("--node", help="Only this node.")
@click.option("--limit", metavar="N", help="Largest number of groups; the largest come first.")
@click.option(
    "--sign", type=click.Path(path_type=Path), metavar="KEYFILE", help="Private key; sign a month's report with it."
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="File for the signed report.  [default: stdout]"
)
@click.option("--key", type=click.Path(path_type=Path), metavar="KEYFILE", help="The signer's public key, for verify.")
@json_option
def report(
    question: str,
    file: Path | None,
    url: str | None,
    token_file: str | None,
    sign: Path | None,
    output: Path | None,
    key: Path | None,
    as_json: bool,
    **parameters: str | None,
) -> None:
    """Print answers of a running api as tables; or sign the report of a month, and verify a signed report.

    \b
      export AUTHTALLY_TOKEN=…
      authtally report
      authtally report active-users --granularity month --from 2026-01-01
      authtally report logins --group-by reason --url https://stats.example.org --token-file token
      authtally report otp-tokens --realm acme
      authtally report pipeline --json

    The token needs the scope stats:read. It is read from a file or the environment, because every user of the machine
    can read command lines.

    \b
      openssl genpkey -algorithm ed25519 -out report.key
      openssl pkey -in report.key -pubout -out report.pub
      authtally report --month 2026-10 --sign report.key --output 2026-10.json
      authtally report verify 2026-10.json --key report.pub

    A signed report proves later that figures were not changed. It is read from the ledger (AUTHTALLY_REDIS_URL), not
    from an api. It contains the figures of the month in total and of each realm, the log positions that they cover and
    the settings that they were counted with.

    Exit status: 0 answered, 1 no answer or an invalid signature, 2 wrong settings or options.
    """
    if question == VERIFY or file or sign or key or output:
        _signed_report(question, file, sign, output, key, parameters, as_json=as_json)
        return
    from deploy.cli import environment
    from deploy.cli.report import Api, ReportSettings, http_url, token_of
    from deploy.cli.report import report as run

    with settings_errors_as_usage():
        values = environment.load(ReportSettings)
    try:
        api = Api(http_url(url) if url else values.url, token_of(values, token_file))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    run(api, question, {name: value for name, value in parameters.items() if value is not None}, as_json=as_json)


def _signed_report(
    question: str,
    file: Path | None,
    sign: Path | None,
    output: Path | None,
    key: Path | None,
    parameters: dict[str, str | None],
    *,
    as_json: bool,
) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in parameters.items() if value is not None]
    if question == VERIFY:
        if file is None or key is None or sign or output or given:
            raise click.UsageError("report verify takes FILE and --key KEYFILE, and no other option")
        from deploy.cli.report.month import verify

        verify(file, key, as_json=as_json)
        return
    if sign is None or file or key or question != "overview" or set(given) - {"--month"}:
        raise click.UsageError("report --sign KEYFILE takes --month and --output, and no other option")
    from deploy.cli import environment
    from deploy.cli.report.month import sign as run
    from schemas.settings import CommonSettings

    with settings_errors_as_usage():
        values = environment.load(CommonSettings)
    run(values, sign, parameters["month"], output)
