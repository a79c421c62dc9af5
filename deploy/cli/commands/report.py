"""`authtally` report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from deploy.cli.commands.options import Choice, json_option, settings_errors_as_usage

QUESTIONS = (
    "overview",
    "active-users",
    "lifecycle",
    "retention",
    "logins",
    "tokens",
    "accounts",
    "m2m",
    "otp-tokens",
    "pipeline",
)
YEAR = "year"
VERIFY = "verify"


@click.command()
@click.argument(
    "question",
    type=Choice((*QUESTIONS, YEAR, VERIFY)),
    default="overview",
    metavar=f"[{'|'.join((*QUESTIONS, YEAR, VERIFY))}]",
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Address of the api.  [default: AUTHTALLY_URL, else http://127.0.0.1:8080]")
@click.option("--token-file", metavar="FILE", help="File with the bearer token.  [default: AUTHTALLY_TOKEN]")
@click.option("--date", metavar="YYYY-MM-DD", help="Day of the overview.  [default: today]")
@click.option(
    "--month",
    metavar="YYYY-MM",
    help="Month of m2m or of a signed report; the last of the year's.  [default: this month; signed, year: the last]",
)
@click.option(
    "--from",
    metavar="YYYY-MM-DD",
    help="First day of a series.  [default: 30 days up to --to; lifecycle and retention: 12 periods]",
)
@click.option("--to", metavar="YYYY-MM-DD", help="Last day of a series.  [default: today]")
@click.option(
    "--granularity",
    metavar="G",
    help="day, week, month or range; for counters day or month.  [default: day]; for lifecycle and retention week or "
    "month.  [default: month]",
)
@click.option(
    "--group-by",
    metavar="NAMES",
    help="region, realm, client_id, node; for counters also reason, grant_type, …; for lifecycle and retention only "
    "region",
)
@click.option("--realm", help="Only this realm.")
@click.option("--client-id", help="Only this client.")
@click.option("--node", help="Only this node.")
@click.option("--region", metavar="NAMES", help="Regions, as eu,us; or all.  [default: that of the api]")
@click.option("--cohort", metavar="C", help="Retention of active or new users of each period.  [default: active]")
@click.option("--ages", metavar="N", help="The most periods later that retention shows.  [default: 12]")
@click.option("--limit", metavar="N", help="Largest number of groups; the largest come first.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the year as a page for print.")
@click.option(
    "--sign", type=click.Path(path_type=Path), metavar="KEYFILE", help="Private key; sign a month's report with it."
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="File for the signed report.  [default: stdout]"
)
@click.option("--incomplete", is_flag=True, help="Sign although a region is missing; the report says which.")
@click.option("--key", type=click.Path(path_type=Path), metavar="KEYFILE", help="The signer's public key, for verify.")
@json_option
def report(
    question: str,
    file: Path | None,
    url: str | None,
    token_file: str | None,
    html: Path | None,
    sign: Path | None,
    output: Path | None,
    key: Path | None,
    incomplete: bool,
    as_json: bool,
    **parameters: str | None,
) -> None:
    """Print answers of a running api as tables; or sign the report of a month, and verify a signed report.

    \b
      export AUTHTALLY_TOKEN=…
      authtally report
      authtally report active-users --granularity month --from 2026-01-01
      authtally report lifecycle --granularity week --realm acme
      authtally report retention --cohort new --from 2026-01-01
      authtally report logins --group-by reason --url https://stats.example.org --token-file token
      authtally report otp-tokens --realm acme
      authtally report pipeline --json
      authtally report year --html 2026.html

    The year is twelve months with their average, maximum and peak day, in total and per realm. --html writes it as one
    page of A4, in a file that loads nothing else.

    The token needs the scope stats:read. It is read from a file or the environment, because every user of the machine
    can read command lines.

    \b
      openssl genpkey -algorithm ed25519 -out report.key
      openssl pkey -in report.key -pubout -out report.pub
      authtally report --month 2026-10 --sign report.key --output 2026-10.json
      authtally report verify 2026-10.json --key report.pub

    A signed report proves later that figures were not changed. It is read from the ledger (AUTHTALLY_REDIS_URL), not
    from an api. It contains the figures of the month in total and of each realm, the log positions that they cover and
    the settings that they were counted with. With --region it has the figures of several regions together and of each;
    it then needs the api's settings (AUTHTALLY_REGION, AUTHTALLY_PEERS_FILE), and refuses to sign while a region is
    missing, unless --incomplete is given.

    Exit status: 0 answered, 1 no answer or an invalid signature, 2 wrong settings or options.
    """
    if html is not None and question != YEAR:
        raise click.UsageError("--html is an option of: report year")
    if question == VERIFY or file or sign or key or output:
        _signed_report(question, file, sign, output, key, parameters, incomplete=incomplete, as_json=as_json)
        return
    if incomplete:
        raise click.UsageError("--incomplete is an option of: report --sign KEYFILE --region NAMES")
    from deploy.cli import environment
    from deploy.cli.report import Api, ReportSettings, http_url, token_of
    from deploy.cli.report import report as run

    with settings_errors_as_usage():
        values = environment.load(ReportSettings)
    try:
        api = Api(http_url(url) if url else values.url, token_of(values, token_file))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    given = {name: value for name, value in parameters.items() if value is not None}
    if question == YEAR:
        from deploy.cli.report.year import year

        year(api, given, html, as_json=as_json)
        return
    run(api, question, given, as_json=as_json)


def _signed_report(
    question: str,
    file: Path | None,
    sign: Path | None,
    output: Path | None,
    key: Path | None,
    parameters: dict[str, str | None],
    *,
    incomplete: bool,
    as_json: bool,
) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in parameters.items() if value is not None]
    if question == VERIFY:
        if file is None or key is None or sign or output or given or incomplete:
            raise click.UsageError("report verify takes FILE and --key KEYFILE, and no other option")
        from deploy.cli.report.month import verify

        verify(file, key, as_json=as_json)
        return
    if file and sign is None:
        raise click.UsageError(
            f"{question} takes no FILE; a signed report is checked by: report verify FILE --key KEYFILE"
        )
    if sign is None or file or key or question != "overview" or set(given) - {"--month", "--region"}:
        raise click.UsageError("report --sign KEYFILE takes --month, --region, --incomplete and --output only")
    if incomplete and "--region" not in given:
        raise click.UsageError("--incomplete needs --region: the report of one ledger has no missing regions")
    from deploy.cli import environment
    from deploy.cli.report.month import sign as run
    from schemas.settings import CommonSettings

    names = parameters["region"]
    with settings_errors_as_usage():
        if names is None:
            run(environment.load(CommonSettings), sign, parameters["month"], output)
            return
        from api.settings.settings import ApiSettings
        from deploy.cli.report.regions_month import month_over_regions

        values = environment.load(ApiSettings)
    over = partial(month_over_regions, values, text=names, allow_incomplete=incomplete)
    run(values, sign, parameters["month"], output, over)
